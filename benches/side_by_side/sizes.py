"""Memory, start and disk: what a kept record and an idle connection cost, whether `cache.capacity` holds, how long a
start takes, and what the disk tier answers with among very many records."""

import contextlib
import os
import statistics
import subprocess
import time

from . import load, machine, servers

def per_record(size, records, cpus, callers, folder, everybody):
    """Resident bytes for a kept record beyond its body, for each server."""
    figures = {}
    with contextlib.ExitStack() as stack:
        vendor = stack.enter_context(servers.vendor(size, 0, cpus, folder))
        contestants = [stack.enter_context(servers.callgate(
            vendor, cpus, folder, '[cache]\ncapacity = "8GiB"\n'))]
        if everybody:
            contestants += [stack.enter_context(peer) for peer in servers.peers(vendor, cpus, folder)]
        for server in contestants:
            # nginx keeps its records in files, and HAProxy touches the whole of its cache at its start: what their
            # memory grows by says nothing of a record.
            if server.name.startswith(("nginx", "HAProxy")):
                continue
            # What connections and the first records allocate once is not what a record costs.
            walk(server, records // 50, callers, first=1 << 30)
            before = server.memory()
            walk(server, records, callers)
            figures[server.name] = (server.memory() - before) / records - size
    return figures


def walk(server, lookups, callers, first=0):
    """Asks once for each of so many calls."""
    good, *_ = load.crowd(["walk", server.address, 32, lookups, lookups, first], callers)
    if good != lookups:
        raise RuntimeError(f"{server.name} answered {good:.0f} of {lookups}")


def weighed(size, records, cpus, callers, folder):
    """What callgate says that its records weigh, and how much its memory grew, in bytes."""
    with servers.vendor(size, 0, cpus, folder) as vendor, \
            servers.callgate(vendor, cpus, folder, '[cache]\ncapacity = "8GiB"\n') as server:
        walk(server, records // 50, callers, first=1 << 30)
        before, told = server.memory(), kept_bytes(server)
        walk(server, records, callers)
        return kept_bytes(server) - told, server.memory() - before


def kept_bytes(server):
    """What its memory tier says that it weighs."""
    return gauge(server, 'callgate_cache_bytes{tier="memory"}')


def gauge(server, name):
    """One of its metrics."""
    for line in servers.fetch(server.admin, "/metrics").splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    raise RuntimeError(f"no metric {name}")


def capacity(limit, ids, lookups, size, cpus, callers, folder):
    """The most resident memory with that `cache.capacity`, in bytes, after so many lookups over so many ids."""
    with servers.vendor(size, 0, cpus, folder) as vendor, \
            servers.callgate(vendor, cpus, folder, f'[cache]\ncapacity = "{limit}"\n') as server:
        good, *_ = load.crowd(["walk", server.address, 64, lookups, ids], callers, seconds=1200)
        if good != lookups:
            raise RuntimeError(f"callgate answered {good:.0f} of {lookups}")
        with open(f"/proc/{server.pid}/status", encoding="ascii") as status:
            peak = next(line for line in status if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024


def idle_connections(connections, cpus, callers, folder):
    """Resident bytes with so many connections, each used once."""
    machine.allow_descriptors(20000)
    with servers.vendor(1024, 0, cpus, folder) as vendor, servers.callgate(vendor, cpus, folder) as server:
        command = [servers.binary("examples/crowd"), "idle", server.address, servers.HOT, str(connections)]
        pinned = ["taskset", "-c", ",".join(map(str, callers)), *command]
        with subprocess.Popen(pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
            if crowd.stdout.readline().strip() != "open":
                raise RuntimeError("the connections could not be opened")
            held = server.memory()
            crowd.communicate("")
        return held


def start(cpus, callers, folder, times):
    """Seconds from starting the process to its first 200, and resident bytes then."""
    took, held = [], []
    with servers.vendor(1024, 0, cpus, folder) as vendor:
        for _ in range(times):
            with servers.callgate(vendor, cpus, folder) as server:
                servers.fetch(server.address, servers.PATH + servers.HOT)
                took.append(server.listening)
                held.append(server.memory())
    return statistics.median(took), statistics.median(held)


def fill(server, records, callers):
    """Has each of so many calls kept on disk. The tier leaves out what comes faster than it writes, which no vendor's
    budget allows, so it is waited for."""
    step = 4000
    for first in range(0, records, step):
        lookups = min(step, records - first)
        walk(server, lookups, callers, first=first)
        until = time.monotonic() + 30
        while gauge(server, 'callgate_cache_entries{tier="disk"}') < first + lookups:
            if time.monotonic() > until:
                raise RuntimeError("the disk tier does not keep what it is given")
            time.sleep(0.01)


def disk(records, size, cpus, callers, folder, budget_folder):
    """Fills the disk tier, starts anew, and asks at random: seconds to the first hit, p99 of hits in seconds, and
    resident bytes beside the memory tier."""
    path = os.path.join(budget_folder, f"disk-{records}")
    settings = (f'[cache]\ncapacity = "8MiB"\n[cache.disk]\npath = "{path}"\n'
                f'capacity = "{5 * records * (size + 512) // 1048576 + 64}MiB"\n')
    with servers.vendor(size, 0, cpus, folder) as vendor:
        with servers.callgate(vendor, cpus, folder, settings) as server:
            fill(server, records, callers)
        # As if it were started a minute later. What was sent in the last minute is read at the start, and that is more
        # here than any vendor allows.
        os.remove(f"{path}.departures")
        before = servers.lookups(vendor)
        port = machine.free_port()
        with load.waiting_for_the_first(f"127.0.0.1:{port}", "1" + "0" * 23, callers) as answered, \
                servers.callgate(vendor, cpus, folder, settings, port=port) as server:
            first = answered() - server.began_at
            lookups = min(records, 100_000)
            good, _, p99, _ = load.crowd(["walk", server.address, 1, lookups, records], callers)
            missed = servers.lookups(vendor) - before
            held = server.memory()
    if good != lookups:
        raise RuntimeError(f"the disk tier answered {good:.0f} of {lookups}")
    return first, p99 / 1e6, held - (8 << 20), missed


def stripped_binary():
    """The size of the release build's program, in bytes."""
    return os.path.getsize(servers.binary("callgate"))
