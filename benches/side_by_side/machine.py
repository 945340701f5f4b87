"""What the kernel says of processes and of this machine: CPU time, memory, descriptors, versions.

Knows nothing of HTTP. CPU time is read from schedstat, which counts nanoseconds; the ticks of /proc/PID/stat are too
coarse for slices of a second.
"""

import os
import platform
import re
import resource
import socket
import subprocess


def descendants(pid):
    """The process and all that came from it, as far as they live."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry))
    found, rest = [], [pid]
    while rest:
        current = rest.pop()
        found.append(current)
        rest.extend(children.get(current, ()))
    return found


def cpu_seconds(pid):
    """CPU time of the process, its threads and what came from it, in seconds."""
    total = 0
    for member in descendants(pid):
        try:
            for task in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{task}/schedstat", encoding="ascii") as stat:
                    total += int(stat.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def resident_bytes(pid):
    """Resident memory of the process and what came from it; pages that they share are counted once, by share."""
    total = 0
    for member in descendants(pid):
        try:
            with open(f"/proc/{member}/smaps_rollup", encoding="ascii") as maps:
                total += int(re.search(r"^Pss:\s+(\d+) kB", maps.read(), re.M).group(1))
        except (OSError, AttributeError):
            continue
    return total * 1024


def free_port():
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def allow_descriptors(wanted):
    """Raises the limit of open descriptors as far as may be; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return granted


def version(command, pattern):
    """The version that a program says of itself, or None where it is not installed."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(pattern, said.stdout + said.stderr)
    return found.group(1) if found else None


def description():
    """This machine in a line."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release().split('-')[0]}"
