"""What replicas with a Redis cost that Redis: each part plays one thing at a modest pace and says what Redis counted,
beside what the model of `steps` has for it."""

import concurrent.futures
import contextlib
import http.client
import os
import threading
import time

from . import servers, sizes, steps
from .redis import Redis

CALL = servers.PATH
# What is posted, and the news of it, is done by then.
SETTLED = 0.4


def call_id(number, ongoing=False):
    return f"{0 if ongoing else 1}{number:023x}"


class World:
    """A vendor, a Redis and replicas that share it. `with` ends them all."""

    def __init__(self, replicas, size, pause_ms, per_minute, cpus, folder):
        self.replicas, self.size, self.pause_ms, self.per_minute = replicas, size, pause_ms, per_minute
        self.cpus, self.folder = cpus, folder

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.vendor = stack.enter_context(servers.vendor(self.size, self.pause_ms, self.cpus, self.folder))
            self.redis = stack.enter_context(Redis(self.cpus, self.folder))
            self.key = servers.write(self.folder, f"key-{self.redis.port}", "bench-key-0123456789abcdef")
            os.chmod(self.key, 0o600)
            # The machine may be busy besides, and a late answer is not what is counted.
            settings = f"""
[cache.shared]
url = "redis://{self.redis.address}/0"
timeout = "2s"
[budget]
requests_per_minute = {self.per_minute}
[[workspaces]]
workspace_id = "ws-bench"
api_key_file = "{self.key}"
"""
            self.gates = [stack.enter_context(servers.callgate(
                self.vendor, self.cpus, self.folder, settings, name=f"callgate {n}")) for n in range(self.replicas)]
            until = time.monotonic() + 10
            while len(self.redis.clients()) < 2 * self.replicas:
                if time.monotonic() > until:
                    raise RuntimeError("the replicas do not reach redis")
                time.sleep(0.05)
            # The first of a budget finds less there than those that follow.
            expect(Caller(self.gates[0]).ask(CALL + call_id(1 << 50)), 200, STORED)
            time.sleep(2)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    @contextlib.contextmanager
    def counted(self):
        """Counts what Redis and the vendor get in between."""
        before, lookups, began = self.redis.count(), servers.lookups(self.vendor), time.monotonic()
        counted = Counted()
        yield counted
        time.sleep(SETTLED)
        counted.seconds = time.monotonic() - began
        counted.redis = self.redis.count().since(before)
        counted.vendor = servers.lookups(self.vendor) - lookups


class Counted:
    """What one part came to."""

    redis, vendor, seconds = None, 0, 0.0


class Caller:
    """One connection to one replica."""

    def __init__(self, gate, admin=False):
        self.connection = http.client.HTTPConnection(gate.admin if admin else gate.address, timeout=60)

    def ask(self, path, method="GET", fields=None):
        """Status and `cache-status`."""
        self.connection.request(method, path, headers=fields or {})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("cache-status") or ""


def expect(said, status, words):
    if said[0] != status or words not in said[1]:
        raise RuntimeError(f"{said} where {status} with {words!r} was expected")


def side_by_side(callers, jobs, rate):
    """Has callers do jobs, each its own in turn, at so many a second together at the most."""
    began, turn, lock = time.monotonic(), iter(range(1 << 30)), threading.Lock()

    def work(caller, mine):
        for job in mine:
            with lock:
                start = began + next(turn) / rate
            time.sleep(max(0.0, start - time.monotonic()))
            job(caller)
    with concurrent.futures.ThreadPoolExecutor(len(callers)) as pool:
        work_of = [pool.submit(work, caller, jobs[n::len(callers)]) for n, caller in enumerate(callers)]
        for done in work_of:
            done.result()


def look_up(number, words, ongoing=False, fields=None):
    def job(caller):
        expect(caller.ask(CALL + call_id(number, ongoing), fields=fields), 200, words)
    return job


STORED, HIT, SHARED, ONGOING = "; stored", "callgate; hit; ttl", "detail=shared", "detail=ongoing"


def callers_of(world, each):
    """So many connections to each replica, those of one beside those of the next."""
    return [Caller(gate) for _ in range(each) for gate in world.gates]


def idle(world, seconds):
    with world.counted() as counted:
        time.sleep(seconds)
    return counted


def hits(world, each):
    for gate in world.gates:
        expect(Caller(gate).ask(CALL + call_id(1 << 40)), 200, "callgate;")
    time.sleep(SETTLED)
    with world.counted() as counted:
        side_by_side(callers_of(world, 1), [look_up(1 << 40, HIT)] * (each * world.replicas), 150)
    return counted, {}


def misses(world, n, first, rate=60):
    with world.counted() as counted:
        side_by_side(callers_of(world, 5), [look_up(first + i, STORED) for i in range(n)], rate)
    return counted, steps.times(steps.MISS, n)


def misses_heard_by(world, listeners, n, first):
    """Misses while so many more listen to what is left of the budget."""
    channel = next(name for name in world.redis.ask("PUBSUB", "CHANNELS", "*") if name.endswith(b":left"))
    with world.redis.listeners(listeners, channel):
        return misses(world, n, first)


def shared_hits(world, n, first):
    """What one replica has kept, asked for at the next."""
    with world.counted() as counted:
        side_by_side(callers_of(world, 1), [look_up(first + i + 1, SHARED) for i in range(n)], 100)
    return counted, steps.times(steps.SHARED_HIT, n)


def at_once(world, rounds, first, looks):
    """One cold call at all replicas at the same moment."""
    callers, barrier = callers_of(world, 1), threading.Barrier(world.replicas)

    def work(caller):
        for number in range(rounds):
            barrier.wait()
            expect(caller.ask(CALL + call_id(first + number)), 200, "callgate;")
    with world.counted() as counted, concurrent.futures.ThreadPoolExecutor(len(callers)) as pool:
        for done in [pool.submit(work, caller) for caller in callers]:
            done.result()
    waiting = world.replicas - 1
    one = steps.together(steps.MISS, {"land": -1, "land, waited for": 1},
                         {"board, held": waiting, "look, held": waiting * looks, "look, landed": waiting},
                         {"renew": world.pause_ms // 1000})
    return counted, steps.times(one, rounds)


def ongoing(world, n):
    with world.counted() as counted:
        side_by_side(callers_of(world, 2), [look_up(i, ONGOING, ongoing=True) for i in range(n)], 30)
    return counted, steps.times(steps.ONGOING, n)


def waited(world, calls):
    """So many calls that are waited for, each at one replica, long enough for one poll of a call this old."""
    callers = [Caller(gate) for _ in range(calls) for gate in world.gates]
    jobs = [look_up((1 << 20) + i, ONGOING, True, {"prefer": "wait=13"}) for i in range(len(callers))]
    with world.counted() as counted:
        side_by_side(callers, jobs, 10)
    return counted, steps.together(steps.times(steps.ONGOING, len(callers)), steps.times(steps.POLL, len(callers)))


def waited_everywhere(world):
    """One call that is waited for at all replicas, which came a second apart."""
    callers = callers_of(world, 1)
    jobs = [look_up(1 << 21, ONGOING, True, {"prefer": "wait=13"})] * len(callers)
    with world.counted() as counted:
        side_by_side(callers, jobs, 1)
    return counted, steps.times(steps.together(steps.ONGOING, steps.POLL), len(callers))


def scraped(world, each):
    with world.counted() as counted:
        side_by_side([Caller(gate, admin=True) for gate in world.gates],
                     [lambda caller: expect(caller.ask("/metrics"), 200, "")] * (each * world.replicas), 20)
    return counted, {"totals": each * world.replicas}


def erased(world, n, first):
    """Calls that are kept, one after the other. All replicas look what was erased each time."""
    def job(number):
        return lambda caller: expect(caller.ask(f"/cache/{call_id(number)}", "DELETE"), 200, "")
    with world.counted() as counted:
        side_by_side([Caller(world.gates[0], admin=True)], [job(first + i) for i in range(n)], 10)
    return counted, {"bury call": n, "since": n * world.replicas}


def erased_all(world):
    kept = len(world.redis.keys("*:call:*"))
    with world.counted() as counted:
        began = time.monotonic()
        expect(Caller(world.gates[0], admin=True).ask("/cache", "DELETE"), 200, "")
        counted.took = time.monotonic() - began
    rounds = -(-kept // 200) + 1
    return kept, counted, {"bury": 1, "some": rounds, "erase": kept, "since": world.replicas}


def rotated(world, first):
    """The key file holds another key: each replica is told to read it, and looks one call up with it."""
    with world.counted() as counted:
        servers.write(os.path.dirname(world.key), os.path.basename(world.key), "bench-key-another-0123456789")
        for gate in world.gates:
            expect(Caller(gate, admin=True).ask("/reload", "POST"), 200, "")
    with world.counted() as after:
        side_by_side(callers_of(world, 1), [look_up(first + i, STORED) for i in range(world.replicas)], 5)
    return counted, after, steps.together(steps.times(steps.MISS, world.replicas), {"push": world.replicas})


def refused(world, n, first):
    """Cold lookups while nothing is left of the budget."""
    with world.counted() as counted:
        jobs = [lambda caller, i=i: expect(caller.ask(CALL + call_id(first + i)), 429, "") for i in range(n)]
        side_by_side(callers_of(world, 1), jobs, 60)
    # Each replica asks once before it knows.
    return counted, steps.together(steps.times(steps.REFUSED, n), {"take, full": world.replicas})


def as_slots_free(world, rate, seconds, first):
    """More cold lookups than the budget has, as its slots free. Gives also how many were answered, how many were
    refused, and, read off what was counted, how often a replica asked for a slot and got none, and how often one that
    waited renewed its lease."""
    turned_away, lock = [0], threading.Lock()

    def job(number):
        def ask(caller):
            said = caller.ask(CALL + call_id(first + number))
            if said[0] != 429:
                return expect(said, 200, STORED)
            with lock:
                turned_away[0] += 1
        return ask
    with world.counted() as counted:
        side_by_side(callers_of(world, 8), [job(i) for i in range(rate * seconds)], rate)
    answered = rate * seconds - turned_away[0]
    expected = steps.together(steps.times(steps.MISS, answered), steps.times(steps.REFUSED, turned_away[0]))
    in_vain = (counted.redis.calls["zscore"] - steps.commands(expected)["zscore"]) // 2
    expected = steps.together(expected, {"take, full": in_vain})
    beats = counted.redis.calls["ping"]
    renewed = counted.redis.calls["pexpire"] - beats - steps.commands(expected)["pexpire"]
    expected = steps.together(expected, {"renew": renewed})
    return counted, expected, answered, turned_away[0], in_vain, renewed


def per_record(size, records, cpus, folder):
    """Bytes for a kept record beyond its body: what the replica says that it weighs in memory, and of Redis's: of the
    call's own key, and of all."""
    with World(1, size, 0, 1_000_000, cpus, folder) as world:
        misses(world, 64, 1 << 30)
        # What a query brought lies in a buffer for two seconds.
        time.sleep(3)
        before, told = used(world.redis), sizes.kept_bytes(world.gates[0])
        misses(world, records, 0, rate=200)
        time.sleep(3)
        grown = used(world.redis) - before
        own = world.redis.taken_by("*:call:*") / (records + 65)
        weighed = sizes.kept_bytes(world.gates[0]) - told
        return weighed / records - size, own - size, grown / records - size


def used(redis):
    """Memory without clients, and without the slots of the budget, which are there for a minute."""
    memory = redis.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_clients_normal"]) - redis.taken_by("*:slots")
