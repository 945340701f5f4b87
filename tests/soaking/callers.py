"""Those who call: dashboards that burst, pollers that follow a call to its end with and without `Prefer: wait`, and a
scanner of ids that there are not and of requests that are none. Beside them an operator at the admin endpoint.
"""

import asyncio
import collections
import json
import re
import signal
import time

from .judge import ANSWER_WITHIN, Ask
from .wire import Broken, Late, Line, Malformed

# Longer than any answer may take on the busiest machine; then it is missing.
PATIENCE = 30
LONGEST_USE = 20
HEX = "0123456789abcdef"
WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
LISTS = ["/v2/api/call-history?limit=20&page=1", "/v2/api/call-history?limit=10&status=ongoing", "/v1/api/call-history",
         "/v2/api/call-history?direction=inbound&limit=50&page=2"]


def lookup(chance, call, version=None):
    """A path for a call and what the vendor is asked for it."""
    version = version or chance.choice(["v2", "v2", "v1", "calls"])
    if version == "calls":
        return f"/calls/{call}", f"/v2/api/call-history/{call}"
    return (f"/{version}/api/call-history/{call}",) * 2


class Seat:
    """One caller's connection, made anew when the gateway is another one."""

    def __init__(self, stage):
        self.stage, self.line, self.life, self.used = stage, None, None, 0.0
        # What this one has seen before, by what the vendor is asked for it.
        self.etags = collections.OrderedDict()

    def leave(self):
        if self.line:
            self.line.close()
        self.line = None

    async def ask(self, ask):
        """Asks and has the answer judged; None where there was none."""
        return await self.send(ask, ask.target, "GET", ask.fields)

    async def send(self, ask, target, method, fields, host="localhost", body=b""):
        judge, gateway = self.stage.judge, self.stage.gateway
        life, began, warm = gateway.life, time.monotonic(), False
        try:
            if self.line and (not self.line.open or self.life != life or began - self.used > LONGEST_USE):
                self.leave()
            if self.line is None:
                self.line, self.life = await Line.to(gateway.port), life
            warm, began = self.line.asked > 0, time.monotonic()
            answer = await self.line.ask(method, target, host, fields, PATIENCE + ask.wait, body)
        except Broken as error:
            self.leave()
            judge.failed(ask, error, began, warm, life)
            return None
        except (Late, Malformed) as error:
            self.leave()
            if isinstance(error, Late) and gateway.away(began, time.monotonic()):
                judge.failed(ask, error, began, False, life)
            else:
                judge.violation("wire", ask, None, f"{type(error).__name__}: {error}")
            return None
        self.used = time.monotonic()
        if "hit" in judge.answered(ask, answer, life):
            self.stage.hit_times.append(answer.ended - answer.began)
        return answer


class Stage:
    """What all callers share."""

    def __init__(self, chance, gateway, sandbox, judge, tally, settled):
        self.chance, self.gateway, self.sandbox, self.judge, self.tally = chance, gateway, sandbox, judge, tally
        # Ids of calls that were over long ago, and of those that were followed to their end or are being followed.
        self.settled, self.followed, self.current = settled, collections.deque(maxlen=60), collections.deque(maxlen=8)
        self.hit_times = collections.deque(maxlen=200_000)
        self.seats = []

    def seat(self):
        self.seats.append(Seat(self))
        return self.seats[-1]

    def casts(self, level):
        """All callers, as what runs for ever."""
        chance = self.chance
        yield from (self.dashboard(12) for _ in range(3))
        yield from (self.poller() for _ in range(10))
        yield from (self.scanner() for _ in range(2))
        yield self.operator(level)
        yield self.purger(chance.uniform(5, 9))

    async def dashboard(self, tabs):
        """Tabs that all ask at once, for a list and then for what is on it, and are silent for a while."""
        chance, seats = self.chance, [self.seat() for _ in range(tabs)]
        hot = chance.sample(self.settled, 12)
        while True:
            hot[chance.randrange(len(hot))] = chance.choice(self.settled)
            shown = [LISTS[chance.randrange(len(LISTS))]]
            shown += [lookup(chance, chance.choice(hot)) for _ in range(3)]
            shown += [lookup(chance, call) for call in list(self.current)[-2:]]
            if self.followed:
                shown.append(lookup(chance, chance.choice(self.followed)))
            await asyncio.gather(*(self.tab(seat, shown) for seat in seats))
            await asyncio.sleep(chance.uniform(0.5, 3))

    async def tab(self, seat, shown):
        for one in shown:
            if isinstance(one, str):
                junk = f"_={self.chance.randrange(10**9)}" if self.chance.random() < 0.5 else ""
                target = one + ("&" if junk and "?" in one else "?" if junk else "") + junk
                await seat.ask(Ask("dashboard", target, one))
                continue
            target, vendor_target = one
            etag = seat.etags.get(vendor_target) if self.chance.random() < 0.2 else None
            answer = await seat.ask(Ask("dashboard", target, vendor_target, target.rpartition("/")[2], etag))
            if answer is not None and answer.status == 200 and answer.field("etag"):
                seat.etags[vendor_target] = answer.field("etag")
                if len(seat.etags) > 20:
                    seat.etags.popitem(last=False)
        if self.chance.random() < 0.05:
            seat.leave()

    async def poller(self):
        """Begins calls and follows each to its end, by itself or with a few others."""
        chance, seat = self.chance, self.seat()
        while True:
            call = None
            if self.current and chance.random() < 0.4:
                call = chance.choice(self.current)
            else:
                try:
                    begun = await self.sandbox.ask("POST", "/sandbox/calls")
                    call = json.loads(begun.body)["_id"]
                    self.current.append(call)
                    self.tally.count("calls", "begun")
                except (Broken, Late, Malformed):
                    await asyncio.sleep(1)
                    continue
            await self.follow(seat, call)

    async def follow(self, seat, call):
        chance, until = self.chance, time.monotonic() + 75
        target, vendor_target = lookup(chance, call)
        etag, missing = None, 0
        while time.monotonic() < until:
            wait = chance.choice([0, 0, 1, 3, 8, 15])
            known = etag if chance.random() < 0.3 else None
            ask = Ask("waiter" if wait else "poller", target, vendor_target, call, known, wait)
            answer = await seat.ask(ask)
            if answer is not None:
                if answer.status == 200:
                    etag = answer.field("etag") or etag
                if "immutable" in (answer.field("cache-control") or ""):
                    self.tally.count("calls", "followed to the end")
                    self.followed.append(call)
                    return
                missing += answer.status in (404, 410)
                if missing == 3:
                    # The sandbox was ended meanwhile, and the call with it.
                    self.tally.count("calls", "gone with the sandbox")
                    if call in self.current:
                        self.current.remove(call)
                    return
            await asyncio.sleep(chance.uniform(0.3, 2.5))

    async def scanner(self):
        """Sprints over ids that there are not, with credentials of its own, and now and then sends what is refused."""
        chance, seat = self.chance, self.seat()
        while True:
            sprint = time.monotonic() + chance.uniform(3, 12)
            while time.monotonic() < sprint:
                if chance.random() < 0.1:
                    await self.junk(seat)
                    continue
                if chance.random() < 0.7:
                    call = "".join(chance.choice(HEX) for _ in range(24))
                else:
                    call = "".join(chance.choice(WORD) for _ in range(chance.randint(1, 128)))
                target, vendor_target = lookup(chance, call)
                own = [("x-api-key", self.judge.foreign), ("authorization", f"Bearer {self.judge.foreign}"),
                       ("cookie", f"key={self.judge.foreign}"), ("x-forwarded-host", "elsewhere.invalid")]
                sprinkle = chance.sample(own, chance.randint(0, 4))
                await seat.ask(Ask("scanner", target, vendor_target, call, sprinkle=sprinkle))
                await asyncio.sleep(chance.uniform(0, 0.1))
            await asyncio.sleep(chance.uniform(8, 40))

    async def junk(self, seat):
        chance = self.chance
        call = chance.choice(self.settled)
        base = "/v2/api/call-history/"
        what, target, method, fields, host, body = chance.choice([
            ("a path out of it", base + "..%2f..%2fjunk", "GET", (), "localhost", b""),
            ("an id of 129 characters", base + "junk" + "a" * 125, "GET", (), "localhost", b""),
            ("an encoded zero", base + "junk%00", "GET", (), "localhost", b""),
            ("another path", "/junk/" + call, "GET", (), "localhost", b""),
            ("another method", base + call, "DELETE", (), "localhost", b""),
            ("a body", base + call, "GET", (), "localhost", b"GET /junk HTTP/1.1\r\n\r\n"),
            ("chunks", base + call, "GET", (("transfer-encoding", "chunked"),), "localhost", b""),
            ("another host", base + call, "GET", (), "rebound.invalid", b""),
            ("an origin", base + call, "GET", (("origin", "https://elsewhere.invalid"),), "localhost", b""),
            ("a parameter", base + call + "?junk=1", "GET", (), "localhost", b""),
            ("a long head", base + call, "GET", (("x-junk", "j" * 20_000),), "localhost", b""),
            ("many fields", base + call, "GET", tuple((f"x-{n}", "junk") for n in range(80)), "localhost", b""),
        ])
        ask = Ask("scanner", target[:60], target, junk=what)
        await seat.send(ask, target, method, fields, host, body)

    async def admin(self, method, target, within=10):
        """Asks the admin endpoint; None where the gateway is away."""
        gateway, began, line = self.gateway, time.monotonic(), None
        try:
            line = await Line.to(gateway.admin)
            answer = await line.ask(method, target, "localhost", patience=within)
        except (Broken, Late, Malformed) as error:
            if gateway.away(began, time.monotonic()) is None:
                self.tally.violation("admin", f"{method} {target}: {type(error).__name__}: {error}")
            return None
        finally:
            if line:
                line.close()
        found = self.judge.canary.find(answer.raw)
        if found:
            self.tally.violation("canary", f"the key is in {target}, as {found}")
        self.tally.count("operator", f"{method} {target.split('/')[1]} {answer.status}")
        return answer

    async def operator(self, level):
        """Scrapes, looks, and has the settings read again."""
        chance, turn = self.chance, 0
        while True:
            await asyncio.sleep(2)
            turn += 1
            answer = await self.admin("GET", "/metrics")
            if answer is not None and answer.status == 200:
                found = re.search(rb'^callgate_cache_bytes\{tier="memory"\} ([0-9.e+]+)', answer.body, re.M)
                level.kept = int(float(found.group(1))) if found else 0
            target = chance.choice(["/", "/status", "/config", "/readyz", "/healthz", "/openapi.json",
                                    f"/cache/{chance.choice(self.settled)}"])
            await self.admin("GET", target)
            if turn % 10 == 0:
                await self.admin("POST", "/reload")
            elif turn % 10 == 5 and self.gateway.lives[-1].signalled is None and self.gateway.lives[-1].ready:
                self.gateway.process.send_signal(signal.SIGHUP)

    async def purger(self, pause):
        """Has a call forgotten, and now and then all of them."""
        chance = self.chance
        while True:
            await asyncio.sleep(pause)
            everything = chance.random() < 0.05
            call = None if everything else chance.choice([*self.settled, *self.followed, *self.current])
            began = time.monotonic()
            # From here on it may be forgotten, whether the answer comes or not.
            self.judge.purged[call] = (began, 0.0)
            answer = await self.admin("DELETE", "/cache" if everything else f"/cache/{call}")
            self.judge.purged[call] = (began, time.monotonic())
            if answer is None or answer.status != 200:
                # Half done: it may be forgotten later, and may not.
                self.judge.purged[call] = (0.0, time.monotonic() + ANSWER_WITHIN)
