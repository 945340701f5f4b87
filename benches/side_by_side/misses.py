"""Misses: what a gateway adds to the vendor's own time, and what a crowd that asks for one call costs the vendor."""

import contextlib
import random
import statistics

from . import load, servers


class Added:
    """What one server adds to the vendor's time, in seconds."""

    def __init__(self, name, p50, p99):
        self.name, self.p50, self.p99 = name, p50, p99


def added(pause_ms, connections, cpus, callers, folder, rounds, lookups):
    """Every lookup is of another call. The vendor alone is measured in each round, beside the others."""
    with contextlib.ExitStack() as stack:
        vendor = stack.enter_context(servers.vendor(1024, pause_ms, cpus, folder))
        contestants = [stack.enter_context(servers.callgate(vendor, cpus, folder))]
        contestants += [stack.enter_context(peer) for peer in servers.peers(vendor, cpus, folder)]
        contestants = [c for c in contestants if c.name != "nginx stripped"]
        times = {server.name: [] for server in (vendor, *contestants)}
        seed = 0
        for round_ in range(rounds + 1):
            for server in random.sample([vendor, *contestants], len(contestants) + 1):
                seed += 1
                good, p50, p99, _ = load.crowd(
                    ["walk", server.address, connections, lookups, 1 << 40, seed], callers)
                if good != lookups:
                    raise RuntimeError(f"{server.name} answered {good:.0f} of {lookups} misses")
                if round_ > 0:
                    # The first one opens connections.
                    times[server.name].append((p50 / 1e6, p99 / 1e6))
        alone = times[vendor.name]
        def beyond(name, which):
            pairs = zip(times[name], alone, strict=True)
            return statistics.median(own[which] - base[which] for own, base in pairs)
        return [Added(c.name, beyond(c.name, 0), beyond(c.name, 1)) for c in contestants]


class Stampede:
    """One crowd at one server: the vendor's requests, and the times in milliseconds."""

    def __init__(self, name, requests, p50, most):
        self.name, self.requests, self.p50, self.most = name, requests, p50, most


def stampede(ongoing, crowd, pause_ms, cpus, callers, folder):
    """A crowd asks for one cold call at the same moment, with connections open already."""
    call = ("0" if ongoing else "1") + "f" * 23
    figures = []
    with contextlib.ExitStack() as stack:
        vendor = stack.enter_context(servers.vendor(1024, pause_ms, cpus, folder))
        # What so many callers take at this machine with nothing in between.
        contestants = [vendor, stack.enter_context(servers.callgate(vendor, cpus, folder))]
        contestants += [stack.enter_context(peer) for peer in servers.peers(vendor, cpus, folder)]
        for server in contestants:
            if server.name == "nginx stripped":
                continue
            before = servers.lookups(vendor)
            good, p50, most = load.crowd(["stampede", server.address, call, crowd], callers)
            if good != crowd:
                raise RuntimeError(f"{server.name} answered {good:.0f} of {crowd}")
            figures.append(Stampede(server.name, servers.lookups(vendor) - before, p50, most))
    return figures
