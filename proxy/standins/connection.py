"""One client's connection: HTTP/1.1 in by httptools, the answer's steps out, in order, under back-pressure."""

import asyncio
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from proxy.standins.journal import Entry, RawHeaders
from proxy.standins.steps import Cut, Note, Raw, Send, Steps, Think

if TYPE_CHECKING:
    from proxy.standins.standin import StandIn

FLUSH = 64 * 1024  # bytes gathered before a write


class Connection(asyncio.Protocol):
    __slots__ = (
        "_body", "_busy", "_close", "_entry", "_headers", "_idle", "_loop", "_parser", "_paused", "_since",
        "_standin", "_steps", "_thinking", "_timer", "_transport", "_url", "_waiting", "number",
    )  # fmt: skip

    def __init__(self, standin: "StandIn", number: int) -> None:
        self.number = number
        self._standin = standin
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Entry, bool]] = deque()  # pipelined requests; True: closes the connection
        self._entry: Entry | None = None  # the one being answered
        self._steps: Steps = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._thinking: Think | None = None
        self._since = 0.0  # loop time the thinking began
        self._idle: asyncio.TimerHandle | None = None
        self._paused = False
        self._busy = False  # inside `_advance`

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._standin.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._entry is not None and self._timer is None and not self._busy:
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self._standin.connections.discard(self)
        self._leave("peer closed")
        if self._idle is not None:
            self._idle.cancel()

    # what the parser calls

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: RawHeaders = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if name.lower() == b"expect" and self._entry is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        entry = self._standin.entry(
            self.number,
            self._parser.get_method().decode("latin-1"),
            self._url.decode("latin-1"),
            self._headers,
            b"".join(self._body),
        )
        if self._entry is None:
            self._begin(entry, not self._parser.should_keep_alive())
        else:
            self._waiting.append((entry, not self._parser.should_keep_alive()))

    # performing

    def _begin(self, entry: Entry, close: bool) -> None:
        self._entry = entry
        self._close = close
        self._steps = self._standin.respond(entry, close)
        self._advance()

    def _advance(self) -> None:
        """Perform steps until one waits, the peer is too slow, or the answer is over."""
        entry = self._entry
        if entry is None:
            return
        self._busy = True
        out: list[bytes] = []
        size = 0
        try:
            for step in self._steps:
                if isinstance(step, Send | Raw):
                    out.append(step.data)
                    size += len(step.data)
                    if isinstance(step, Send):
                        entry.generated += step.tokens
                        entry.events_sent += step.content
                    elif step.status is not None:
                        entry.status = step.status
                    if size < FLUSH:
                        continue
                    self._write(entry, out)
                    out, size = [], 0
                    if self._paused or self._transport.is_closing():
                        return  # to go on when there is room, or to be told that the peer has gone
                elif isinstance(step, Think):
                    if step.seconds <= 0:
                        entry.generated += step.tokens
                        continue
                    self._write(entry, out)
                    self._think(step)
                    return
                elif isinstance(step, Note):
                    entry.reported = step.usage
                elif isinstance(step, Cut):
                    self._write(entry, out)
                    self._cut(entry, step.how)
                    return
                else:
                    self._write(entry, out)
                    return
            self._write(entry, out)
        finally:
            self._busy = False
        self._finish(entry)

    def _write(self, entry: Entry, out: list[bytes]) -> None:
        if not out:
            return
        data = b"".join(out)
        entry.bytes_sent += len(data)
        entry.sends()
        self._transport.write(data)
        self._standin.journal.changed()

    def _think(self, step: Think) -> None:
        self._thinking = step
        self._since = time.monotonic()
        self._timer = self._loop.call_later(step.seconds, self._thought)

    def _thought(self) -> None:
        self._timer = None
        if self._thinking is not None and self._entry is not None:
            self._entry.generated += self._thinking.tokens
        self._thinking = None
        if not self._paused:
            self._advance()

    def _cut(self, entry: Entry, how: str) -> None:
        self._leave(f"fault: {entry.behaviour}" if entry.behaviour else "cut short")
        if how == "rst":
            self.reset()
        else:
            self._transport.close()

    def reset(self) -> None:
        """Drop the connection with RST in place of FIN."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        self._transport.abort()

    def _finish(self, entry: Entry) -> None:
        self._entry = None
        idle, close = self._standin.after(entry)
        self._standin.journal.end(entry, "complete")
        if close or self._close:
            self._transport.close()
        elif idle is not None and not self._waiting:
            self._idle = self._loop.call_later(idle, self._transport.close)
        elif self._waiting:
            # By way of the loop, lest a thousand pipelined requests become a thousand frames of stack.
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._waiting and self._entry is None and not self._transport.is_closing():
            self._begin(*self._waiting.popleft())

    def _leave(self, how: str) -> None:
        """Stop answering: the peer has gone, or we go. What was generated until now stays on the bill."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entry, self._entry = self._entry, None
        if entry is None:
            return
        thought = self._thinking
        if thought is not None and thought.tokens:
            entry.generated += min(
                thought.tokens, int(thought.tokens * (time.monotonic() - self._since) / thought.seconds)
            )
        self._thinking = None
        self._steps = iter(())
        self._standin.journal.end(entry, how)
