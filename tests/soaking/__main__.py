"""`tests/soak`: starts everything, lets it run, ends everything, and reports.

What holds is said by `judge` (answers), `said` (budget), `relay` (the vendor's side), `level` (memory and descriptors)
and, here, the search for the key in all that is left at the end.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from .callers import Stage
from .canary import Canary
from .fate import Fate
from .judge import Judge
from .level import Lag, Level
from .programs import WORKSPACE, Gateway, Redis, Sandbox, free_port
from .relay import Relay
from .report import Report, Tally
from .said import Readings, Vendor, digest_of

# Requests a minute: more than the vendor's 60, so that much happens, and few enough to be used up again and again.
BUDGET = 600


def arguments():
    parser = argparse.ArgumentParser(prog="tests/soak", description=__doc__.splitlines()[0])
    parser.add_argument("minutes", nargs="?", type=float, default=2, help="how long (2)")
    parser.add_argument("--seed", type=int, help="what chance follows from; printed, else drawn")
    parser.add_argument("--budget", type=int, default=BUDGET,
                        help=f"requests a minute that the gateway may send ({BUDGET})")
    parser.add_argument("--report", metavar="FILE", help="where the report goes, in Markdown")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs, as after a violation")
    return parser.parse_args()


class Run:
    """All parts of one run."""

    def __init__(self, options, folder):
        self.minutes, self.budget, self.folder = options.minutes, options.budget, folder
        self.usual = options.budget == BUDGET
        self.seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
        binary = os.environ["CALLGATE"]
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
        self.version, self.debug = said.stdout.strip(), "/debug/" in binary
        self.day = time.strftime("%Y-%m-%d", time.gmtime())
        self.tally, chance, taken = Tally(), random.Random(self.seed), set()

        def fork():
            return random.Random(chance.getrandbits(64))

        self.canary = Canary(fork())
        foreign = f"foreign-{fork().getrandbits(64):016x}"
        ports = fork()
        port = {name: free_port(ports, taken) for name in ("gateway", "admin", "vendor", "sandbox", "mirror", "redis")}
        world = self.seed % (1 << 63)
        self.lag, readings = Lag(), Readings()
        self.vendor = Vendor(self.budget, WORKSPACE, self.tally, readings)
        self.mirror = Sandbox(binary, folder, port["mirror"], self.canary.key, world, 0, fork(), mirror=True)
        self.sandbox = Sandbox(binary, folder, port["sandbox"], self.canary.key, world, self.budget, fork())
        self.redis = Redis(folder, port["redis"])
        self.gateway = Gateway(binary, folder, port["gateway"], port["admin"], port["vendor"], port["redis"],
                               self.canary.key, self.budget)
        self.relay = Relay(port["vendor"], port["sandbox"], self.vendor, self.tally, self.canary.key, foreign)
        self.judge = Judge(self.vendor, self.gateway, self.canary, foreign, self.tally, self.lag)
        self.level, self.fates, self.casting = Level(self.gateway, self.tally), fork(), fork()
        self.stage, self.left_over = None, 0
        self.programs = [self.mirror, self.sandbox, self.redis, self.gateway]

    def answers(self):
        return sum(sum(self.tally.counts[who].values()) for who in ("dashboard", "poller", "waiter", "scanner"))

    async def learn(self):
        """What the vendor holds of calls that are over: the same for every sandbox of this seed, on one day."""
        await self.mirror.start()
        calls, page = [], 1
        while True:
            answer = await self.mirror.ask("GET", f"/v2/api/call-history?limit=100&page={page}")
            found = json.loads(answer.body)["calls"]
            calls += [call for call in found if call["status"] != "ongoing"]
            if not found:
                break
            page += 1
        settled = []
        for call in calls:
            if "summary" not in call:
                continue
            answer = await self.mirror.ask("GET", f"/v2/api/call-history/{call['_id']}")
            self.vendor.readings.of(answer.body, digest_of(answer.body))
            self.vendor.learnt((call["_id"], call["callId"]), digest_of(answer.body))
            settled += [call["_id"], call["callId"]]
        await self.mirror.end("term", 5)
        return settled

    async def go(self):
        # What the sandbox holds follows from the day.
        midnight = 86_400 - time.time() % 86_400
        if midnight < 30:
            await asyncio.sleep(midnight + 1)
        settled = await self.learn()
        await asyncio.gather(self.sandbox.start(), self.redis.start(), self.relay.open())
        await self.gateway.start()
        self.stage = Stage(self.casting, self.gateway, self.sandbox, self.judge, self.tally, settled)
        began = self.tally.began = time.monotonic()
        end = began + self.minutes * 60
        fate = Fate(self.fates, self.gateway, self.sandbox, self.redis, self.relay, self.tally, time.gmtime().tm_yday)
        lasting = [asyncio.ensure_future(one) for one in
                   (self.lag.watch(), self.level.watch(), self.logs(), *self.stage.casts(self.level))]
        blows = asyncio.ensure_future(fate.strike_until(began + self.minutes * 30, end))
        await asyncio.wait([blows, *lasting], return_when=asyncio.FIRST_COMPLETED)
        # What lasts ends only where something is wrong.
        for task in (blows, *lasting):
            if task.done() and task.exception():
                self.tally.violation("start" if task is blows else "harness", repr(task.exception()))
                task.print_stack(file=sys.stderr)
        for task in (blows, *lasting):
            task.cancel()
        await asyncio.gather(blows, *lasting, return_exceptions=True)
        for seat in self.stage.seats:
            seat.leave()
        await self.close()

    async def close(self):
        if self.gateway.process.poll() is None:
            self.level.judge()
            self.left_over = await self.level.judge_rest()
            status = await self.gateway.end("term", 20)
            if status != 0:
                self.tally.violation("ending", f"the gateway ended with status {status} after SIGTERM at the end")
        elif self.gateway.lives[-1].signalled is None:
            self.tally.violation("broken", f"the gateway ended by itself, with status {self.gateway.process.poll()}:\n"
                                           + self.gateway.last_words(self.gateway.lives[-1]))
        try:
            await self.redis.word("SAVE")
        except (OSError, asyncio.TimeoutError):
            self.tally.violation("harness", "redis is not there at the end")
        await self.relay.end()
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, self.search, "")
        self.enough()

    async def logs(self):
        """Searches the log of each life of the gateway once it is over, and drops it."""
        searched = 0
        while True:
            await asyncio.sleep(1)
            while searched < self.gateway.life and self.gateway.lives[searched].ended:
                log = self.gateway.lives[searched].log
                await asyncio.get_running_loop().run_in_executor(None, self.look_into, log)
                if not self.tally.violations:
                    os.unlink(log)
                searched += 1

    def look_into(self, path):
        found = self.canary.find_in_file(path)
        if found:
            self.tally.violation("canary", f"the key is in {os.path.basename(path)}, as {found}")
        if path.endswith(".log"):
            with open(path, "rb") as log:
                for line in log:
                    if b"panicked at" in line:
                        self.tally.violation("panic", line[:300].decode(errors="replace"))
                    elif b'"ERROR"' in line:
                        self.tally.count("log", "errors")

    def search(self, _):
        """Everything that is left: logs, the kept calls, what Redis holds, and dumps, should there be any."""
        for folder, _, files in os.walk(self.folder):
            for name in files:
                # The key's own file, and the commands of the sandbox, which is the vendor and has it.
                path = os.path.join(folder, name)
                if path != self.gateway.key_file and not name.startswith(("sandbox", "mirror")):
                    self.look_into(path)

    def enough(self):
        """A soak in which nothing happened holds nothing."""
        dashboard, waiter = self.tally.counts["dashboard"], self.tally.counts["waiter"]
        followed = self.tally.counts["calls"]["followed to the end"]
        limited = sum(counts["rate_limit_exceeded"] for counts in self.tally.counts.values())
        seen = {
            "hits": dashboard["hit"], "calls under way": dashboard["passed ongoing"],
            "calls that were waited for": sum(waiter.values()),
            "calls followed to the end": followed or not self.usual or self.minutes < 2,
            "limits met": limited or not self.usual,
            "broken answers": self.tally.counts["vendor"]["cut"] + self.tally.counts["vendor"]["no http"],
        }
        for what, number in seen.items():
            if number == 0:
                self.tally.violation("harness", f"there were no {what}")

    def put_down(self):
        for program in self.programs:
            program.put_down()


def main():
    options = arguments()
    folder = tempfile.mkdtemp(prefix="callgate-soak-")
    os.chmod(folder, 0o700)
    run = Run(options, folder)
    print(f"tests/soak: {options.minutes:g} min, seed {run.seed}, {run.version}", flush=True)

    def leave(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        asyncio.run(run.go())
    except KeyboardInterrupt:
        run.tally.violation("harness", "interrupted")
    except RuntimeError as error:
        run.tally.violation("start", str(error))
    finally:
        run.put_down()
    violated = sum(run.tally.kinds.values())
    if run.stage is not None:
        report = Report(run).text()
        if options.report:
            with open(options.report, "w", encoding="utf-8") as file:
                file.write(report)
        print(report)
    if violated or options.keep:
        with open(os.path.join(folder, "blows.txt"), "w", encoding="utf-8") as notes:
            notes.write("\n".join(run.tally.notes) + "\n")
        print(f"tests/soak: logs are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if violated:
        print(f"tests/soak: {violated} violations, seed {run.seed}: {dict(run.tally.kinds)}", file=sys.stderr)
    sys.exit(1 if violated else 0)


main()
