"""A caller's connection: one request at a time, over HTTP/1.1, and no more bytes than the answer has.

It knows nothing of calls. It holds the other side to the letter: a status line, fields, exactly `content-length` bytes
of body (or chunks, where it may), and silence after them.
"""

import asyncio
import time

LONGEST_HEAD = 64 << 10


class Broken(Exception):
    """The connection ended, or could not be made; `begun` says whether bytes of an answer had come."""

    def __init__(self, why, begun=False):
        super().__init__(why)
        self.begun = begun


class Malformed(Exception):
    """What came is no answer, or more than one."""


class Late(Exception):
    """No answer in time."""


class Answer:
    """One answer; times are of the monotonic clock, `raw` is all of it as it came."""

    def __init__(self, status, fields, body, raw, began):
        self.status, self.fields, self.body, self.raw = status, fields, body, raw
        self.began, self.ended = began, time.monotonic()

    def field(self, name):
        """The value of a field, all of them with commas where it came more than once, or None."""
        values = [value for found, value in self.fields if found == name]
        return ", ".join(values) if values else None


class Line(asyncio.Protocol):
    """A connection. `ask` may be called again until `open` is false."""

    def __init__(self):
        self.buffer, self.transport, self.gone, self.why = bytearray(), None, False, "closed"
        self.change, self.asked = asyncio.Event(), 0
        self.since = time.monotonic()

    @classmethod
    async def to(cls, port, patience=5):
        """Connects to a port of the loopback."""
        loop = asyncio.get_running_loop()
        try:
            made = loop.create_connection(cls, "127.0.0.1", port)
            _, line = await asyncio.wait_for(made, patience)
        except (OSError, asyncio.TimeoutError) as error:
            raise Broken(f"no connection: {error!r}") from error
        return line

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        self.change.set()

    def eof_received(self):
        self.gone = True
        self.change.set()

    def connection_lost(self, exc):
        self.gone = True
        self.why = repr(exc) if exc else "closed"
        self.change.set()

    @property
    def open(self):
        return not self.gone and not self.transport.is_closing()

    def close(self):
        if self.transport:
            self.transport.abort()
        self.gone = True

    async def ask(self, method, target, host, fields=(), patience=30, body=b""):
        """Sends a request and reads its answer."""
        head = [f"{method} {target} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in fields)]
        if body:
            head.append(f"content-length: {len(body)}")
        return await self.send("\r\n".join([*head, "", ""]).encode() + body, method, patience)

    async def send(self, request, method="GET", patience=30):
        """Sends bytes as they are, and reads the answer."""
        if self.buffer:
            raise Malformed(f"bytes that belong to no request: {bytes(self.buffer[:80])!r}")
        began = time.monotonic()
        self.asked += 1
        self.transport.write(request)
        try:
            answer = await asyncio.wait_for(self._answer(method, began), patience)
        except asyncio.TimeoutError:
            self.close()
            raise Late(f"no answer within {patience:.0f} s") from None
        except (Broken, Malformed):
            self.close()
            raise
        if answer.field("connection") == "close":
            self.close()
        return answer

    async def _until(self, enough):
        while True:
            found = enough()
            if found:
                return found
            if self.gone:
                raise Broken(self.why, bool(self.buffer))
            self.change.clear()
            await self.change.wait()

    def _head_end(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 and len(self.buffer) > LONGEST_HEAD:
            raise Malformed("a head without an end")
        return end + 4 if end >= 0 else 0

    async def _answer(self, method, began):
        end = await self._until(self._head_end)
        lines = bytes(self.buffer[:end - 4]).decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if len(words) < 2 or words[0] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].isdigit():
            raise Malformed(f"no status line: {lines[0][:80]!r}")
        status = int(words[1])
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Malformed(f"no field: {line[:80]!r}")
            fields.append((name.lower(), value.strip()))
        lengths = [value for name, value in fields if name == "content-length"]
        codings = [value for name, value in fields if name == "transfer-encoding"]
        if len(lengths) > 1 or (lengths and codings):
            raise Malformed("a length that is not clear")
        whole, body = end, b""
        if method != "HEAD" and status not in (204, 304):
            if codings:
                whole, body = await self._until(lambda: self._chunks(end))
            elif lengths:
                whole = end + int(lengths[0])
                await self._until(lambda: len(self.buffer) >= whole)
                body = bytes(self.buffer[end:whole])
            else:
                raise Malformed("a body of no length")
        raw = bytes(self.buffer[:whole])
        del self.buffer[:whole]
        if self.buffer:
            raise Malformed(f"bytes behind the answer: {bytes(self.buffer[:80])!r}")
        return Answer(status, fields, body, raw, began)

    def _chunks(self, at):
        """Where the last chunk ends, and what they hold; None where they have not all come."""
        held = bytearray()
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                return None
            size = int(bytes(self.buffer[at:end]).split(b";")[0], 16)
            if len(self.buffer) < end + 2 + size + 2:
                return None
            held += self.buffer[end + 2:end + 2 + size]
            at = end + 2 + size + 2
            if size == 0:
                return at, bytes(held)
