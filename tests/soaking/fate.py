"""What befalls the programs: killed, ended in order and started again, or stopped for a moment, by turns and by chance.

In the first half of the time all of them, in the second half all but the gateway, so that one can see whether its
memory stays level while everything around it goes on failing.
"""

import asyncio
import time

from .programs import DRAIN

AROUND = [("redis", "kill"), ("redis", "term"), ("redis", "pause"), ("sandbox", "kill"), ("sandbox", "term"),
          ("sandbox", "pause")]
GATEWAY = [("gateway", "kill"), ("gateway", "term")]
# At most so long lies between two of them, in seconds: in a short run all are to come, in a long one calls are to come
# to their end in between.
LONGEST_PAUSES = (9, 25)


class Fate:
    """Draws from a bag of blows, so that each of them comes."""

    def __init__(self, chance, gateway, sandbox, redis, relay, tally, day):
        self.chance, self.relay, self.tally, self.day = chance, relay, tally, day
        self.programs = {"gateway": gateway, "sandbox": sandbox, "redis": redis}
        self.locks = {name: asyncio.Lock() for name in self.programs}
        self.bag, self.under_way, self.spared = [], set(), False

    async def strike_until(self, half, end):
        gateway = self.programs["gateway"]
        shortest, longest = LONGEST_PAUSES
        longest = min(max(shortest, (end - time.monotonic()) / 14), longest)
        while True:
            quiet = self.chance.uniform(2, longest)
            now = time.monotonic()
            if now + quiet + DRAIN > end:
                await asyncio.gather(*self.under_way, asyncio.sleep(max(0.0, end - now)))
                return
            await asyncio.sleep(quiet)
            spared = self.spared = time.monotonic() >= half
            if spared and gateway.traced:
                # Its last and long life is not to fill the disk with a log of everything.
                await self.strike("gateway", "term")
            self.bag = [blow for blow in self.bag if not (spared and blow[0] == "gateway")]
            if not self.bag:
                self.bag = AROUND + ([] if spared else GATEWAY * 2)
                self.chance.shuffle(self.bag)
            task = asyncio.ensure_future(self.strike(*self.bag.pop()))
            self.under_way.add(task)
            if self.chance.random() < 0.6:
                # Else the next one may come while this program is away.
                await task
            for done in [task for task in self.under_way if task.done()]:
                self.under_way.discard(done)
                done.result()

    async def strike(self, name, how):
        async with self.locks[name]:
            await self._strike(name, how)

    async def _strike(self, name, how):
        program, chance = self.programs[name], self.chance
        if name == "sandbox" and how != "pause" and self.day != time.gmtime(time.time() + 60).tm_yday:
            # Begun on another day it would hold other calls.
            return
        self.tally.count("blows", f"{name} {how}")
        self.tally.note(f"{name}: {how}")
        if how == "pause":
            program.pause()
            try:
                await asyncio.sleep(chance.uniform(0.5, 4))
            finally:
                program.resume()
            return
        refused = name == "sandbox" and chance.random() < 0.5
        if refused:
            self.relay.shut()
        status = await program.end(how, DRAIN + 5)
        if name == "gateway":
            if how == "term" and status != 0:
                said = "did not end" if status is None else f"ended with status {status}"
                self.tally.violation("ending", f"the gateway {said} after SIGTERM")
            program.traced = not self.spared and chance.random() < 0.3
        await asyncio.sleep(chance.choice([0.0, chance.uniform(0, 1), chance.uniform(1, 4)]))
        await program.start()
        if refused:
            await self.relay.open()
