"""The programs under test: gateway, sandbox and Redis, each on a port of its own that stays the same over restarts.

They are started, signalled and ended by their own ids alone. Each keeps a list of its lives, so that the judge knows
when the gateway was away and how it ended.
"""

import asyncio
import os
import signal
import socket
import subprocess
import time

from .wire import Broken, Late, Line, Malformed

WORKSPACE = "ws-soak"
CALLS, CALL_LENGTH, ANALYSIS_DELAY, SETTLE_AFTER = 200, 7, 3, 8
CAPACITY = 32 << 20
DRAIN = 10
READY_WITHIN = 20

# What goes wrong with how many requests in a fair weather. A 429 stops everything for a minute, so it is rare.
FAULTS = {
    "status-400": 0.003, "status-401": 0.004, "status-403": 0.004, "status-404": 0.004, "status-410": 0.004,
    "status-500": 0.01, "status-502": 0.01, "status-503": 0.01, "status-504": 0.01, "status-204": 0.004,
    "status-206": 0.004, "status-304": 0.004, "status-999": 0.004, "delay:1s": 0.01, "delay:5s": 0.004, "reset": 0.01,
    "cut": 0.01, "drip:1ms": 0.01, "drip:100ms": 0.004, "garbage": 0.01, "echo-key": 0.01, "hang": 0.004,
    "gzip-bomb:4": 0.01, "html": 0.01, "redirect": 0.01, "foreign-workspace": 0.01, "wrong-id": 0.01,
}
TOO_MANY = 0.0004
WEATHERS = {"calm": 0.3, "fair": 1.0, "stormy": 4.0}


def free_port(chance, taken):
    """A port that nobody listens on and that no connection will be given while a program is away."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as bounds:
            ceiling = int(bounds.read().split()[0])
    except OSError:
        ceiling = 32768
    while True:
        port = chance.randrange(10_000, max(ceiling, 12_000))
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port


class Life:
    """From one start of a program to its end; `how` is None, "term" or "kill"."""

    def __init__(self, number):
        self.number, self.how, self.log, self.weather = number, None, None, None
        self.began, self.ready, self.signalled, self.ended = time.monotonic(), None, None, None


class Program:
    """A program that is started again and again."""

    name = "program"

    def __init__(self, folder, port):
        self.folder, self.port, self.process, self.lives = folder, port, None, []

    def command(self):
        raise NotImplementedError

    def environment(self):
        return None

    async def answers(self):
        """Whether it does its work by now."""
        line = await Line.to(self.port)
        line.close()
        return True

    @property
    def life(self):
        return len(self.lives) - 1

    async def start(self):
        life = Life(len(self.lives))
        life.log = os.path.join(self.folder, f"{self.name}-{life.number}.log")
        with open(life.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=self.environment(), start_new_session=True)
        self.lives.append(life)
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if await self.answers():
                    life.ready = time.monotonic()
                    return life
            except (Broken, Malformed, Late):
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.name} is not ready within {READY_WITHIN} s, status {self.process.poll()}:\n"
                           + self.last_words(life))

    @staticmethod
    def last_words(life):
        with open(life.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    async def end(self, how, patience):
        """Ends it by SIGTERM or SIGKILL; its status, or None where SIGTERM did not end it in time."""
        life = self.lives[-1]
        life.how, life.signalled = how, time.monotonic()
        self.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
        status = await self.status(patience)
        if status is None:
            self.process.kill()
            await self.status(10)
        life.ended = time.monotonic()
        return status

    async def status(self, patience):
        until = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return self.process.poll()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def put_down(self):
        """At the very end, whatever state it is in."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Sandbox(Program):
    """The simulated vendor. With `mirror` one that is always well, to learn what it holds."""

    name = "sandbox"

    def __init__(self, binary, folder, port, key, seed, budget, chance, mirror=False):
        super().__init__(folder, port)
        self.binary, self.key, self.seed, self.budget, self.chance = binary, key, seed, budget, chance
        self.mirror, self.weather = mirror, None
        if mirror:
            self.name = "mirror"

    def command(self):
        command = [self.binary, "sandbox", "--listen", f"127.0.0.1:{self.port}", "--api-key", self.key,
                   "--workspace-id", WORKSPACE, "--calls", str(CALLS), "--seed", str(self.seed),
                   "--call-length", f"{CALL_LENGTH}s", "--analysis-delay", f"{ANALYSIS_DELAY}s"]
        if self.mirror:
            return [*command, "--latency", "0s", "--rate-limit", "0"]
        command += ["--latency", "30ms", "--rate-limit", str(self.budget)]
        if self.chance.random() < 0.5:
            command.append("--gzip")
        # Which request is struck follows from seed and order: another order in each life strikes others.
        factor = WEATHERS[self.weather]
        faults = [(kind, rate * factor) for kind, rate in FAULTS.items()] + [("status-429", TOO_MANY)]
        self.chance.shuffle(faults)
        return [*command, *(f"--fault={kind}={rate:.5f}" for kind, rate in faults)]

    async def start(self):
        if not self.mirror:
            self.weather = self.chance.choice(["calm", "fair", "fair", "fair", "stormy"] if self.lives else ["fair"])
        life = await super().start()
        life.weather = self.weather
        return life

    async def ask(self, method, target):
        """Asks it directly, past the gateway."""
        line = await Line.to(self.port)
        try:
            fields = [("x-api-key", self.key), ("x-workspace-id", WORKSPACE)]
            return await line.ask(method, target, "sandbox", fields, patience=10)
        finally:
            line.close()


class Redis(Program):
    """What the gateway shares with replicas that are not there. It keeps nothing over its end."""

    name = "redis"

    def command(self):
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--rdbcompression", "no", "--dir", self.folder, "--dbfilename", "redis.rdb"]

    async def word(self, *words):
        """Sends one command; the first line of what it says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write((" ".join(words) + "\r\n").encode())
            return (await asyncio.wait_for(reader.readline(), 10)).decode().strip()
        finally:
            writer.transport.abort()

    async def answers(self):
        try:
            return await self.word("PING") == "+PONG"
        except (OSError, asyncio.TimeoutError):
            return False


class Gateway(Program):
    """callgate itself."""

    name = "gateway"

    def __init__(self, binary, folder, port, admin, vendor_port, redis_port, key, budget):
        super().__init__(folder, port)
        self.binary, self.admin, self.vendor_port, self.redis_port = binary, admin, vendor_port, redis_port
        self.budget, self.traced = budget, False
        self.disk = os.path.join(folder, "kept", "calls")
        self.key_file = os.path.join(folder, "api-key")
        with open(os.open(self.key_file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(key + "\n")

    def command(self):
        return [self.binary, "serve"]

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
        settings = {
            "LISTEN__INTERNAL": f"127.0.0.1:{self.port}", "LISTEN__ADMIN": f"127.0.0.1:{self.admin}",
            "UPSTREAM__RESPONSE_TIMEOUT": "3s", "UPSTREAM__CONNECT_TIMEOUT": "1s", "UPSTREAM__MAX_BODY": "1MiB",
            "LOOKUP__SETTLE_AFTER": f"{SETTLE_AFTER}s", "LOOKUP__SETTLING_TTL": "2s",
            "CACHE__CAPACITY": f"{CAPACITY}B", "CACHE__DISK__PATH": self.disk, "CACHE__DISK__CAPACITY": "64MiB",
            "CACHE__SHARED__URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "BUDGET__REQUESTS_PER_MINUTE": str(self.budget), "DRAIN__TIMEOUT": f"{DRAIN}s",
            "LOG__FORMAT": "json", "LOG__HITS": "0.1",
        }
        found = {f"CALLGATE__{name}": value for name, value in settings.items()}
        found.update(TRILLET_API_KEY_FILE=self.key_file, TRILLET_WORKSPACE_ID=WORKSPACE,
                     TRILLET_API_BASE_URL=f"http://127.0.0.1:{self.vendor_port}", RUST_BACKTRACE="1")
        if self.traced:
            found["RUST_LOG"] = "trace"
        return {**kept, **found}

    async def answers(self):
        line = await Line.to(self.admin)
        try:
            return (await line.ask("GET", "/healthz", "localhost", patience=2)).status == 200
        finally:
            line.close()

    def away(self, began, until):
        """The life whose end, up to the next one's being ready, falls between two times; or None."""
        for life, following in zip(self.lives, [*self.lives[1:], None]):
            if life.signalled is None:
                continue
            back = following.ready if following and following.ready else float("inf")
            if life.signalled <= until and began <= back:
                return life
        return None
