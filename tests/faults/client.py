"""A raw client: a socket, the bytes that were sent and came, and what they amount to. It repairs nothing.

    async with await Client.open(proxy.url) as client:
        client.send(chat({...}, number=7))
        answer = await client.answer()

It can read slowly or not at all, write byte by byte, close one half, reset, and pipeline.
"""

import asyncio
import json
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CONTENT = re.compile(rb'"content": ?"[^"]')  # of an event that says something
SO_TIMESTAMPNS = 35  # Linux; the `socket` module does not name it
PATIENCE = 30.0  # seconds without a byte after which a test fails


@dataclass
class Answer:
    """One answer as it comes in: feed it bytes. `whole` says whether its framing was ended properly."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    lost: str = ""  # how the connection ended before the answer did: fin, rst, silence
    stamps: list[float] = field(default_factory=list)  # time.perf_counter() of each content event
    _raw: bytearray = field(default_factory=bytearray)  # not taken apart yet
    _left: int = -1  # bytes of a body of known length still to come; -1: chunked, -2: until the end
    _scanned: int = 0

    def feed(self, data: bytes) -> None:
        self._raw += data
        if not self.status and not self._head():
            return
        self._chunks() if self._left == -1 else self._plain()
        while (end := self.body.find(b"\n\n", self._scanned)) >= 0:
            if CONTENT.search(self.body, self._scanned, end):
                self.stamps.append(time.perf_counter())
            self._scanned = end + 2

    def end(self) -> None:
        """The other side has closed."""
        if self.status and self._left == -2:
            self.whole = True

    @property
    def rest(self) -> bytes:
        """What came after the answer's end."""
        return bytes(self._raw)

    def _head(self) -> bool:
        head, found, rest = bytes(self._raw).partition(b"\r\n\r\n")
        if not found:
            return False
        line, *lines = head.decode("latin-1").split("\r\n")
        status = int(line.split(" ")[1])
        self._raw[:] = rest
        if status == 100:
            return self._head()
        self.status = status
        self.headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        if self.headers.get("transfer-encoding") != "chunked":
            self._left = int(self.headers.get("content-length", -2))
        return True

    def _plain(self) -> None:
        take = len(self._raw) if self._left < 0 else min(self._left, len(self._raw))
        self.body += self._raw[:take]
        del self._raw[:take]
        if self._left >= 0:
            self._left -= take
            self.whole = not self._left

    def _chunks(self) -> None:
        while not self.whole:
            at = self._raw.find(b"\r\n")
            if at < 0:
                return
            size = int(self._raw[:at], 16)
            if len(self._raw) < at + size + 4:
                return
            self.body += self._raw[at + 2 : at + 2 + size]
            assert self._raw[at + 2 + size : at + 4 + size] == b"\r\n", "a chunk is not as long as it says"
            del self._raw[: at + size + 4]
            self.whole = not size

    # --- what it means

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def json(self) -> Any:
        return json.loads(bytes(self.body))

    @property
    def payloads(self) -> list[bytes]:
        """The data of the complete events so far."""
        events = bytes(self.body).split(b"\n\n")[:-1]
        return [event[6:] for event in events if event.startswith(b"data: ")]

    @property
    def text(self) -> str:
        """The content so far, of either kind of answer."""
        if not self.is_stream:
            return str(self.json["choices"][0]["message"]["content"])
        chunks = [json.loads(data) for data in self.payloads if data != b"[DONE]"]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))

    @property
    def ending(self) -> str:
        """`complete`, `http error`, `in-band error`; or `silent: WHY`, which must not be."""
        if not self.status:
            return f"silent: no answer, {self.lost}"
        if not self.whole:
            return f"silent: {self.status} broken off by {self.lost}"
        if self.status >= 400:
            return "http error" if _is_error(bytes(self.body)) else "silent: an error without an error object"
        if not self.is_stream:
            return "complete" if b'"choices"' in self.body else "silent: no answer in the body"
        return self._stream_ending()

    def _stream_ending(self) -> str:
        last = self.payloads[-1] if self.payloads else b""
        done = b"[DONE]" in self.payloads
        if _is_error(last) and not done:
            return "in-band error"
        if last != b"[DONE]":
            return "silent: the stream ended without [DONE] or error"
        if any(b'"error"' in data and _is_error(data) for data in self.payloads):
            return "silent: an error, then [DONE]"
        finished = any(b'"finish_reason":"' in data.replace(b" ", b"") for data in self.payloads)
        return "complete" if finished else "silent: [DONE] without a finish"


def _is_error(data: bytes) -> bool:
    try:
        return bool(json.loads(data).get("error"))
    except (ValueError, AttributeError):
        return False


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.received = bytearray()  # everything that came, as it came
        self._pending: list[Answer] = []

    @classmethod
    async def open(cls, url: str, *, receive_buffer: int | None = None) -> Self:
        """`receive_buffer`: bytes the kernel may hold for us: small, and a reader that stops is felt soon."""
        parts = urlsplit(url)
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
        except BaseException:
            sock.close()
            raise
        limit = 2**16 if receive_buffer is None else 1024
        return cls(*await asyncio.open_connection(sock=sock, limit=limit))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # it was reset: as good an end as any

    # --- writing

    def send(self, data: bytes) -> Self:
        self.writer.write(data)
        return self

    async def dribble(self, data: bytes, pause: float = 0.0) -> Self:
        """Byte by byte, each in a segment of its own."""
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(pause)
        return self

    # --- reading

    async def read(self, size: int = 65536) -> bytes:
        """What is there; empty at the end. Raises ConnectionError for a reset."""
        data = await asyncio.wait_for(self.reader.read(size), PATIENCE)
        self.received += data
        return data

    async def answer(self, answer: Answer | None = None, *, events: int | None = None) -> Answer:
        """Read an answer to its end, or until it has so many content events; however it ends, it is returned."""
        answer = answer if answer is not None else Answer()
        while not answer.whole and (events is None or len(answer.stamps) < events):
            try:
                data = await self.read()
            except ConnectionError:
                answer.lost = "rst"
                break
            except TimeoutError:
                answer.lost = "silence"
                break
            if not data:
                answer.lost = "fin"
                answer.end()
                break
            answer.feed(data)
        return answer

    async def answers(self, count: int) -> list[Answer]:
        """Those of pipelined requests, in order."""
        found: list[Answer] = []
        for _ in range(count):
            answer = Answer()
            if found:
                answer.feed(found[-1].rest)
            found.append(await self.answer(answer))
        return found

    async def closed(self, seconds: float = PATIENCE) -> bool:
        """Whether the other side closes within this time; what still comes is kept in `received`."""
        try:
            async with asyncio.timeout(seconds):
                while await self.read():
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    # --- leaving

    def leave(self, how: str) -> None:
        """`fin`, `rst`, or `half`: close the writing half only."""
        match how:
            case "fin":
                self.close()
            case "rst":
                self.reset()
            case "half":
                self.writer.write_eof()
            case _:
                raise ValueError(how)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class Stamped(Client):
    """One that knows when the kernel had what it reads: its own loop is late where many share it."""

    at = 0.0  # Unix time of the last bytes read
    _socket: socket.socket

    @classmethod
    async def open(cls, url: str, *, receive_buffer: int | None = None) -> Self:
        client = await super().open(url, receive_buffer=receive_buffer)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client._socket = client.writer.get_extra_info("socket").dup()
        client._socket.setblocking(False)
        client._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        return client

    async def read(self, size: int = 65536) -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), PATIENCE)
        finally:
            loop.remove_reader(self._socket)
        data, ancillary, _, _ = self._socket.recvmsg(size, 64)
        self.at = time.time()
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", value[:16])
                self.at = seconds + nanoseconds / 1e9
        self.received += data
        return data

    def close(self) -> None:
        self._socket.close()
        super().close()


def request(body: bytes, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """The bytes of a well-framed POST."""
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body
