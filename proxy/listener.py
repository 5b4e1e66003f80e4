"""Listening sockets, and the end of serving: stop taking connections, let what runs finish, then say goodbye.

uvicorn accepts connections and keeps the date header; when it starts and stops is ours to decide, so its own signal
handlers and its polling wait for the end are not used.
"""

import asyncio
import ipaddress
import socket
from typing import Any, cast

import uvicorn

from proxy.server import Application, Protocol
from proxy.tasks import Tasks

SEND_DEADLINE = 60.0  # seconds that a client may take nothing of what was sent to it
GOODBYE = 5.0  # seconds that requests cut by the limit have for their last words, and clients to read them


class Open(set[Any]):
    """A set that one can wait for to be empty."""

    _emptied: asyncio.Future[None] | None = None

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


class Listener:
    """Serves an application on one listening socket."""

    def __init__(self, config: uvicorn.Config, sock: socket.socket, tasks: Tasks) -> None:
        self._server = uvicorn.Server(config)
        self._sock = sock
        self._tasks = tasks
        self._connections = self._server.server_state.connections = Open()
        self._requests = self._server.server_state.tasks = Open()
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once connections are taken."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.on_tick(0)  # the date
        await self._server.startup(sockets=[self._sock])
        self._ticking = self._tasks.spawn(self._server.main_loop(), name="date header")

    async def stop(self, limit: float) -> None:
        """Close the listener and wait until what runs has finished; cancel what has not after `limit` seconds."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        for server in self._server.servers:
            server.close()
        self._sock.close()
        for connection in list(self._connections):
            connection.shutdown()
        if not await self._connections.wait_empty(limit):
            for request in list(self._requests):
                request.cancel()
            for connection in list(self._connections):
                if isinstance(connection, Protocol):
                    connection.cancel()
        await self._requests.wait_empty(GOODBYE)
        await self._connections.wait_empty(GOODBYE)
        for connection in list(self._connections):
            connection.transport.abort()  # a client that does not read its last words


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
        sock.bind(where)
        sock.listen(2048)
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
