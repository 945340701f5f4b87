"""Hits: what one costs each server, as a ratio to bare hyper in the same round.

All servers run at the same time on the same CPUs; slices of load go to them in shuffled order, round by round, so that
whatever else the machine does meets all of them alike. The figure is the median of the ratios within a round. A second
bare hyper among them shows how much of a difference is noise.
"""

import contextlib
import json
import os
import random
import shutil
import statistics

from . import load, servers


class Figure:
    """One server in one setting."""

    def __init__(self, name, slices, ratios):
        self.name = name
        self.micros = statistics.median(s.cpu_each for s in slices) * 1e6
        self.rate = statistics.median(s.rate for s in slices)
        p99 = [s.p99 for s in slices if s.p99 is not None]
        self.p99 = statistics.median(p99) if p99 else None
        self.ratio, self.low, self.high = statistics.median(ratios), min(ratios), max(ratios)


def alternate(contestants, rounds, measure):
    """Measures each in every round, in shuffled order; the first one is what the others are held against."""
    slices = {server.name: [] for server in contestants}
    for _ in range(rounds):
        for server in random.sample(contestants, len(contestants)):
            slices[server.name].append(measure(server))
    reference = slices[contestants[0].name]
    return [
        Figure(name, own, [s.cpu_each / r.cpu_each for s, r in zip(own, reference, strict=True)])
        for name, own in slices.items()
    ]


class Hits:
    """All servers before one vendor with records of one size."""

    def __init__(self, size, cpus, callers, folder, everybody=True):
        self.cpus, self.callers, self.folder = cpus, callers, folder
        self.stack = contextlib.ExitStack()
        keep = self.stack.enter_context
        with contextlib.ExitStack() as failing:
            failing.callback(self.stack.close)
            vendor = keep(servers.vendor(size, 0, cpus, folder))
            self.contestants = [
                keep(servers.bare(size, cpus, folder)),
                keep(servers.bare(size, cpus, folder, name="bare hyper again")),
                keep(servers.callgate(vendor, cpus, folder)),
            ]
            if len(cpus) > 1:
                name = "bare hyper, a runtime each core"
                self.contestants.append(keep(servers.bare(size, cpus, folder, name=name, apart=True)))
            if everybody:
                self.contestants += [keep(peer) for peer in servers.peers(vendor, cpus, folder)]
            failing.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def hot(self, connections, rounds, seconds):
        """One call, again and again."""
        def measure(server):
            return load.wrk(server, connections, seconds, self.callers)
        for server in self.contestants:
            load.wrk(server, connections, 1, self.callers)
        return alternate(self.contestants, rounds, measure)

    def many(self, connections, ids, rounds, seconds):
        """So many calls at random, asked for with the fields that callers send."""
        def measure(server):
            return load.wrk(server, connections, seconds, self.callers, ids, load.SEVEN, self.folder)
        for server in self.contestants:
            load.crowd(["walk", server.address, 16, ids, ids], self.callers)
            measure(server)
        return alternate(self.contestants, rounds, measure)


def http2(size, streams, cpus, callers, folder, rounds, seconds):
    """The hot call over HTTP/2 by prior knowledge, beside bare hyper."""
    settings = "[listen]\nhttp2 = true\n"
    with servers.vendor(size, 0, cpus, folder) as vendor, \
            servers.bare(size, cpus, folder, http2=True) as reference, \
            servers.callgate(vendor, cpus, folder, settings) as gateway:
        def measure(server):
            return load.h2load(server, 16, seconds, callers, streams=streams)
        contestants = [reference, gateway]
        for server in contestants:
            measure(server)
        return alternate(contestants, rounds, measure)


def unix(size, cpus, callers, folder, rounds, seconds):
    """The hot call over a Unix socket, beside bare hyper."""
    paths = [os.path.join(folder, name) for name in ("bare.sock", "callgate.sock")]
    with servers.vendor(size, 0, cpus, folder) as vendor, \
            servers.bare(size, cpus, folder, unix=paths[0]) as reference, \
            servers.callgate(vendor, cpus, folder, unix=paths[1]) as gateway:
        path = {reference.name: paths[0], gateway.name: paths[1]}
        def measure(server):
            return load.h2load(server, 64, seconds, callers, unix=path[server.name], http2=False)
        contestants = [reference, gateway]
        for server in contestants:
            measure(server)
        return alternate(contestants, rounds, measure)


def counted(cpus, callers, folder):
    """System calls a hit, over one connection, where strace is installed; and instructions a hit, as
    `benches/instructions` wrote them down."""
    with open(os.path.join(servers.ROOT, "benches", "instructions.json"), encoding="utf-8") as file:
        written = json.load(file)["hit"]
    if not shutil.which("strace"):
        return None, written
    def calls(lookups):
        out = os.path.join(folder, "strace.out")
        with servers.vendor(1024, 0, cpus, folder) as vendor, \
                servers.callgate(vendor, cpus, folder, wrapper=("strace", "-f", "-o", out)) as server:
            load.run([servers.binary("examples/crowd"), "repeat", server.address, servers.HOT, str(lookups)],
                     callers, 60)
            server.stop(10)
        with open(out, encoding="utf-8", errors="replace") as trace:
            # What another thread interrupts stands there twice.
            return sum("resumed>" not in line and "(" in line for line in trace)
    few, many = 500, 2500
    return (calls(many) - calls(few)) / (many - few), written
