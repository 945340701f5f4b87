"""The model: which scripts each step of callgate's runs in Redis, and which commands each script runs inside.

It is written down from `src/replicas/heart.rs`, `src/store/shared/scripts.rs` and `src/upstream/budget/lua/`, so that
what Redis counts can be held against it by name.
"""

import collections

# What the scripts of a budget begin with, and what most end with.
_WINDOW = "time hget*4 exists zrangebyscore zremrangebyscore "
_EXPIRE = "zrange pexpireat hset pexpire*2 "
_BURY = "time zremrangebyscore zrevrange zadd pexpire publish "
_FORGET = "hkeys hstrlen unlink zrem decrby"

SCRIPTS = {
    "beat": "time zadd zremrangebyscore*2 pexpire zcard",
    "since": "time zrevrange zrangebyscore",
    "expired": "time zrangebyscore",
    "board, won": "hget get pttl set",
    "board, kept": "hget",
    "board, held": "hget get pttl set",
    "board, free": "hget get pttl",
    "take, granted": _WINDOW + "zscore*2 zadd*2 hset hget*3 zcard*2 hincrby publish " + _EXPIRE,
    "take, full": _WINDOW + "zscore*2 zadd hset hget*2 zcard zrange " + _EXPIRE,
    "answered": _WINDOW + "zadd " + _EXPIRE,
    "keep": "zscore*3 hget time zadd incrby hset pexpire",
    "land": "get del*2",
    "land, waited for": "get del*2 set publish",
    "look, held": "get*2 pttl set",
    "look, landed": "get*2 pttl",
    "renew": "get pexpire",
    "bury call": _BURY + _FORGET,
    "bury": _BURY,
    "some": "zrange",
    "erase": _FORGET,
    "totals": "zcard get",
    "push": _WINDOW + "zremrangebyscore zadd hset hget zcard hincrby publish " + _EXPIRE,
}

# A miss that is kept, and one that is not, from the lane of lookups; and a poll for those who wait.
MISS = {"board, won": 1, "take, granted": 1, "answered": 1, "keep": 1, "land": 1}
ONGOING = {"board, won": 1, "take, granted": 1, "answered": 1, "land": 1}
POLL = {"board, free": 1, "take, granted": 1, "board, won": 1, "answered": 1, "land": 1}
REFUSED = {"board, won": 1, "land": 1}
SHARED_HIT = {"board, kept": 1}


def inside(script):
    """The commands that a script runs."""
    commands = collections.Counter()
    for word in SCRIPTS[script].split():
        name, _, times = word.partition("*")
        commands[name] += int(times or 1)
    return commands


def commands(scripts):
    """All commands of so many of each script, those of the scripts themselves as `scripts`."""
    total = collections.Counter()
    for script, times in scripts.items():
        total["scripts"] += times
        for name, each in inside(script).items():
            total[name] += each * times
    return total


def times(steps, n):
    """A step that is done so often."""
    return {script: each * n for script, each in steps.items()}


def together(*steps):
    total = collections.Counter()
    for step in steps:
        total.update(step)
    return dict(total)


def without_background(counted):
    """What was counted, without what replicas do by themselves, which tells itself by its marks: a beat comes with a
    PING, only looks at erasures have ZREVRANGE. Gives the rest, the beats, and those looks."""
    def less(rest, script, n):
        rest = collections.Counter(rest)
        rest.subtract(commands({script: n}))
        return rest
    rest = collections.Counter(counted.calls)
    rest["scripts"] = rest.pop("eval", 0) + rest.pop("evalsha", 0)
    beats = rest.pop("ping", 0)
    return less(rest, "beat", beats), beats, less


def compare(counted, expected):
    """Holds what was counted against scripts. Gives scripts and commands that were expected and counted, and what
    differs by name; looks at erasures and for expired calls beyond the expected are background."""
    rest, beats, less = without_background(counted)
    wanted = commands(expected)
    looks = max(0, rest["zrevrange"] - wanted["zrevrange"])
    rest = less(rest, "since", looks)
    # Those that look for expired calls have ZRANGEBYSCORE and TIME alone.
    swept = max(0, min(rest["zrangebyscore"] - wanted["zrangebyscore"], rest["time"] - wanted["time"]))
    rest = less(rest, "expired", swept)
    names = sorted(set(rest) | set(wanted))
    differs = {name: rest[name] - wanted[name] for name in names if rest[name] != wanted[name]}
    inner = lambda of: sum(n for name, n in of.items() if name != "scripts")
    return wanted["scripts"], rest["scripts"], inner(wanted), inner(rest), differs, (beats, looks, swept)
