"""A Redis of its own on the loopback, and what it says of itself: commands by name, bytes, memory, clients.

It speaks as much of Redis's protocol as that takes, so that no client has to be installed. What it asks is left out of
what it counts. Knows nothing of callgate.
"""

import collections
import contextlib
import selectors
import socket
import threading
import time

from . import machine, servers

# What is asked in order to count.
OWN = {"info", "client|list", "memory|usage", "scan", "hello", "client|setinfo", "command|docs"}


class Redis(servers.Server):
    """A `redis-server` that keeps nothing on disk. `with` ends it."""

    def __init__(self, cpus, folder):
        port = machine.free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                   "--dir", folder]
        super().__init__("redis", command, port, cpus, folder)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.lines = self.socket.makefile("rb")
        self.told, self.heard = 0, 0

    def stop(self, patience=5):
        self.socket.close()
        super().stop(patience)

    def ask(self, *words):
        """The answer to a command."""
        words = [str(word).encode() if not isinstance(word, bytes) else word for word in words]
        text = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        text = b"*%d\r\n%b" % (len(words), text)
        self.told += len(text)
        self.socket.sendall(text)
        return self._answer()

    def _answer(self):
        line = self.lines.readline()
        self.heard += len(line)
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            bulk = b"" if rest == b"-1" else self.lines.read(int(rest) + 2)
            self.heard += len(bulk)
            return bulk[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        raise RuntimeError(f"redis says {line!r}")

    def info(self, section):
        """A section of INFO, by name."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def clients(self):
        """Those who are connected, but for this one: a dictionary each."""
        lines = self.ask("CLIENT", "LIST").decode().splitlines()
        found = [dict(word.split("=", 1) for word in line.split(" ") if "=" in word) for line in lines]
        own = str(self.socket.getsockname()[1])
        return [client for client in found if not client["addr"].endswith(f":{own}")]

    def keys(self, pattern):
        """The names of keys."""
        cursor, found = b"0", []
        while True:
            cursor, names = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            found += names
            if cursor == b"0":
                return found

    def taken_by(self, pattern):
        """Bytes that keys take, their names included."""
        return sum(self.ask("MEMORY", "USAGE", key, "SAMPLES", 0) for key in self.keys(pattern))

    @contextlib.contextmanager
    def listeners(self, number, channel):
        """So many more who subscribe to this channel, and read what comes."""
        sockets = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(number)]
        ended = threading.Event()

        def read():
            with selectors.DefaultSelector() as ready:
                for one in sockets:
                    ready.register(one, selectors.EVENT_READ)
                while not ended.is_set():
                    for key, _ in ready.select(0.1):
                        key.fileobj.recv(1 << 16)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            for one in sockets:
                one.sendall(b"SUBSCRIBE %b\r\n" % channel)
            time.sleep(0.5)
            yield
        finally:
            ended.set()
            reader.join()
            for one in sockets:
                one.close()

    def count(self):
        """All that is counted, up to now."""
        calls, micros = collections.Counter(), collections.Counter()
        for name, said in self.info("commandstats").items():
            name = name.removeprefix("cmdstat_")
            if name not in OWN:
                said = dict(word.split("=") for word in said.split(","))
                calls[name], micros[name] = int(said["calls"]), int(said["usec"])
        heard = self.heard
        stats = self.info("stats")
        sent = int(stats["total_net_output_bytes"]) - heard
        return Count(calls, micros, sent, int(stats["total_net_input_bytes"]) - self.told, self.cpu())


class Count:
    """Commands by name, inside scripts and outside, with their microseconds, bytes sent and received, CPU seconds."""

    def __init__(self, calls, micros, sent, received, cpu):
        self.calls, self.micros, self.sent, self.received, self.cpu = calls, micros, sent, received, cpu

    def since(self, before):
        calls, micros = collections.Counter(self.calls), collections.Counter(self.micros)
        calls.subtract(before.calls)
        micros.subtract(before.micros)
        return Count(+calls, micros, self.sent - before.sent, self.received - before.received, self.cpu - before.cpu)

    @property
    def scripts(self):
        return self.calls["eval"] + self.calls["evalsha"]

    @property
    def script_micros(self):
        return self.micros["eval"] + self.micros["evalsha"]
