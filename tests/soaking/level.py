"""Memory and descriptors of the gateway, sampled each second, and whether they stay level; and how late this process
itself is, which the judge has to allow for.
"""

import asyncio
import collections
import os
import statistics
import time

from .programs import CAPACITY

# Over what may be kept, in bytes: program, connections, answers under way.
OVERHEAD = 60 << 20
# What may be added, beside what is kept, from the first third of the undisturbed part to its last.
GROWTH = 12 << 20
DESCRIPTORS_GROWTH = 16
LEFT_OVER = 48

Sample = collections.namedtuple("Sample", "at life resident descriptors kept")


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Lag:
    """How late timers come here: on a busy machine nobody else's delay can be told from it."""

    def __init__(self):
        self.latest, self.most = collections.deque(), 0.0

    async def watch(self):
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            late = time.monotonic() - before - 0.05
            self.most = max(self.most, late)
            self.latest.append((before, late))
            while self.latest[0][0] < before - 15:
                self.latest.popleft()

    def recent(self):
        """The most in the last quarter of a minute, in seconds."""
        return max((late for _, late in self.latest), default=0.0)


class Level:
    """Samples the gateway, and judges the samples."""

    def __init__(self, gateway, tally):
        self.gateway, self.tally, self.samples = gateway, tally, []
        # What the gateway says that it keeps in memory, in bytes, as the operator last read it.
        self.kept = 0

    async def watch(self):
        while True:
            await asyncio.sleep(1)
            life = self.gateway.lives[-1]
            if life.ready is None or life.signalled is not None:
                continue
            try:
                pid = self.gateway.process.pid
                sample = Sample(time.monotonic(), life.number, resident(pid), descriptors(pid), self.kept)
            except OSError:
                continue
            self.samples.append(sample)
            if sample.resident > CAPACITY + OVERHEAD:
                self.tally.violation("memory", f"{sample.resident / 1e6:.0f} MB resident")

    def undisturbed(self):
        """The samples of the last life, in three parts, without its first seconds."""
        last = [sample for sample in self.samples if sample.life == self.gateway.life][5:]
        third = len(last) // 3
        return last[:third], last[third:len(last) - third], last[len(last) - third:]

    def medians(self):
        """Of the first and the last third: resident bytes beside what is kept, and descriptors."""
        first, _, last = self.undisturbed()
        if len(first) < 5:
            return None
        beside = [statistics.median(sample.resident - sample.kept for sample in part) for part in (first, last)]
        held = [statistics.median(sample.descriptors for sample in part) for part in (first, last)]
        return beside, held

    def judge(self):
        medians = self.medians()
        if medians is None:
            self.tally.violation("harness", "too few samples of the last life to see whether it is level")
            return
        (before, after), (few, many) = medians
        if after - before > GROWTH:
            self.tally.violation("memory", f"grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB beside what is kept")
        if many - few > DESCRIPTORS_GROWTH:
            self.tally.violation("descriptors", f"grew from {few:.0f} to {many:.0f}")

    async def judge_rest(self):
        """Once every caller has left: what is still held. Gives it some seconds."""
        for _ in range(50):
            held = descriptors(self.gateway.process.pid)
            if held <= LEFT_OVER:
                return held
            await asyncio.sleep(0.2)
        self.tally.violation("descriptors", f"{held} are held though all callers have left")
        return held
