"""What the vendor said and when it was asked: noted by the relay, asked for by the judge.

Times are of the monotonic clock of this process. A request is noted before it is passed on and an answer before its
last bytes are, so that whoever has them had them later.
"""

import collections
import hashlib
import json
import time

MINUTE = 60.0
# How many answers of one target are remembered singly.
REMEMBERED = 200


def digest_of(body):
    return hashlib.blake2b(body, digest_size=12).hexdigest()


class Reading:
    """What a body says of itself, read without the gateway's rules: is it a record, of whom, how far has it come."""

    def __init__(self, body):
        self.ids, self.workspace, self.status, self.summed_up, self.echo = (), None, None, False, False
        try:
            record = json.loads(body)
        except ValueError:
            return
        if isinstance(record, dict) and "_id" in record:
            self.ids = (record.get("_id"), record.get("callId"))
            self.workspace, self.status = record.get("workspaceId"), record.get("status")
            self.summed_up = "summary" in record
            self.echo = "echo" in (record.get("metadata") or {})

    @property
    def final(self):
        return self.status in ("completed", "failed")

    def phase(self):
        """0 under way, 1 over, 2 with all that comes after a call."""
        return self.final + (self.final and self.summed_up)


class Readings:
    """Bodies that were read before are not read again."""

    def __init__(self):
        self.known = collections.OrderedDict()

    def of(self, body, digest):
        reading = self.known.get(digest)
        if reading is None:
            reading = self.known[digest] = Reading(body)
            if len(self.known) > 50_000:
                self.known.popitem(last=False)
        return reading

    def digested(self, digest):
        return self.known.get(digest)


Said = collections.namedtuple("Said", "at status digest")


class Vendor:
    """All that was seen at the vendor's door."""

    def __init__(self, budget, workspace, tally, readings):
        self.budget, self.workspace, self.tally, self.readings = budget, workspace, tally, readings
        self.times, self.busiest, self.requests = collections.deque(), 0, 0
        self.said = collections.defaultdict(lambda: collections.deque(maxlen=REMEMBERED))
        # All bodies of a 200 that a target ever had.
        self.ever = collections.defaultdict(set)
        # By id: the body of a call that changes no more.
        self.truth, self.other_id = {}, {}
        # By id: when the vendor last said that there is no such call.
        self.gone = {}
        self.statuses = collections.Counter()
        self.under_way = collections.defaultdict(list)

    def settled(self, call, digest):
        """A call, by the id that it is asked for with, that changes no more."""
        if self.truth.setdefault(call, digest) != digest:
            self.tally.violation("harness", f"the sandbox has two settled records of {call}")

    def learnt(self, ids, digest):
        """A call that was over long ago, and is in every life of the sandbox, by both its ids. What began later has
        its `_id` alone: another life gives its `callId` to another call."""
        for own, other in (ids, ids[::-1]):
            self.other_id[own] = other
            self.settled(own, digest)

    def both(self, call):
        """The ids of the call that this is an id of."""
        return (call, self.other_id[call]) if call in self.other_id else (call,)

    def asked(self, target):
        """A request arrived: when, and whether another for the same is under way. Here the budget is looked after."""
        now = time.monotonic()
        self.requests += 1
        self.times.append(now)
        while now - self.times[0] >= MINUTE:
            self.times.popleft()
        self.busiest = max(self.busiest, len(self.times))
        if len(self.times) > self.budget:
            early = MINUTE - (now - self.times[-self.budget - 1])
            self.tally.violation("budget", f"{len(self.times)} requests within 60 s, {self.budget} may be; the slot "
                                           f"would have been free {early * 1e3:.0f} ms later ({target})")
        crowded = bool(self.under_way[target])
        self.under_way[target].append(now)
        return now, crowded

    def left(self, target, began):
        """The request is over, answered or not."""
        self.under_way[target].remove(began)
        if not self.under_way[target]:
            del self.under_way[target]

    def still_asked(self, target, since):
        """Whether a request for the same that began before `since` is still under way."""
        return any(began < since for began in self.under_way.get(target, ()))

    def answered(self, target, call, status, body):
        """A whole answer came, decoded."""
        digest = digest_of(body)
        now = time.monotonic()
        self.said[target].append(Said(now, status, digest))
        self.statuses[status] += 1
        if status == 200:
            self.ever[target].add(digest)
            reading = self.readings.of(body, digest)
            sound = call in reading.ids and reading.workspace == self.workspace and not reading.echo
            if call and sound and reading.phase() == 2:
                self.settled(call, digest)
        elif status in (404, 410) and call:
            for one in self.both(call):
                self.gone[one] = now

    def said_since(self, target, since, status, digest):
        """Whether the vendor gave this very answer at or after a time."""
        return any(said.at >= since and said.status == status and said.digest == digest
                   for said in self.said.get(target, ()))

    def ever_said(self, target, digest):
        return digest in self.ever.get(target, ())
