"""A proxy for HTTP that fails as it is told: late, slow, refused, reset, cut, stalled, garbled.

It hands on every header as it came, ``Host`` included, so that the signatures of S3 requests stay valid.
"""

import asyncio
import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Literal

Kind = Literal["status", "reset", "cut", "cut-reset", "stall", "silent", "flip"]
CHUNK = 1 << 18
DEADLINE_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request.

    ``status`` answers with ``status``, the store's ``code`` and ``retry_after``, without asking the server. ``reset``
    resets the connection in place of an answer; ``silent`` never answers. Of an answer, ``cut`` sends half and closes,
    ``cut-reset`` half and resets, ``stall`` half and then nothing; ``flip`` changes the byte in the middle.
    """

    kind: Kind
    status: int = 500
    code: str = "InternalError"
    retry_after: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Message:
    head: bytes
    start: str
    length: int | None  # None: chunked


class Proxy:
    """A proxy before a server; its rules may be changed while it runs.

    Attributes:
        url: Where it listens.
        faults: Of the next requests, in their order; without one, or with None, a request is handed on.
        latency_s: Added before each request is handed on.
        bytes_per_s: What one connection gets of an answer; None: all there is.
        requests: The first lines of all that was asked.
        most_at_once: Requests that were under way together.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.url = ""
        self.faults: collections.deque[Fault | None] = collections.deque()
        self.latency_s = 0.0
        self.bytes_per_s: float | None = None
        self.requests: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._open: set[asyncio.Task[None]] = set()

    def fail(
        self, kind: Kind, times: int = 1, *, every: int = 1, status: int = 500, code: str = "", retry_after: str = ""
    ) -> None:
        """Let the next requests fail, or one of every so many."""
        fault = Fault(kind=kind, status=status, code=code or "InternalError", retry_after=retry_after or None)
        self.faults.extend([fault, *[None] * (every - 1)] * times)

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=CHUNK)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        above_writer = None
        try:
            above_reader, above_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
            while True:
                asked = await _read_head(reader)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    if not await self._one(asked, reader, writer, above_reader, above_writer):
                        break
                finally:
                    self._at_once -= 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()
            if above_writer:
                above_writer.close()

    async def _one(
        self,
        asked: _Message,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        above_reader: asyncio.StreamReader,
        above_writer: asyncio.StreamWriter,
    ) -> bool:
        """Hand on one request and its answer; tell whether the connection may stay."""
        self.requests.append(asked.start)
        fault = self.faults.popleft() if self.faults else None
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if b"100-continue" in asked.head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault and fault.kind in ("status", "reset", "silent"):
            async for _ in _body(reader, asked):
                pass
            return await _instead(fault, writer, has_body=not asked.start.startswith("HEAD "))
        above_writer.write(asked.head)
        async for chunk in _body(reader, asked):
            above_writer.write(chunk)
            await above_writer.drain()
        answer = await _read_head(above_reader)
        while answer.start.split()[1] == "100":
            answer = await _read_head(above_reader)
        if asked.start.startswith("HEAD ") or answer.start.split()[1] in ("204", "304"):
            answer = dataclasses.replace(answer, length=0)
        writer.write(answer.head)
        return await self._answer(fault, answer, above_reader, writer)

    async def _answer(
        self, fault: Fault | None, answer: _Message, above: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        sent, half = 0, (answer.length or 0) // 2
        async for chunk in _body(above, answer):
            if fault and sent + len(chunk) > half >= sent:
                left, right = chunk[: half - sent], chunk[half - sent :]
                writer.write(left)
                await writer.drain()
                if fault.kind != "flip":
                    return await _break(fault, writer)
                writer.write(bytes([right[0] ^ 1]) + right[1:])
            else:
                writer.write(chunk)
            sent += len(chunk)
            await writer.drain()
            if self.bytes_per_s:
                await asyncio.sleep(len(chunk) / self.bytes_per_s)
        return True


async def _read_head(reader: asyncio.StreamReader) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return _Message(head, lines[0], None if chunked else int(headers.get("content-length", 0)))


async def _body(reader: asyncio.StreamReader, message: _Message) -> "collections.abc.AsyncIterator[bytes]":
    """Give a body as it came, in pieces."""
    rest = message.length
    while rest:
        piece = await reader.read(min(rest, CHUNK))
        if not piece:
            raise asyncio.IncompleteReadError(b"", rest)
        rest -= len(piece)
        yield piece
    if rest is None:
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)


async def _instead(fault: Fault, writer: asyncio.StreamWriter, *, has_body: bool) -> bool:
    if fault.kind != "status":
        return await _break(fault, writer)
    body = f"<Error><Code>{fault.code}</Code><Message>as told</Message></Error>".encode()
    again = f"Retry-After: {fault.retry_after}\r\n" if fault.retry_after else ""
    head = f"HTTP/1.1 {fault.status} Told\r\n{again}Content-Length: {len(body)}\r\n\r\n".encode()
    writer.write(head + body if has_body else head)
    await writer.drain()
    return True


async def _break(fault: Fault, writer: asyncio.StreamWriter) -> bool:
    if fault.kind in ("stall", "silent"):
        await asyncio.sleep(DEADLINE_S)
    if fault.kind in ("reset", "cut-reset"):
        writer.transport.abort()
    return False


@contextlib.contextmanager
def run_proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy before a server, in a thread, until the block ends."""
    proxy = Proxy(target)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(proxy.serve(), loop).result(DEADLINE_S)
        yield proxy
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()
