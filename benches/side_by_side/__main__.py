"""Runs every comparison, prints the report, and with `--write` puts it and its plot into the README.

`benches/compare` calls it. `--quick` makes every slice short and every crowd small: it shows that all of it runs, and
its figures are worth nothing. `--only WORDS` runs the parts whose names hold one of them (comma-separated).
"""

import argparse
import os
import signal
import sys
import tempfile
import time

from . import hits, machine, misses, report, servers, sizes

SERVERS_ON, CALLERS_ON = [0], [1]


class Plan:
    """How much of everything."""

    def __init__(self, quick):
        self.rounds, self.seconds = (2, 1) if quick else (7, 2)
        self.side_rounds, self.side_seconds = (1, 1) if quick else (3, 1)
        self.ids = 500 if quick else 10_000
        self.records = 2_000 if quick else 100_000
        self.million = 5_000 if quick else 1_000_000
        self.lookups = 20_000 if quick else 2_000_000
        self.walked = 2_000 if quick else 200_000
        self.connections = 500 if quick else 10_000
        self.misses = 500 if quick else 5_000
        self.miss_rounds = 2 if quick else 7
        self.starts = 3 if quick else 9


class Comparison:
    """All parts; each adds goals and sections."""

    def __init__(self, plan, folder, disk_folder):
        self.plan, self.folder, self.disk_folder = plan, folder, disk_folder
        self.goals, self.sections, self.plotted = [], [], None
        self.at = (SERVERS_ON, CALLERS_ON, folder)

    def parts(self):
        return [("hits", self.hits), ("calls", self.calls), ("sizes", self.larger), ("cores", self.cores),
                ("http2", self.http2), ("unix", self.unix), ("counts", self.counts), ("stampede", self.stampede),
                ("miss", self.miss), ("memory", self.memory), ("capacity", self.capacity), ("start", self.start), ("disk", self.disk)]

    def section(self, title, text):
        self.sections.append(f"## {title}\n\n{text}")
        print(f"\n{title}\n\n{text}\n", flush=True)

    def goal(self, *arguments, **named):
        goal = report.Goal(*arguments, **named)
        self.goals.append(goal)
        print(f"  {'met' if goal.met else 'NOT MET'}: {goal.what}: {goal.shown} (goal {goal.goal})", flush=True)

    def hits(self):
        with hits.Hits(1024, *self.at) as servers_:
            figures = servers_.hot(64, self.plan.rounds, self.plan.seconds)
            self.plotted = figures
            self.section("One hot call of 1 KB, 64 connections, one core", report.hits(figures))
            by = {figure.name: figure for figure in figures}
            own = by["callgate"]
            self.goal("CPU a hit to bare hyper, 1 KB, 64 connections", "≤ 1.10", own.ratio, f"{own.ratio:.2f}", 1.10)
            for name, goal, words in [("nginx", 0.72, "with the same fields"), ("nginx stripped", 0.85, ""),
                                      ("HAProxy", 0.85, ""), ("Varnish", 0.50, "")]:
                if name in by:
                    ratio = own.micros / by[name].micros
                    self.goal(f"the same to {name} {words}".strip(), f"≤ {goal}", ratio, f"{ratio:.2f}", goal)
            rows = []
            for connections in (1, 16, 256):
                for figure in servers_.hot(connections, self.plan.side_rounds, self.plan.side_seconds):
                    rows.append([str(connections), figure.name, f"{figure.micros:.1f} µs", f"{figure.ratio:.2f}",
                                 f"{figure.rate / 1e3:.0f} k", f"{figure.p99 * 1e3:.2f} ms"])
            head = ["connections", "server", "CPU a request", "to bare hyper", "requests/s", "p99"]
            self.section("The same at other numbers of connections", report.table(head, rows))

    def calls(self):
        with hits.Hits(1024, *self.at) as servers_:
            figures = servers_.many(64, self.plan.ids, self.plan.rounds, self.plan.seconds)
            self.section(f"{self.plan.ids:,} calls at random, seven request fields", report.hits(figures))
            own = next(figure for figure in figures if figure.name == "callgate")
            self.goal("the same with 10,000 calls and 7 request fields", "≤ 1.20", own.ratio, f"{own.ratio:.2f}", 1.20)

    def larger(self):
        for size in (16, 50):
            with hits.Hits(size << 10, *self.at) as servers_:
                for connections in (64,) if size == 16 else (1, 16, 64, 256):
                    figures = servers_.hot(connections, self.plan.side_rounds, self.plan.side_seconds)
                    self.section(f"{size} KB, {connections} connections, one core", report.hits(figures))
                    by = {figure.name: figure for figure in figures}
                    if size == 16 and "nginx" in by:
                        ratio = by["callgate"].micros / by["nginx"].micros
                        self.goal("to nginx at 16 KB", "≤ 0.76", ratio, f"{ratio:.2f}", 0.76)
                if size == 16:
                    for connections in (1, 16, 256):
                        figures = servers_.hot(connections, self.plan.side_rounds, self.plan.side_seconds)
                        self.section(f"{size} KB, {connections} connections, one core", report.hits(figures))

    def cores(self):
        both = SERVERS_ON + CALLERS_ON
        with hits.Hits(1024, both, both, self.folder) as servers_:
            figures = servers_.hot(64, self.plan.side_rounds, self.plan.seconds)
            self.section("1 KB, 64 connections, servers and callers on two cores", report.hits(figures))

    def http2(self):
        for streams in (1, 16):
            figures = hits.http2(1024, streams, *self.at, self.plan.side_rounds, self.plan.side_seconds)
            self.section(f"HTTP/2, 1 KB, 16 connections of {streams} at a time", report.hits(figures))

    def unix(self):
        figures = hits.unix(1024, *self.at, self.plan.side_rounds, self.plan.side_seconds)
        self.section("Unix socket, 1 KB, 64 connections", report.hits(figures))

    def counts(self):
        each, written = hits.counted(*self.at)
        self.goal("instructions a hit", "≤ 12,500", written, f"{written:,}", 12_500)
        if each is not None:
            self.goal("system calls a hit, one connection", "3", each, f"{each:.2f}", 3.01)

    def stampede(self):
        rows = []
        for ongoing, kind in ((False, "over"), (True, "under way")):
            for figure in misses.stampede(ongoing, 500, 200, *self.at):
                rows.append([kind, figure.name, str(figure.requests), f"{figure.p50:.0f} ms", f"{figure.most:.0f} ms"])
                if figure.name == "callgate":
                    shown = f"{figure.requests} request, {figure.most:.0f} ms"
                    value = figure.most if figure.requests == 1 else float("inf")
                    self.goal(f"500 at once for one cold call that is {kind}, vendor 200 ms", "1 request, ≤ 225 ms",
                              value, shown, 225)
        head = ["call", "server", "vendor requests", "p50", "longest"]
        self.section("500 callers at once for one cold call, vendor 200 ms", report.table(head, rows))

    def miss(self):
        rows = []
        figures = {}
        for pause, connections in ((0, 1), (0, 64), (20, 64)):
            lookups = self.plan.misses if pause == 0 else self.plan.misses * 2
            for added in misses.added(pause, connections, *self.at, self.plan.miss_rounds, lookups):
                figures[pause, connections, added.name] = added
                rows.append([f"{pause} ms", str(connections), added.name, f"{added.p50 * 1e6:.0f} µs",
                             f"{added.p99 * 1e6:.0f} µs"])
        head = ["vendor", "connections", "server", "added p50", "added p99"]
        self.section("What is added to a miss", report.table(head, rows))
        own = figures[0, 1, "callgate"]
        self.goal("a miss, added p50, vendor 0 ms, 1 connection", "≤ 45 µs", own.p50, f"{own.p50 * 1e6:.0f} µs", 45e-6)
        own = figures[20, 64, "callgate"]
        self.goal("a miss, added p50, vendor 20 ms, 64 connections", "≤ 0.25 ms", own.p50,
                  f"{own.p50 * 1e3:.2f} ms", 0.25e-3)
        peer = figures.get((20, 64, "nginx"))
        if peer:
            self.goal("a miss, added p99, vendor 20 ms, 64 connections", f"≤ nginx's ({peer.p99 * 1e3:.2f} ms)",
                      own.p99, f"{own.p99 * 1e3:.2f} ms", peer.p99)

    def memory(self):
        figures = sizes.per_record(2048, self.plan.records, *self.at, everybody=True)
        rows = [[name, f"{over:.0f}"] for name, over in figures.items()]
        self.section("Resident bytes over the body of a kept 2 KB record", report.table(["server", "bytes"], rows))
        own = figures["callgate"]
        self.goal("bytes over the body of a kept 2 KB record, 100,000 of them", "≤ 850", own, f"{own:.0f}", 850)
        rows = []
        for size in (1, 2, 16, 50):
            records = max(self.plan.records // size, 200)
            told, grown = sizes.weighed(size << 10, records, *self.at)
            rows.append([f"{size} KB", f"{records:,}", f"{told / records:.0f}", f"{grown / records:.0f}",
                         f"{(told / grown - 1) * 100:+.1f} %"])
        head = ["record", "records", "bytes weighed", "bytes grown", "weighed to grown"]
        self.section("What callgate says that a record weighs, beside the growth of its memory",
                     report.table(head, rows))
        held = sizes.idle_connections(self.plan.connections, *self.at)
        self.goal("10,000 idle connections", "≤ 170 MB", held, f"{held / 1e6:.0f} MB", 170e6)

    def capacity(self):
        rows = []
        for mib in (32, 256):
            peak = sizes.capacity(f"{mib}MiB", self.plan.walked, self.plan.lookups, 2048, *self.at)
            rows.append([f"{mib}MiB", f"{peak / 1e6:.0f} MB"])
            self.goal(f"`cache.capacity = \"{mib}MiB\"`, most resident", f"≤ {mib} MiB + 60 MB", peak,
                      f"{peak / 1e6:.0f} MB", (mib << 20) + 60e6)
        title = f"{self.plan.lookups:,} lookups over {self.plan.walked:,} calls of 2 KB"
        self.section(title, report.table(["cache.capacity", "most resident"], rows))

    def start(self):
        took, held = sizes.start(*self.at, self.plan.starts)
        size = sizes.stripped_binary()
        self.goal("idle memory", "≤ 12 MB", held, f"{held / 1e6:.1f} MB", 12e6)
        self.goal("start to listening", "≤ 20 ms", took, f"{took * 1e3:.0f} ms", 20e-3)
        self.goal("the program", "≤ 12 MB", size, f"{size / 1e6:.1f} MB", 12e6)

    def disk(self):
        first, *_ = sizes.disk(self.plan.records, 2048, *self.at, self.disk_folder)
        self.goal("start to the first hit, 100,000 calls on disk", "≤ 50 ms", first, f"{first * 1e3:.0f} ms", 50e-3)
        _, p99, held, missed = sizes.disk(self.plan.million, 2048, *self.at, self.disk_folder)
        self.goal("a hit on disk among 1,000,000, p99", "≤ 1 ms", p99, f"{p99 * 1e3:.2f} ms ({missed} missed)", 1e-3)
        self.goal("the same, memory beside the memory tier", "≤ 100 MB", held, f"{held / 1e6:.0f} MB", 100e6)


def main():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="show that all of it runs; the figures mean nothing")
    parser.add_argument("--only", metavar="WORDS", default="", help="run the parts whose names hold one of these")
    parser.add_argument("--write", action="store_true", help="put the goals and a plot into README.md, every table into benches/results.md")
    parser.add_argument("--disk", metavar="DIR", default=None, help="where the disk tier's file lies meanwhile")
    arguments = parser.parse_args()
    # As at Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("benches/compare needs two cores: one for the servers, one for the callers")
    if arguments.write and (arguments.quick or arguments.only):
        raise SystemExit("--write wants the whole comparison: without --quick and --only")
    servers.need("wrk", "h2load", "taskset")
    words = [word for word in arguments.only.split(",") if word]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, tempfile.TemporaryDirectory(dir=arguments.disk) as disk:
        os.chmod(folder, 0o755)
        comparison = Comparison(Plan(arguments.quick), folder, disk)
        began = time.monotonic()
        for name, part in comparison.parts():
            if not words or any(word in name for word in words):
                part()
        versions = ", ".join(f"{name} {version}" for name, version in servers.installed().items())
        where = f"{machine.description()}; {versions}; {time.strftime('%Y-%m-%d')}"
        text = report.goals(comparison.goals)
        print(f"\n{where}; {time.monotonic() - began:.0f} s\n\n{text}\n")
        if arguments.write:
            plot = os.path.join(servers.ROOT, "benches", "hits.svg")
            with open(plot, "w", encoding="utf-8") as file:
                title = "CPU for a hit, as a ratio to bare hyper"
                file.write(report.plot(title, f"1 KB, 64 connections, one core; lower is better; {where}",
                                       comparison.plotted))
            results = os.path.join(servers.ROOT, "benches", "results.md")
            with open(results, "w", encoding="utf-8") as file:
                file.write("\n\n".join([f"# Every table of benches/compare\n\nMeasured on {where}.",
                                        *comparison.sections]) + "\n")
            details = "Every table is in [benches/results.md](benches/results.md)."
            picture = "![CPU for a hit, as a ratio to bare hyper](benches/hits.svg)"
            report.put_into(os.path.join(servers.ROOT, "README.md"),
                            f"Measured on {where}.\n\n{picture}\n\n{text}\n\n{details}")
    return 0 if all(goal.met for goal in comparison.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
