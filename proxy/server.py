"""The data listener's HTTP/1.1 protocol: bytes in, `Exchange`s out to the application, answers back.

uvicorn runs it (sockets, draining) in place of its own protocol class. There is no ASGI between: every endpoint of
this listener is ours, and the model endpoints want the whole body at once, a word when the client leaves, and
synchronous writes. It owns the limits on headers and bodies, keep-alive, pipelining and back-pressure.
"""

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, cast
from typing import Protocol as Interface

import httptools
import uvicorn
from uvicorn.server import ServerState

from proxy import late
from proxy.account import new_id
from proxy.bodies import FREE, Bodies
from proxy.errors import BadRequest, HeadersTooLarge, PointsmanError, RequestTimeout, Unavailable
from proxy.exchange import Exchange, encode
from proxy.fields import again, check_framing, check_sizes, large_head, unusual, usual
from proxy.outbox import Outbox
from proxy.runtime import Limits
from proxy.wire.error import reply_error

KEEP_ALIVE = 75.0  # seconds an idle connection is kept: longer than clients' pools keep theirs
LAST_CALL = 0.5  # seconds an idle connection stays open when the server stops: a request may be on its way
FIRST_CALL = 2.0  # the same of one that has brought none yet: it was opened for one, unlike one that is kept
SEND_DEADLINE = 60.0  # seconds in which a client must take something of what waits for it
LINGER = 2.0  # seconds that a client which is still sending gets to read what it was answered
HIGH_WATER = 16 * 1024  # bytes of an answer that wait here for a client before no more is fetched
SMALL_BODY = 256 * 1024  # bytes; above it the application starts before the body has come, so that it can refuse


class Application(Interface):
    """What answers the exchanges."""

    @property
    def limits(self) -> Limits:
        """Of heads and bodies, for the requests that begin now."""
        ...

    @property
    def bodies(self) -> Bodies:
        """Whose bytes all connections share."""
        ...

    @property
    def outbox(self) -> Outbox:
        """What all connections write to."""
        ...

    def __call__(self, exchange: Exchange) -> Coroutine[Any, Any, None]: ...


class Protocol(asyncio.Protocol):
    """One client connection."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app = cast(Application, config.loaded_app)
        self._outbox = self.app.outbox
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self.parser: Any = httptools.HttpRequestParser(self)
        self.waiting: deque[Exchange] = deque()  # pipelined requests, in order
        self.current: Exchange | None = None  # the one being answered
        self.reading: Exchange | None = None  # the one whose body is coming
        self.is_write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._limits = self.app.limits  # of the request that is coming
        self._header_room = 0  # headers that may still come
        self._header_bytes = 0  # of a head, at most; also of what comes between two pieces of a body
        self._read = 0  # bytes of the last read
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._joined = 0  # pieces at the body's beginning that are large
        self._shown = 0  # of these, those that the application has seen
        self._body_room = 0  # bytes of this body that may have come before somebody looks again
        self._since = self.loop.time()  # when the connection last became idle, or a head began to come
        self._in_head = False
        self._served = False  # a whole request has come on this connection
        self._timer: late.Timer | None = None
        self._closing = False
        self._dated: list[tuple[bytes, bytes]] = []
        self._date = b""
        self._is_held_back = False
        self._is_deaf = False  # what still comes is thrown away: this connection ends with the answers it owes
        self._refusal: PointsmanError | None = None  # the last of them, for what was no request
        self._upgrades = False  # the head just read offers another protocol

    @property
    def date(self) -> bytes:
        """The date header's line; uvicorn makes a new list of headers each second."""
        headers = self.server_state.default_headers
        if headers is not self._dated:
            self._dated, self._date = headers, encode(headers)
        return self._date

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self.server_state.connections.add(cast(Any, self))
        self._watch(self._limits.head_timeout, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(cast(Any, self))
        self._unwatch()
        self._forget()
        self.parser = self.reading = None  # cycles: they would wait for the collector, and it would hold up the loop
        self.resume_writing()
        lost, self.current = self.current, None
        if lost is not None and lost.task is not None:
            lost.disconnected = True
            lost.task.add_done_callback(lambda _: self._let_go(lost))
            self._cancel(lost.task)  # nobody waits for the answer; what was used is booked

    def _let_go(self, lost: Exchange) -> None:
        """Give back what its body held once nothing of it runs, nor a call that goes on without its client."""
        if lost.orphan is None:
            self.app.bodies.give_back(lost)
        else:
            lost.orphan.add_done_callback(lambda _: self.app.bodies.give_back(lost))

    def eof_received(self) -> None:
        """A client that closes its writing half has gone: no HTTP client does that and still reads.

        The transport closes now. Who pipelined may have been answered, and is sent that first.
        """
        self._outbox.flush()

    def shutdown(self) -> None:
        """The server stops: finish what runs, answer what is on its way, and say that it was the last."""
        self._closing = True
        for exchange in (self.current, self.reading, *self.waiting):
            if exchange is not None:
                exchange.keep_alive = exchange.keep_alive and exchange.started  # what is promised is promised
        self.loop.call_later(LAST_CALL if self._served else FIRST_CALL, self._close_idle)

    def _close_idle(self) -> None:
        if self.current is None and self.reading is None and not self.waiting and not self._in_head:
            self._close()

    def _close(self) -> None:
        """Close once what waits was handed over: a closing transport takes no more."""
        self._outbox.flush()
        self.transport.close()

    def cut(self) -> None:
        """The server's time is up: end the request that is being answered, and begin no other."""
        stopping, cut = Unavailable("the server is shutting down", code="server_shutting_down"), self.current

        def ended(_: "asyncio.Task[None]") -> None:
            if cut is not None and self.current is cut:  # the task had not even begun
                reply_error(cut, new_id(), stopping)

        self._forget()
        if cut is not None and cut.task is not None:
            self._is_deaf = True
            cut.keep_alive = False  # also where it was promised: nobody would read what comes
            cut.task.add_done_callback(ended)
            self._cancel(cut.task)
        elif self._is_deaf:
            pass  # it lingers, so that its client can read, and has had its last word
        elif self._in_head or self.reading is not None:
            self._refuse(stopping)
        else:
            self._close()

    def refuse_unread(self) -> None:
        """Refuse, for want of memory, what nobody has looked at yet, and let go of what has come of its body."""
        for exchange in (self.current, self.reading, *self.waiting):
            if exchange is not None and exchange.refused is None:  # one that was looked at does not ask any more
                exchange.refused = self.app.bodies.overloaded()
                exchange.body_ended()
        self._body = []

    def keep(self, task: "asyncio.Task[None]") -> None:
        """A stop waits for this task, whatever has become of the connection."""
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _cancel(self, task: "asyncio.Task[None]") -> None:
        self.keep(task)
        task.cancel()

    def send(self, data: bytes) -> None:
        """Send a piece of an answer, after those before it."""
        self._outbox.write(self.transport, data)

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self.current is None and self.waiting and not self.transport.is_closing():
            self._run_next()

    async def drain(self, patience: float = SEND_DEADLINE) -> None:
        """Wait until the client has read enough. One that takes nothing for so long is let go, as if it had left."""
        self._outbox.flush()  # else what is unsent could grow while we wait, and a reader seem to take nothing
        unsent = self.transport.get_write_buffer_size()
        while self.is_write_paused:
            if self._writable is None or self._writable.done():
                self._writable = self.loop.create_future()
            done, _ = await asyncio.wait((self._writable,), timeout=patience)
            if not done:
                await asyncio.sleep(0)  # what it took while we were held up is known once the loop has looked
            before, unsent = unsent, self.transport.get_write_buffer_size()
            if not done and unsent >= before:
                self.transport.abort()

    def _watch(self, seconds: float, judge: Callable[[], None]) -> None:
        """Judge the client then, by all that it has sent and taken: also what we were too busy to see."""
        self._timer = late.Timer(self.loop, self.loop.time() + seconds, late.READ, judge)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_idle(self) -> None:
        """Give up on a client that sends too slowly, or nothing for too long. One timer, re-armed by itself."""
        limits = self._limits
        if self._in_head:
            limit = limits.head_timeout
            overdue = f"the request's head took longer than {limit:g} seconds"
        elif self.reading is not None:
            limit = limits.body_timeout
            overdue = f"nothing of the request's body came for {limit:g} seconds"
        else:
            limit, overdue = KEEP_ALIVE if self._served else limits.head_timeout, ""
        busy = bool(self.waiting) or (self.current is not None and not overdue)
        left = limit - (self.loop.time() - self._since)
        if busy or left > 0:
            self._watch(limit if busy else left, self._check_idle)
        elif overdue:
            self._refuse(RequestTimeout(overdue))
        else:
            self._part()

    def _part(self) -> None:
        """Close; but not to wait for a client that does not read what it was sent."""
        self._outbox.flush()
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent > 0:
            self.transport.abort()
            return
        self.transport.close()
        if unsent:  # it stays open until all is sent
            self._unsent = unsent
            self._watch(SEND_DEADLINE, self._part)

    _unsent = 0  # bytes, when last looked at

    # --- reading

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._hold_back()
            return
        self._read = len(data)
        self._header_bytes += self._read
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            self._refuse(said_by(error))
        except httptools.HttpParserError:
            self._refuse(BadRequest("the request is not well-formed HTTP/1.1", code="malformed_http"))
        else:
            if self._header_bytes > self._limits.max_head:
                self._refuse(large_head(self._limits))

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._upgrades:  # CONNECT
                    raise httptools.HttpParserError("this server is no tunnel") from None
                data = self._without_upgrade() + data[upgrade.args[0] :]

    def _without_upgrade(self) -> bytes:
        """The head just read without its offer of another protocol, which clients may make and servers ignore.

        The parser takes the offer as accepted and would leave the body out, so it reads the request again.
        """
        offer = (b"connection", b"upgrade", b"http2-settings")
        kept = encode(header for header in self._headers.items() if header[0] not in offer)
        line = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self._url)
        self.parser = httptools.HttpRequestParser(self)
        self._upgrades = False
        return line + kept + b"\r\n"

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        limits = self._limits = self.app.limits
        self._header_room = limits.max_headers
        self._header_bytes = self._read  # what came before it in the same read may be another request
        self._in_head = True
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_room -= 1
        if self._header_room < 0:
            raise HeadersTooLarge(f"the request has more than {self._limits.max_headers} headers")
        name = usual(name) or unusual(name)
        headers = self._headers
        headers[name] = again(name, headers[name], value) if name in headers else value

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers, limits = self._headers, self._limits
        if self._header_bytes > limits.max_header:  # in one read, perhaps with a body
            check_sizes(self._url, headers, limits)
        self._header_bytes = 0
        if b"upgrade" in headers and self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrades = True
            return  # it comes again, without the offer
        self._headers = {}  # for trailers: nobody asks for them, and what was decided by is not theirs to change
        self._body = []
        self._body_bytes = 0
        self._joined = self._shown = 0
        self._body_room = min(FREE, limits.max_body)
        modern = self.parser.get_http_version() == "1.1"
        if b"host" not in headers or not modern:
            check_framing(headers, modern)
        keep_alive = modern and self.parser.should_keep_alive() and not self._closing
        exchange = Exchange(self, self.parser.get_method(), self._path(), headers, keep_alive, modern)
        self.reading = exchange
        # httptools has refused what is not a number
        length = exchange.length = int(headers.get(b"content-length") or 0)
        if length > self._body_room:
            exchange.refused = self.app.bodies.refuse(length, limits)
        if exchange.refused is not None or length > SMALL_BODY or b"expect" in headers:
            exchange.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
            self._begin(exchange)

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        self._since = self.loop.time()
        exchange = self.reading
        if exchange is None or exchange.refused is not None:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._body_room:
            self._make_room(exchange)

    def _make_room(self, exchange: Exchange) -> None:
        """The body has outgrown what was set aside for it: set aside more, or refuse it."""
        limits, size = self._limits, self._body_bytes
        exchange.refused = self.app.bodies.grow(exchange, size, limits)
        if exchange.refused is None:
            self._body_room = min(exchange.held, limits.max_body)
            self._hold_back()
            # in one piece: chunks of two bytes would take twenty times their size
            self._body[self._joined :] = [b"".join(self._body[self._joined :])]
            self._joined += 1
            if exchange.watch is not None:
                exchange.refused = exchange.show(self._body[self._shown :])
                self._shown = self._joined
            if size > SMALL_BODY:
                self._begin(exchange)
        if exchange.refused is not None:
            self._body = []
            self._begin(exchange)
            exchange.body_ended()

    def _hold_back(self) -> None:
        """Read on in a later turn of the loop: others want to read, too."""
        if not self._is_held_back:
            self._is_held_back = True
            self.transport.pause_reading()
            self.app.bodies.queue(self._read_on)

    def _read_on(self) -> None:
        self._is_held_back = False
        if not self.waiting and not self.transport.is_closing():
            self.transport.resume_reading()

    def _forget(self) -> None:
        """What was read, or is being read, will not be answered."""
        for exchange in (self.reading, *self.waiting):
            if exchange is not None:
                self.app.bodies.give_back(exchange)
        self.waiting.clear()
        self._body = []

    def on_message_complete(self) -> None:
        if self._upgrades:
            return
        exchange, self.reading = self.reading, None
        self._served = True
        self._header_bytes = 0
        self._since = self.loop.time()
        if exchange is None or exchange.complete:
            return
        if self._body_bytes <= FREE:
            exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        else:
            exchange.pieces = self._body  # large ones are put together in their turn
        self._body = []
        exchange.received = exchange.refused is None
        self._begin(exchange)
        exchange.body_ended()

    def _path(self) -> str:
        try:
            return path_of(self._url)
        except httptools.HttpParserInvalidURLError:
            raise BadRequest("the request's target is not a valid URL") from None

    # --- answering

    def _begin(self, exchange: Exchange) -> None:
        """Hand the exchange to the application, or queue it behind the one that is being answered."""
        if exchange.is_begun:
            return
        exchange.is_begun = True
        if self.current is not None or self.is_write_paused:
            self.waiting.append(exchange)
            self.transport.pause_reading()  # a client that pipelines waits for its answers, and reads them
            return
        self._run(exchange)

    def _run_next(self) -> None:
        self._run(self.waiting.popleft())
        if not self.waiting and not self.transport.is_closing():
            self.transport.resume_reading()

    def _run(self, exchange: Exchange) -> None:
        self.current = exchange
        exchange.task = self.loop.create_task(self.app(exchange))

    def want_body(self, exchange: Exchange) -> None:
        """The application waits for a body that has not all come."""
        if exchange.expects_continue:
            exchange.expects_continue = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answered(self, exchange: Exchange) -> None:
        self.server_state.total_requests += 1
        self.current = None
        self._since = self.loop.time()
        if exchange.held:
            self.app.bodies.give_back(exchange)
        if not exchange.received:
            self._linger()  # what is left of an unread body must not be taken for a request
        elif not exchange.keep_alive or self.transport.is_closing():
            self._unwatch()
            self._part()
        elif self.waiting:
            if not self.is_write_paused:
                self._run_next()
        elif self._refusal is not None:
            self._answer_refusal(self._refusal)
        if not self.waiting and not self.transport.is_closing():
            self.transport.resume_reading()
            if self._closing:
                self.loop.call_later(LAST_CALL, self._close_idle)

    def _refuse(self, error: PointsmanError) -> None:
        """What has come is no request: say so after the answers that are owed before it, and close."""
        self._is_deaf = True
        self._in_head = False
        exchange, self.reading = self.reading, None
        if exchange is not None and exchange.is_begun:
            exchange.refused = exchange.refused or error
            exchange.body_ended()
            return
        if exchange is not None:  # nobody has seen it, so nobody else gives back what was set aside for it
            self.app.bodies.give_back(exchange)
            self._body = []
        if self.current is None and not self.waiting:
            self._answer_refusal(error)
        else:
            self._refusal = error

    def _answer_refusal(self, error: PointsmanError) -> None:
        reply_error(Exchange(self, b"GET", "/", {}, False), new_id(), error)

    def _linger(self) -> None:
        """Close, but let the client read the answer first: while it sends, a plain close would reset it."""
        self._is_deaf = True
        self._forget()
        if self.transport.is_closing():
            return
        self._outbox.flush()
        self.transport.write_eof()
        self._unwatch()
        self._watch(LINGER, self._part)


def said_by(error: httptools.HttpParserCallbackError) -> PointsmanError:
    """What one of our callbacks raised; without its frames, which hold the protocol that is to hold the error."""
    cause = error.__context__
    if not isinstance(cause, PointsmanError):
        return BadRequest("the request is malformed")
    cause.__context__ = None
    return cause.with_traceback(None)


@lru_cache(64)  # clients ask for the same few targets again and again
def path_of(target: bytes) -> str:
    """The path of a request's target. Raises `httptools.HttpParserInvalidURLError`."""
    path = (httptools.parse_url(target).path or b"/").decode("latin-1")
    return urllib.parse.unquote(path) if "%" in path else path
