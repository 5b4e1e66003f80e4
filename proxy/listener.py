"""Listening sockets, and the end of serving: stop taking connections, let what runs finish, then say goodbye.

uvicorn accepts connections and keeps the date header; when it starts and stops is ours to decide, so its own signal
handlers and its polling wait for the end are not used.
"""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from proxy.refusal import Refusal
from proxy.server import Application, Protocol
from proxy.tasks import Tasks

BACKLOG = 2048  # connections that wait to be taken
SEND_DEADLINE = 60.0  # seconds that a client may take nothing of what was sent to it
UNSENT = 64 * 1024  # bytes of an answer that the system keeps for a client which does not take them yet
GOODBYE = 5.0  # seconds that requests cut by the limit have for their last words, and clients to read them
HURRY = 1.0  # the same when there is no time
TURNS = 3  # of the loop, until connections it has taken are in our set, and its copy of the socket is closed


class Open(set[Any]):
    """A set that one can wait for to be empty. `joined` is called with whoever comes into it."""

    joined: Callable[[Any], object] | None = None
    _emptied: asyncio.Future[None] | None = None

    def add(self, item: Any) -> None:
        super().add(item)
        if self.joined is not None:
            self.joined(item)

    def discard(self, item: Any) -> None:
        super().discard(item)
        if not self and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def wait_empty(self, seconds: float) -> bool:
        """True once it is empty; False when that takes longer."""
        if self:
            if self._emptied is None or self._emptied.done():
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=seconds)
        return not self

    def hurry(self) -> None:
        """Let nobody wait any longer."""
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


Room = Callable[[], tuple[int, int]]


def unlimited() -> tuple[int, int]:
    return sys.maxsize, sys.maxsize


class Listener:
    """Serves an application on one listening socket.

    `room`: connections at once, and how many more to refuse at once: whoever comes above the first is told to come
    again, and counted in `refused`.
    """

    def __init__(self, config: uvicorn.Config, sock: socket.socket, tasks: Tasks, room: Room = unlimited) -> None:
        self.room = room
        self.refused = 0
        self._server = uvicorn.Server(config)
        self._state = self._server.server_state
        self._sock = sock
        self._tasks = tasks
        self._connections = self._state.connections = Open()
        self._requests = self._state.tasks = Open()
        self._refusals: dict[Refusal, None] = {}  # in the order in which they came
        self._taking: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._goodbye = GOODBYE
        self._is_hurried = False

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Returns once connections are taken."""
        self._server.config.load()
        await self._server.on_tick(0)  # the date
        await self.resume()
        self._ticking = self._tasks.spawn(self._server.main_loop(), name="date header")

    async def resume(self) -> None:
        """Take connections, on a copy of the socket: closing that leaves the queue of those that wait."""
        if self._taking is None:
            loop = asyncio.get_running_loop()
            self._taking = await loop.create_server(
                self._protocol, sock=self._sock.dup(), backlog=BACKLOG, start_serving=False
            )
            await self._taking.start_serving()  # apart: whoever is cancelled in it has something to close

    def pause(self) -> None:
        """Take no connections for now: those that come wait, or go to another worker."""
        if self._taking is not None:
            self._taking.close()
            self._taking = None

    def _protocol(self) -> asyncio.Protocol:
        room, refusals = self.room()
        if len(self._connections) >= room:
            self.refused += 1
            return Refusal(self._refusals, refusals)
        config = self._server.config
        made = cast(Any, config.http_protocol_class)(config=config, server_state=self._state, app_state={})
        return cast(asyncio.Protocol, made)

    def refuse_unread(self) -> None:
        """Refuse the requests that have come, or are coming, and were not looked at yet."""
        for connection in list(self._connections):
            if isinstance(connection, Protocol):
                connection.refuse_unread()

    async def stop(self, limit: float) -> None:
        """Close the listener and wait until what runs has finished; cancel what has not after `limit` seconds."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        loop = asyncio.get_running_loop()
        self._connections.joined = lambda connection: loop.call_soon(connection.shutdown)
        for connection in list(self._connections):
            connection.shutdown()
        if limit:
            await self._take_the_last()
        self.pause()
        self._sock.close()
        await _turns()  # until all that were taken are known
        if not await self._connections.wait_empty(0.0 if self._is_hurried else limit):
            for request in list(self._requests):
                request.cancel()
            for connection in list(self._connections):
                if isinstance(connection, Protocol):
                    connection.cut()
        if not await self._requests.wait_empty(self._goodbye):
            for request in list(self._requests):  # its answer is out, and what is left to do takes too long
                request.cancel()
            await self._requests.wait_empty(HURRY)
        await self._connections.wait_empty(self._goodbye)
        for connection in list(self._connections):
            connection.transport.abort()  # a client that does not read its last words
        await _turns()  # until they know
        await self._requests.wait_empty(HURRY)
        for refusal in list(self._refusals):
            refusal.end()

    async def _take_the_last(self) -> None:
        """Take what waits to be taken before the listener is closed: the system resets it with the last copy.

        A connection that becomes whole between our last look and the close is still lost, within microseconds.
        """
        loop = asyncio.get_running_loop()
        if self._taking is not None:
            for each in filter(None, self._taking.sockets):  # none where uvloop has closed it after an error
                loop.remove_reader(each.fileno())  # asyncio's server fails whom it has taken halfway when it closes
            await _turns()
        self.pause()
        await _turns()
        for sock in _accepted(self._sock):
            if self._is_hurried:
                sock.close()
                return
            try:  # one after the other: the room is that of those before it
                await loop.connect_accepted_socket(self._protocol, sock)
            except OSError:  # the client has left, or there is no descriptor
                sock.close()

    def hurry(self) -> None:
        """There is no time to stop in: a running `stop` cuts what runs now, and waits little for clients to read."""
        self._is_hurried = True
        self._goodbye = HURRY
        self._connections.hurry()
        self._requests.hurry()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _accepted(sock: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait in a socket's queue, as far as there are descriptors for them."""
    for _ in range(2 * BACKLOG):  # Linux queues one more than it; others may listen there, so more may come
        try:
            yield sock.accept()[0]
        except ConnectionAbortedError:
            continue
        except OSError:  # none waits, or no descriptor is left
            return


def ours(app: Application) -> uvicorn.Config:
    """The settings that run `app` behind our own protocol."""
    return uvicorn.Config(
        cast(Any, app),
        http=cast(Any, Protocol),
        interface="asgi3",
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )


def asgi(app: Any) -> uvicorn.Config:
    """The settings that run an ASGI application behind uvicorn's protocol."""
    return uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", server_header=False, access_log=False, log_config=None
    )


def bind(address: str) -> socket.socket:
    """Listen on `HOST:PORT` (IPv6 in brackets); port 0 takes a free one. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 -- an empty host means every address; config refuses it without keys
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)  # `localhost` means 127.0.0.1
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
            # A client that stops reading would hold its answer in memory and a call to a model open, for ever.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_DEADLINE * 1000))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux, macOS; inherited likewise
            # Else megabytes would be fetched from the model for a client that reads slowly, or has stopped; and it
            # would have to take a third of them before it is seen to read at all. What is under way is not bounded.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback
