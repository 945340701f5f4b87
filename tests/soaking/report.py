"""What is counted, what was violated, and the report of it in Markdown."""

import collections
import sys
import time

MOST_LINES = 200


class Tally:
    """Counts by subject, and violations, each of which is a line on standard error at once."""

    def __init__(self):
        self.began, self.counts = time.monotonic(), collections.defaultdict(collections.Counter)
        self.violations, self.kinds, self.notes = [], collections.Counter(), []

    def at(self):
        return f"{time.monotonic() - self.began:7.1f} s"

    def count(self, subject, what, by=1):
        self.counts[subject][what] += by

    def note(self, text):
        self.notes.append(f"{self.at()}  {text}")

    def violation(self, kind, text):
        self.kinds[kind] += 1
        if len(self.violations) < MOST_LINES:
            self.violations.append(f"{self.at()}  {kind}: {text}")
            print(f"VIOLATION {self.violations[-1]}", file=sys.stderr, flush=True)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def listing(counter):
    return ", ".join(f"{what} {number:,}" for what, number in counter.most_common()) or "none"


class Report:
    """The figures of one run."""

    def __init__(self, run):
        self.run = run

    def text(self):
        run, tally = self.run, self.run.tally
        sum_of = sum(tally.kinds.values())
        parts = [
            "# A soak",
            f"`tests/soak {run.minutes:g} --seed {run.seed}"
            f"{'' if run.usual else f' --budget {run.budget}'}` with {run.version}"
            f"{' (debug build)' if run.debug else ''}, {run.day}: gateway with disk and Redis before a sandbox with "
            f"every fault at once, dashboards, pollers and a scanner, and all programs killed by turns. "
            f"**{sum_of} violated invariant{'' if sum_of == 1 else 's'}.**",
        ]
        if sum_of:
            parts.append("```text\n" + "\n".join(tally.violations) + "\n```")
        parts += ["## What was held", self.invariants(), "## What befell them", self.blows(),
                  "## Who asked, and got what", self.callers(), "## What the vendor saw", self.vendor(),
                  "## Memory and descriptors", self.level()]
        return "\n\n".join(parts) + "\n"

    def invariants(self):
        run, kinds = self.run, self.run.tally.kinds
        vendor, judge = run.vendor, run.judge
        kept = self.run.tally.counts["restart"]
        rows = [
            ("every answer is what the vendor said for that id, or an honest error",
             ("bytes", "stale", "passed", "suspect", "problem", "junk", "304", "fields", "wire", "broken", "late"),
             f"{run.answers():,} answers"),
            ("no ongoing answer was kept, and no list", ("ongoing kept", "kept"),
             f"{len(judge.phases):,} targets followed"),
            ("a settled call has one body and one `ETag`, whoever asks", ("final", "etag"),
             f"{len(vendor.truth):,} ids, {len(judge.etags):,} bodies"),
            ("what was kept for good answers until it is purged, after a restart too", ("lost", "purge"),
             f"{kept['kept over it']:,} kept over a restart"),
            (f"at most {run.budget} requests in any 60 s", ("budget",), f"{vendor.busiest} in the busiest"),
            ("one vendor request at a time for one target", ("herd",), f"{vendor.requests:,} requests"),
            ("nothing of a caller's reaches the vendor, and nothing that is refused", ("vendor side",),
             f"{vendor.requests:,} heads"),
            ("SIGTERM ends it with status 0 and every answer under way", ("ending",),
             f"{run.tally.counts['blows']['gateway term'] + 1} times"),
            ("memory and descriptors stay level", ("memory", "descriptors"), f"{len(run.level.samples):,} samples"),
            ("the key is in no log, answer, page, metric, file or dump", ("canary",),
             f"{run.canary.searched / 1e6:,.0f} MB searched"),
            ("no panic, and the admin endpoint answers", ("panic", "admin", "start", "harness"), ""),
        ]
        return table(["invariant", "violations", "held on"],
                     [[text, sum(kinds[kind] for kind in names), on] for text, names, on in rows])

    def blows(self):
        counts = self.run.tally.counts["blows"]
        names = ["gateway", "redis", "sandbox"]
        rows = [[name, counts[f"{name} kill"], counts[f"{name} term"], counts[f"{name} pause"]] for name in names]
        return table(["program", "SIGKILL", "SIGTERM", "stopped for a while"], rows)

    def callers(self):
        run = self.run
        rows = []
        for who in ("dashboard", "poller", "waiter", "scanner"):
            counts = run.tally.counts[who]
            rows.append([who, f"{sum(counts.values()):,}", listing(counts)])
        times = sorted(run.stage.hit_times)
        return table(["caller", "requests", "outcomes"], rows) + (
            f"\n\nCalls: {listing(run.tally.counts['calls'])}. Of the last {len(times):,} hits half took up to "
            f"{percentile(times, 0.5) * 1e3:.1f} ms, 99 of 100 up to {percentile(times, 0.99) * 1e3:.0f} ms (callers, "
            f"relay and programs share the machine). The operator: {listing(run.tally.counts['operator'])}.")

    def vendor(self):
        run = self.run
        weathers = collections.Counter(life.weather for life in run.sandbox.lives)
        return (f"{run.vendor.requests:,} requests, at most {run.vendor.busiest} in any 60 s of {run.budget}. "
                f"Its answers: {listing(run.tally.counts['vendor'])}. Its lives by their weather: {listing(weathers)}.")

    def level(self):
        run = self.run
        samples = run.level.samples
        lines = []
        if samples:
            lines.append(f"Most resident {max(s.resident for s in samples) / 1e6:.0f} MB, most descriptors "
                         f"{max(s.descriptors for s in samples)}, over {len(run.gateway.lives)} lives; {run.left_over} "
                         "descriptors once all callers had left.")
        medians = run.level.medians()
        if medians:
            (before, after), (few, many) = medians
            spell = run.level.undisturbed()
            seconds = spell[2][-1].at - spell[0][0].at
            lines.append(f"In the last life ({seconds:.0f} s), from its first third to its last: {before / 1e6:.1f} to "
                         f"{after / 1e6:.1f} MB beside what is kept, {few:.0f} to {many:.0f} descriptors.")
        lines.append(f"Timers of the soak itself came up to {run.lag.most * 1e3:.0f} ms late.")
        return " ".join(lines)
