"""One HTTP/1.1 connection to a model server: one exchange at a time, parsed as the bytes come.

The hot path of the product. Body bytes go from the parser straight into a list; a reader takes all that is there and
otherwise waits on one future; one timer per connection serves all deadlines, because a deadline that moves later
(each event moves the idle one) needs no new timer: the old one fires early, sees that, and is armed again.
"""

import asyncio
import ssl
from collections.abc import Callable
from math import inf
from typing import Any, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy import late
from proxy.outbox import Outbox
from proxy.upstreams.base import Failed, Take, connect_failed
from proxy.upstreams.encoding import Decoder, Undecodable
from routes import failure

MAX_HEAD: Final = 64 * 1024  # bytes of an answer's head, 1xx answers before it included; trailers likewise
MAX_FIELDS: Final = 200  # different header names
UNREAD: Final = 32 * 1024  # bytes nobody has read yet beyond which the socket is left alone
SLICE: Final = 256 * 1024  # bytes of a large request body given to the transport at a time
EARLY: Final = 0.002  # seconds a timer may fire early: uvloop's clock ticks in milliseconds


class Stale(Exception):
    """The server had closed this idle connection: no byte came back, another connection may try."""


class Connection(asyncio.BaseProtocol):
    """A protocol that is its own source of answers. Who holds it (the pool's idle list or a reply) holds its slot."""

    # Attributes of the parser's protocol are looked up once, so `on_body` can be the list's own method.
    on_body: Callable[[bytes], None]

    def __init__(self, name: str, on_idle_loss: Callable[["Connection"], None], outbox: Outbox) -> None:
        self._name = name  # the target's, for messages
        self._on_idle_loss = on_idle_loss
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # set before anyone has the connection
        self._source = self._transport  # the one that is paused while nobody reads
        self._timer: late.Timer | None = None
        self._timer_at = inf
        self._waiter: asyncio.Future[bool] | None = None  # its result: the deadline passed
        self._deadline = inf
        self._write_paused = False
        self._read_paused = False
        self._unread = 0  # bytes from the network since the last read
        self._most_unread = UNREAD
        self._chunks: list[bytes] = []
        self.on_body = self._chunks.append
        self._parser: Any = HttpResponseParser(self)

        self.idle = False  # in the pool's list
        self.expires = inf  # loop time until which an idle one may be used
        self.uses = 0
        self.lost = True  # until made

        self.status = 0  # of the final head; 0: not here yet
        self.headers: dict[bytes, bytes] = {}
        self._fields = self.headers  # where header lines go: trailers must not change `headers`
        self._active = False  # an exchange is on
        self._head_bytes = 0  # bytes since the exchange began, or since the body last grew
        self._interim = False  # the head just read is a 1xx
        self._until_close = False  # the body ends with the connection
        self._complete = False
        self._sent = True  # the whole request is with the transport, or waits in the outbox
        self._can_keep = False
        self._error: Exception | None = None
        self._decoder: Decoder | None = None
        self._late = 0  # looks in a row after their deadline
        self._take: Take | None = None  # whom the body is poured to
        self._refusal: Exception | None = None  # what it raised

    # The exchange, as the pool and a reply see it

    async def exchange(self, head: bytes, body: bytes, deadline: float) -> None:
        """Send a request and wait for its answer's head. Raises `Failed`, or `Stale` on a used connection."""
        if self.lost or self._transport.is_closing():
            raise self._unanswered()
        self.uses += 1
        self.status = 0
        self._fields = self.headers = {}
        self._head_bytes = 0
        self._active = True
        self._until_close = self._complete = self._can_keep = False
        self._decoder = None
        self._late = 0
        self._most_unread = UNREAD
        if len(body) <= SLICE:
            self._outbox.write(self._transport, head + body)
        else:
            await self._send_large(head, body, deadline)
        while not self.status:
            if self._error is not None:
                raise self._error
            if self._is_late(deadline) or await self._wait(deadline):
                raise self._timeout("first_content", "begin to answer")

    async def read(self, deadline: float) -> bytes:
        """As `Reply.read`."""
        while True:
            if self._chunks:
                if self._is_late(deadline):
                    raise self._timeout("idle", "go on with its answer")
                if data := self._taken():
                    return data
            elif self._complete:
                if self._decoder is not None:
                    self._decoded(None)
                return b""
            elif self._error is not None:
                raise self._error
            elif await self._wait(deadline):
                raise self._timeout("idle", "go on with its answer")

    async def pour(self, take: Take, deadline: float) -> bool:
        """As `Reply.pour`."""
        self._take, self._deadline = take, deadline
        try:
            if self._chunks:
                self._hand_on(take)
            while self._is_pouring():
                if self._complete:
                    if self._decoder is not None:
                        self._decoded(None)
                    return False
                if self._error is not None:
                    raise self._error
                if await self._wait(self._deadline) and self._is_pouring():
                    raise self._timeout("idle", "go on with its answer")
        finally:
            self._take = None
            refusal, self._refusal = self._refusal, None
        if refusal is None:
            return True
        try:
            raise refusal
        finally:
            del refusal  # its traceback holds this frame: a cycle that would keep the request

    def finish(self) -> bool:
        """End the exchange; True when the connection can serve another one."""
        self._active = False
        self._waiter = None
        self._chunks.clear()
        self._unread = 0
        if self._error is not None:
            self._error.__traceback__ = None  # its frames hold us
        return (
            self._complete
            and self._can_keep
            and self._sent
            and not self._write_paused
            and not self._read_paused
            and not self.lost
            and self._error is None
        )

    def abort(self) -> None:
        """Close at once, unsent bytes dropped. Safe at any time."""
        self._stop_timer()
        if not self.lost:
            self._transport.abort()

    @property
    def keep_alive_hint(self) -> float:
        """Seconds the server says it keeps an idle connection; infinity when it says nothing."""
        value = self.headers.get(b"keep-alive")
        if value is None:
            return inf
        for part in value.split(b","):
            name, _, number = part.partition(b"=")
            if name.strip().lower() == b"timeout" and number.strip().isdigit():
                return float(number)
        return inf

    @property
    def is_poured(self) -> bool:
        """What comes is handed on at once, and as it comes: decoded, it may be a hundred times as long."""
        return self._take is not None and self._decoder is None

    # Taking

    def _taken(self) -> bytes:
        """All that is there. Empty where a decoder wants more."""
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._unread = 0
        if self._read_paused:
            self._read_paused = False
            self._most_unread = 0  # a slow reader: from now on one piece at a time waits for it
            self._read_on()
        return data if self._decoder is None else self._decoded(data)

    def _hand_on(self, take: Take) -> bool:
        """Give what is there at once: to wake a task for each event costs more than the event. False: no more."""
        deadline: float | None = None
        try:
            data = self._taken()
            deadline = take(data) if data else self._deadline
        except Exception as error:  # noqa: BLE001 — whatever it is, it is raised where `pour` is awaited
            self._refusal = error
        if deadline is None:
            self._take = None
            return False
        self._deadline = deadline
        if deadline < self._timer_at:
            self._arm(deadline)
        return True

    def _breathe(self) -> None:
        """Read on in the loop's next turn: others want theirs, and a loop reads one socket many times in a turn."""
        self._source.pause_reading()
        self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not (self._read_paused or self.lost or self._source.is_closing()):
            self._source.resume_reading()

    def _is_pouring(self) -> bool:
        """Asked afresh, as what has been handed on changes it."""
        return self._take is not None

    def _is_over(self) -> bool:
        return self._complete or self._error is not None

    # Waiting

    def _is_late(self, deadline: float) -> bool:
        """Whether a server goes on sending though the deadline has passed: a wait may never find it silent."""
        self._late = self._late + 1 if self._loop.time() > deadline else 0
        return self._late > late.READS

    def _wait(self, deadline: float) -> asyncio.Future[bool]:
        """Wait for anything to happen; the result is True when nothing did before the deadline."""
        self._deadline = deadline
        self._waiter = waiter = self._loop.create_future()
        if deadline < self._timer_at:
            self._arm(deadline)
        return waiter

    def _arm(self, when: float) -> None:
        self._stop_timer()
        self._timer_at = when
        self._timer = late.Timer(self._loop, when, late.READ, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = inf

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, inf
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._deadline - self._loop.time() > EARLY:
            self._arm(self._deadline)
            return
        waiter.set_result(True)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(False)

    def _timeout(self, phase: str, what: str) -> Failed:
        return Failed(failure.TIMEOUT, f"{self._name!r} did not {what} in time", phase=phase)

    # Sending

    async def _send_large(self, head: bytes, body: bytes, deadline: float) -> None:
        """Write in slices as the server takes them: a server that answers early (413) is heard."""
        self._sent = False
        self._outbox.flush()
        self._transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), SLICE):
            while self._write_paused and not self.status and self._error is None:
                if await self._wait(deadline):
                    raise self._timeout("first_content", "take the request")
            if self.status or self._error is not None:
                return  # what is left of the body is not wanted; the connection is not used again
            self._transport.write(view[start : start + SLICE])
        self._sent = True

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._sent:
            self._wake()

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._source = cast("asyncio.Transport", transport)
        self.lost = False

    def received(self, data: bytes | memoryview, is_full: bool) -> None:
        """Bytes from the server, which are not kept. `is_full`: as many as one read brings, so there may be more."""
        if not self._active or self._complete:
            # Nobody asked: what comes before a request could pass for the answer to the next one.
            self._can_keep = False
            self.abort()
            return
        size = len(data)
        self._unread += size
        self._head_bytes += size
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._on_garbage(error)
        if self._chunks:
            self._head_bytes = 0
            take = self._take
            if take is not None:
                if is_full:
                    self._breathe()
                if self._hand_on(take) and not self._is_over():
                    return
            if self._unread > self._most_unread and not self._read_paused and not self._complete:
                self._read_paused = True
                self._source.pause_reading()
        elif self._head_bytes > MAX_HEAD and not self._complete:
            self._fail("its answer's head or trailers are too large")
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(False)

    def eof_received(self) -> None:
        """The server sends no more. The transport closes now, but would wait for it to take what is unsent. A
        request that waits in the outbox is dropped with it: the server could not answer it.

        Not called by uvloop where TLS ends without its close_notify: there the deadline rules.
        """
        if self._active and not self._complete and (not self._sent or self._source.get_write_buffer_size()):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._stop_timer()
        self._parser = None  # the parser holds our methods: break the cycle
        if self.idle:
            self._on_idle_loss(self)
        elif self._active and not self._complete and self._error is None:
            if self._until_close and exc is None:  # also TLS without close_notify: who reads it knows what is cut
                self._complete = True
            elif self._head_bytes or self.status:
                where = "in its head" if not self.status else "before its end"
                self._error = Failed(failure.BAD_ANSWER, f"{self._name!r} broke off its answer {where}")
            elif isinstance(exc, ssl.SSLError) and "ALERT" not in (exc.reason or ""):
                # TLS drops what came in the same read, perhaps a whole answer: the call must not be made again
                self._error = Failed(failure.BAD_ANSWER, f"{self._name!r} sent what TLS cannot read")
            else:
                self._error = self._unanswered()
        self._wake()

    # What the parser says

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")  # ends the parsing: see `_on_garbage`

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers = self.headers
        if status < 200:
            self._interim = True
            headers.clear()
            if status == 101:
                self._fail("it switched protocols unasked")
            return
        self._fields = {}
        if self._head_bytes > MAX_HEAD and sum(map(len, (*headers, *headers.values()))) > MAX_HEAD:  # in one read
            self._fail("its answer's head is too large")
            return
        if len(headers) > MAX_FIELDS:
            self._fail("its answer has too many headers")
            return
        coding = headers.get(b"transfer-encoding")
        if coding is None:
            self._until_close = b"content-length" not in headers
        elif coding.strip().lower() != b"chunked":
            self._fail("its answer has an unknown transfer-encoding")
            return
        encoding = headers.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            try:
                self._decoder = Decoder(encoding)
            except Undecodable as error:
                self._fail(str(error))
                return
        self.status = status

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        if self._error is None:
            self._complete = True
            self._can_keep = self._parser.should_keep_alive()

    # Failures

    def _fail(self, why: str) -> None:
        """The answer cannot be used: remember why, close. What has come before is still read."""
        if self._error is None:
            self._error = Failed(failure.BAD_ANSWER, f"{self._name!r}: {why}")
        self.abort()

    def _on_garbage(self, error: Exception) -> None:
        if self._complete:
            self._can_keep = False
            self.abort()
        else:
            self._fail(f"its answer is not HTTP/1.1 ({error})")

    def _unanswered(self) -> Exception:
        """No byte of an answer came. `uses` tells a connection that went stale from a server that hangs up."""
        if self.uses > 1 or (self.uses and not self._active):
            return Stale()
        return connect_failed(f"{self._name!r} closed the connection without an answer")

    def _decoded(self, data: bytes | None) -> bytes:
        decoder = cast("Decoder", self._decoder)
        try:
            if data is not None:
                return decoder.feed(data)
            decoder.finish()
        except Undecodable as error:
            self._fail(str(error))
            raise cast("Failed", self._error) from None
        return b""
