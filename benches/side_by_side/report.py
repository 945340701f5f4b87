"""The report: a table of what was measured beside what is to be reached, a plot, and both put into the README between
two marks. Knows nothing of how it was measured."""

import html

from .reasons import why

BEGIN, END = "<!-- benches/compare writes from here -->", "<!-- to here -->"


class Goal:
    """One row of what is to be reached: `value` at most `limit` where there is a limit."""

    def __init__(self, what, goal, value, shown, limit=None):
        self.what, self.goal, self.value, self.shown, self.limit = what, goal, value, shown, limit

    @property
    def met(self):
        return self.limit is None or self.value <= self.limit


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def goals(rows):
    """What is to be reached, and what was; below it why something was not."""
    body, reasons = [], []
    for goal in rows:
        verdict = "yes"
        if not goal.met:
            reason = why(goal.what)
            if reason and reason not in reasons:
                reasons.append(reason)
            verdict = f"**no** ({reasons.index(reason) + 1})" if reason else "**no**"
        body.append([goal.what, goal.goal, goal.shown, verdict])
    told = [f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)]
    return "\n\n".join([table(["what", "goal", "measured", "met"], body), *(["\n".join(told)] if told else [])])


def hits(figures):
    """One setting of hits, as a table."""
    rows = []
    for figure in figures:
        p99 = f"{figure.p99 * 1e3:.2f} ms" if figure.p99 is not None else "-"
        spread = f"{figure.ratio:.2f} ({figure.low:.2f} to {figure.high:.2f})"
        rows.append([figure.name, f"{figure.micros:.1f} µs", spread, f"{figure.rate / 1e3:.0f} k", p99])
    return table(["server", "CPU a request", "to bare hyper", "requests/s", "p99"], rows)


def plot(title, note, figures):
    """A bar for each server: CPU a request as a ratio to bare hyper. SVG that reads in light and dark."""
    left, right, bar, gap, top = 170, 70, 26, 12, 64
    width, most = 760, max(figure.high for figure in figures)
    scale = (width - left - right) / most
    height = top + len(figures) * (bar + gap) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="14">',
        "<style>text{fill:#24292f}.grid{stroke:#8c959f;stroke-opacity:.35}.own{fill:#0969da}.peer{fill:#8c959f}"
        ".spread{stroke:#24292f;stroke-width:1.5}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.own{fill:#4493f8}.spread{stroke:#e6edf3}}</style>",
        f'<text x="12" y="24" font-size="17" font-weight="600">{html.escape(title)}</text>',
        f'<text x="12" y="46" font-size="12">{html.escape(note)}</text>',
    ]
    bottom = top + len(figures) * (bar + gap)
    step = 0.5 if most < 4 else 1.0
    tick = 0.0
    while tick <= most:
        x = left + tick * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" font-size="12" text-anchor="middle">{tick:.1f}</text>')
        tick += step
    for index, figure in enumerate(figures):
        y = top + index * (bar + gap)
        middle = y + bar / 2
        kind = "own" if figure.name == "callgate" else "peer"
        parts += [
            f'<text x="{left - 10}" y="{middle + 5}" text-anchor="end">{html.escape(figure.name)}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{figure.ratio * scale:.1f}" height="{bar}" rx="3"/>',
            f'<line class="spread" x1="{left + figure.low * scale:.1f}" y1="{middle}" '
            f'x2="{left + figure.high * scale:.1f}" y2="{middle}"/>',
            f'<text x="{left + figure.high * scale + 8:.1f}" y="{middle + 5}">{figure.ratio:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def put_into(path, text):
    """Writes the text between the marks of a file."""
    with open(path, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise SystemExit(f"{path} has not both marks")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")
