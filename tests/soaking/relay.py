"""Stands between gateway and sandbox, passes on what it gets as it gets it, and notes it.

It is the vendor's door: what counts is what comes by here. Resets, cuts, drips and bytes that are no HTTP go through as
they are; while it is shut, connections are refused. It also looks at what the gateway may send at all.
"""

import asyncio
import re
import socket
import struct
import zlib

TARGET = re.compile(r"^/v[12]/api/call-history(?:/([A-Za-z0-9_-]{1,128}))?(?:\?\S*)?$")
MAY_BE_SENT = {"host", "x-api-key", "x-workspace-id", "accept", "content-type", "accept-encoding", "user-agent",
               "traceparent", "x-request-id"}
# What the gateway is set to read; what is longer is an answer of which nothing may come.
LONGEST_BODY = 1 << 20
LIMIT = 1 << 20


def reset(writer):
    """Ends a connection as a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()


def decoded(body, coding):
    """The body without its coding, or None where that is too long or broken."""
    if coding != "gzip":
        return body
    stream = zlib.decompressobj(31)
    try:
        plain = stream.decompress(body, LONGEST_BODY)
    except zlib.error:
        return None
    return plain if stream.eof else None


class Relay:
    """Listens where the gateway thinks that the vendor is."""

    def __init__(self, port, sandbox_port, vendor, tally, key, foreign):
        self.port, self.sandbox_port, self.vendor, self.tally = port, sandbox_port, vendor, tally
        self.key, self.foreign = key.encode(), foreign.encode()
        self.server, self.tasks = None, set()
        # Requests that came while another for the same was under way for long, to be looked at a little later.
        self.doubtful = set()

    async def open(self):
        for _ in range(50):
            try:
                self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=LIMIT, backlog=512)
                return
            except OSError:
                await asyncio.sleep(0.1)
        raise RuntimeError("the relay's port is taken")

    def shut(self):
        """From now on connections are refused; those that there are go on."""
        if self.server:
            self.server.close()
            self.server = None

    async def end(self):
        self.shut()
        tasks = [*self.tasks, *self.doubtful]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        upstream = None
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.sandbox_port, limit=LIMIT)
            begun = b""
            while begun is not None:
                begun = await self._exchange(begun, reader, writer, *upstream)
            writer.close()
        except (ConnectionError, OSError):
            reset(writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()
        except asyncio.CancelledError:
            pass
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            if upstream:
                upstream[1].transport.abort()
            self.tasks.discard(task)

    async def _exchange(self, begun, reader, writer, up_reader, up_writer):
        """One request, of which `begun` was read already, and its answer. What was read of the next one; None where the
        connections are to end."""
        head_task = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        # The vendor says nothing unasked but that it is over.
        word_task = asyncio.ensure_future(up_reader.read(1))
        await asyncio.wait({head_task, word_task}, return_when=asyncio.FIRST_COMPLETED)
        over = word_task.done()
        await self._stop(word_task)
        if over:
            await self._stop(head_task)
            word_task.result()
            return None
        head = begun + head_task.result()
        target, call, since, crowded = self._note(head)
        if crowded:
            self._look_again(target, since)
        try:
            up_writer.write(head)
            answer = asyncio.ensure_future(self._answer(target, call, writer, up_reader))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            answered = answer.done()
            await self._stop(answer)
            await self._stop(gone)
            if answered:
                again = answer.result()
                more = b"" if gone.cancelled() else gone.result()
                return more if again and (more or gone.cancelled()) else None
            # The gateway has given up, or says more before it has its answer.
            if gone.result():
                self.tally.violation("vendor side", f"bytes behind a request that is not answered: {target}")
            return None
        finally:
            self.vendor.left(target, since)

    @staticmethod
    async def _stop(task):
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _note(self, head):
        lines = head[:-4].decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        target = rest.rpartition(" ")[0]
        found = TARGET.match(target)
        if method != "GET" or not found or "junk" in target:
            self.tally.violation("vendor side", f"this is not to be asked: {lines[0][:120]!r}")
        names = [line.partition(":")[0].lower() for line in lines[1:]]
        others = set(names) - MAY_BE_SENT
        if others or len(names) != len(set(names)):
            self.tally.violation("vendor side", f"fields that are not to be sent, or twice: {sorted(names)}")
        if head.count(self.key) != 1 or self.foreign in head:
            self.tally.violation("vendor side", f"credentials are not ours, once: {target}")
        began, crowded = self.vendor.asked(target)
        return target, found.group(1) if found else None, began, crowded

    def _look_again(self, target, began):
        """Two at a time for one call: unless the gateway left the first one, of which we may not have heard yet."""
        async def look():
            await asyncio.sleep(0.5)
            if self.vendor.still_asked(target, began):
                self.tally.violation("herd", f"two requests at a time for {target}")
        task = asyncio.ensure_future(look())
        self.doubtful.add(task)
        task.add_done_callback(self.doubtful.discard)

    async def _answer(self, target, call, writer, up_reader):
        """Passes an answer on; whether the connection may be used again."""
        head = bytearray()
        while b"\r\n\r\n" not in head:
            some = await up_reader.read(1 << 16)
            if not some:
                writer.write(head)
                return False
            head += some
            if not head.startswith(b"HTTP/"[:len(head)]):
                # Not HTTP: passed on until it ends.
                while some:
                    writer.write(some)
                    some = await up_reader.read(1 << 16)
                self.tally.count("vendor", "no http")
                return False
        end = head.index(b"\r\n\r\n") + 4
        head, body = bytes(head[:end]), bytearray(head[end:])
        lines = head[:-4].decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        status = int(lines[0].split(" ")[1])
        length = 0 if status in (204, 304) else int(fields.get("content-length", "0"))
        whole = len(body) >= length
        if whole:
            self._said(target, call, status, bytes(body), fields)
        writer.write(head + bytes(body))
        while not whole:
            some = await up_reader.read(1 << 16)
            if not some:
                self.tally.count("vendor", "cut")
                break
            body += some
            whole = len(body) >= length
            if whole:
                self._said(target, call, status, bytes(body), fields)
            writer.write(some)
            if not whole:
                await writer.drain()
        return whole and fields.get("connection") != "close"

    def _said(self, target, call, status, body, fields):
        plain = decoded(body, fields.get("content-encoding"))
        self.tally.count("vendor", f"{status}")
        if plain is not None:
            self.vendor.answered(target, call, status, plain)
