"""The callers: wrk for HTTP/1, h2load for HTTP/2 and Unix sockets, and the crowd of this checkout for the rest.

What is measured of a server during a slice is its CPU time for each request that was answered; a slice in which
anything was answered otherwise than expected is an error, not a figure.
"""

import contextlib
import random
import re
import subprocess
import time

from . import servers

# What a browser or an HTTP library sends without being asked.
SEVEN = ("accept: application/json", "accept-encoding: gzip, deflate, br", "accept-language: en-GB,en;q=0.9",
         "user-agent: dashboard/2.1 (linux; x64) node/22", "cache-control: max-age=60",
         "x-forwarded-for: 10.0.0.7", "content-type: application/json")

# Lua's numbers are exact below 2^53 only: this product stays below 2^46, and its walk is 2^31 - 2 steps long.
WALK = """
local n = %d
request = function()
    n = (n * 16807) %% 2147483647
    return wrk.format("GET", string.format("%s1%%023x", n %% %d))
end
"""

UNIT = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Slice:
    """What came of one slice of load."""

    def __init__(self, requests, seconds, cpu, p50=None, p99=None):
        self.requests, self.seconds, self.cpu, self.p50, self.p99 = requests, seconds, cpu, p50, p99

    @property
    def cpu_each(self):
        """CPU seconds for one request."""
        return self.cpu / self.requests

    @property
    def rate(self):
        return self.requests / self.seconds


def run(command, cpus, seconds):
    pinned = ["taskset", "-c", ",".join(map(str, cpus)), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def wrk(server, connections, seconds, cpus, ids=None, fields=(), folder=None):
    """Keep-alive connections that ask for the hot call, or for random ones out of `ids`."""
    threads = min(len(cpus), connections)
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    for field in fields:
        command += ["-H", field]
    path = servers.PATH + servers.HOT
    if ids:
        command += ["-s", servers.write(
            folder, "walk.lua", WALK % (random.randrange(1, 2147483647), servers.PATH, ids))]
    before = server.cpu()
    said = run([*command, f"http://{server.address}{path}"], cpus, seconds)
    cpu = server.cpu() - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{server.name} did not answer everything:\n{said}")
    count, took, unit = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", said).groups()
    quantile = {q: float(v) * UNIT[u] for q, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)", said)}
    return Slice(int(count), float(took) * UNIT[unit], cpu, quantile["50"], quantile["99"])


def h2load(server, connections, seconds, cpus, unix=None, http2=True, streams=1):
    """The hot call over HTTP/2, or over a Unix socket."""
    command = ["h2load", "-c", str(connections), "-t", "1", "-D", str(seconds), "-m", str(streams)]
    if unix:
        command.append(f"--base-uri=unix:{unix}")
    if not http2:
        command.append("--h1")
    host = "localhost" if unix else server.address
    before = server.cpu()
    said = run([*command, f"http://{host}{servers.PATH}{servers.HOT}"], cpus, seconds)
    cpu = server.cpu() - before
    good, other = re.search(r"status codes: (\d+) 2xx, (\d+ 3xx, \d+ 4xx, \d+) 5xx", said).groups()
    if int(good) == 0 or any(int(n) for n in re.findall(r"\d+(?= |$)", other)):
        raise RuntimeError(f"{server.name} did not answer everything:\n{said}")
    return Slice(int(good), seconds, cpu)


def crowd(arguments, cpus, seconds=600):
    """One of the crowd's plays; the numbers that it prints."""
    said = run([servers.binary("examples/crowd"), *map(str, arguments)], cpus, seconds)
    return [float(word) for word in said.split()]


@contextlib.contextmanager
def waiting_for_the_first(address, call, cpus):
    """A caller that asks already while nobody listens yet: gives what returns when it was answered, as a time of day."""
    pinned = ["taskset", "-c", ",".join(map(str, cpus)), servers.binary("examples/crowd"), "first", address, call]
    with subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True) as caller:
        # It is the program's start that is measured, and not this one's.
        time.sleep(0.3)
        yield lambda: float(caller.communicate(timeout=60)[0]) / 1e6
