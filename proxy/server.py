"""The data listener's HTTP/1.1 protocol: bytes in, `Exchange`s out to the application, answers back.

uvicorn runs it (sockets, draining) in place of its own protocol class. There is no ASGI between: every endpoint of
this listener is ours, and the model endpoints want the whole body at once, a word when the client leaves, and
synchronous writes. It owns the limits on headers and bodies, keep-alive, pipelining and back-pressure.
"""

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast
from typing import Protocol as Interface

import httptools
import orjson
import uvicorn
from uvicorn.server import ServerState

from proxy.errors import BadRequest, HeadersTooLarge, PointsmanError, RequestTimeout, TooLarge
from proxy.exchange import Exchange, encode

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
KEEP_ALIVE = 75.0  # seconds an idle connection is kept: longer than clients' pools keep theirs
LAST_CALL = 0.5  # seconds an idle connection stays open when the server stops: a request may be on its way
HEADER_DEADLINE = 20.0  # seconds to send a request's head, from the connection's start or the head's first byte
SMALL_BODY = 256 * 1024  # bytes; above it the application starts before the body has come, so that it can refuse


class Application(Interface):
    """What answers the exchanges."""

    @property
    def max_body(self) -> int:
        """Bytes a request's body may have."""
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
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[Exchange] = deque()  # pipelined requests, in order
        self.current: Exchange | None = None  # the one being answered
        self.reading: Exchange | None = None  # the one whose body is coming
        self.is_write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._since = self.loop.time()  # when the connection last became idle, or a head began to come
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._dated: list[tuple[bytes, bytes]] = []
        self._date = b""

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
        self.server_state.connections.add(cast(Any, self))
        self._timer = self.loop.call_later(HEADER_DEADLINE, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(cast(Any, self))
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        lost, self.current = self.current, None
        self.waiting.clear()
        if lost is not None and not lost.complete:
            lost.disconnected = True
            if lost.task is not None:
                lost.task.cancel()  # nobody waits for the answer; what was used is booked

    def eof_received(self) -> None:
        """A client that closes its writing half has gone: no HTTP client does that and still reads."""

    def shutdown(self) -> None:
        """The server stops: finish what runs, answer what is on its way, and say that this was the last."""
        self._closing = True
        for exchange in (self.current, *self.waiting):
            if exchange is not None and not exchange.started:
                exchange.keep_alive = False
        self.loop.call_later(LAST_CALL, self._close_idle)

    def _close_idle(self) -> None:
        if self.current is None and self.reading is None and not self._in_head:
            self.transport.close()

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def drain(self) -> None:
        while self.is_write_paused:
            if self._writable is None or self._writable.done():
                self._writable = self.loop.create_future()
            await self._writable

    def _check_idle(self) -> None:
        """Close a connection that has been idle, or sending one head, for too long. One timer, re-armed by itself."""
        now = self.loop.time()
        busy = self.current is not None and not self._in_head
        limit = HEADER_DEADLINE if self._in_head or not self._served else KEEP_ALIVE
        left = limit - (now - self._since)
        if busy or left > 0:
            self._timer = self.loop.call_later(limit if busy else left, self._check_idle)
        elif self._in_head:
            self._refuse(RequestTimeout(f"the request's head took longer than {HEADER_DEADLINE:.0f} seconds"))
        else:
            self.transport.close()

    _served = False  # a whole request has come on this connection

    # --- reading

    def data_received(self, data: bytes) -> None:
        if self._in_head or self.reading is None:
            self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest("this server does not speak the protocol asked for with Upgrade"))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, PointsmanError) else BadRequest("the request is malformed"))
        except httptools.HttpParserError:
            self._refuse(BadRequest("the request is not well-formed HTTP/1.1", code="malformed_http"))
        else:
            if self._in_head and self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge(f"the request's head is larger than {MAX_HEADER_BYTES} bytes"))

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._header_count = 0
        self._in_head = True
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            raise HeadersTooLarge(f"the request has more than {MAX_HEADERS} headers")
        name = name.lower()
        headers = self._headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._header_bytes = 0
        self._body = []
        self._body_bytes = 0
        headers = self._headers
        keep_alive = self.parser.should_keep_alive() and not self._closing
        exchange = Exchange(self, self.parser.get_method(), self._path(), headers, keep_alive)
        self.reading = exchange
        length = int(headers.get(b"content-length") or 0)  # httptools has refused what is not a number
        limit = self.app.max_body
        if length > limit:
            exchange.refused = TooLarge(f"the request's body has {length} bytes; at most {limit} are taken")
        if exchange.refused is not None or length > SMALL_BODY or b"expect" in headers:
            exchange.expects_continue = headers.get(b"expect", b"").lower() == b"100-continue"
            self._begin(exchange)

    def on_body(self, body: bytes) -> None:
        exchange = self.reading
        if exchange is None or exchange.refused is not None:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self.app.max_body:
            exchange.refused = TooLarge(f"the request's body is larger than {self.app.max_body} bytes")
            self._body = []
            self._begin(exchange)
            exchange.body_ended()

    def on_message_complete(self) -> None:
        exchange, self.reading = self.reading, None
        self._served = True
        self._since = self.loop.time()
        if exchange is None or exchange.complete:
            return
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        exchange.received = True
        self._begin(exchange)
        exchange.body_ended()

    def _path(self) -> str:
        try:
            path = httptools.parse_url(self._url).path
        except httptools.HttpParserInvalidURLError:
            raise BadRequest("the request's target is not a valid URL") from None
        text = (path or b"/").decode("latin-1")
        return urllib.parse.unquote(text) if "%" in text else text

    # --- answering

    def _begin(self, exchange: Exchange) -> None:
        """Hand the exchange to the application, or queue it behind the one that is being answered."""
        if exchange.is_begun:
            return
        exchange.is_begun = True
        if self.current is not None:
            self.waiting.append(exchange)
            self.transport.pause_reading()  # a client that pipelines waits for its answers
            return
        self._run(exchange)

    def _run(self, exchange: Exchange) -> None:
        self.current = exchange
        task = self.loop.create_task(self.app(exchange))
        exchange.task = task
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def want_body(self, exchange: Exchange) -> None:
        """The application waits for a body that has not all come."""
        if exchange.expects_continue:
            exchange.expects_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answered(self, exchange: Exchange) -> None:
        self.server_state.total_requests += 1
        self.current = None
        self._since = self.loop.time()
        if not exchange.keep_alive or not exchange.received:
            self.transport.close()  # what is left of an unread body must not be taken for a request
            return
        if self.waiting:
            self._run(self.waiting.popleft())
        elif not self.transport.is_closing():
            self.transport.resume_reading()
            if self._closing:
                self.loop.call_later(LAST_CALL, self._close_idle)

    def _refuse(self, error: PointsmanError) -> None:
        """Answer something that never became an exchange, and close."""
        if self.current is None and not self.transport.is_closing():
            exchange = Exchange(self, b"GET", "/", {}, False)
            headers = encode([(b"content-type", b"application/json"), *error.headers()])
            exchange.reply(error.http_status, headers, orjson.dumps(error.body()))
        self.transport.close()
