"""Where a base URL leads: host, port, path, and the host's addresses.

Names are looked up in a thread of our own, one look-up per host at a time: the event loop's shared executor has so
few threads that a handful of hung look-ups would stop every other connect. Nobody joins the thread, so that a hung
look-up does not hold up a shutdown.
"""

import _thread
import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

FRESH: Final = 30.0  # seconds an answer is used without asking again; getaddrinfo tells no TTL
STALE: Final = 600.0  # seconds an old answer is still used while the name server is silent or failing
NEGATIVE: Final = 2.0  # seconds a failure is remembered

PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A base URL taken apart. Raises ValueError for what cannot be a model server's."""

    host: str
    port: int
    secure: bool
    prefix: str  # the path, without a trailing slash

    @classmethod
    def parse(cls, base_url: str) -> "Origin":
        url = urlsplit(base_url)
        if url.scheme not in PORTS or not url.hostname:
            raise ValueError(f"not an http(s) URL with a host: {url.scheme}://{url.hostname or ''}")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("a base URL has no credentials, query or fragment; put an API key in `api_key`")
        host = url.hostname if url.hostname.isascii() else url.hostname.encode("idna").decode()
        return cls(host, url.port or PORTS[url.scheme], url.scheme == "https", url.path.rstrip("/"))

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"


class Addresses:
    """The addresses of one host, cached. Old ones serve while new ones are asked for, up to `STALE`."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known: list[str] = []
        self._since = 0.0  # loop time of the last good answer
        self._failure: OSError | None = None
        self._failed_at = 0.0
        self._looking: asyncio.Future[None] | None = None
        try:
            self._literal = [str(ipaddress.ip_address(host))]
        except ValueError:
            self._literal = []

    async def get(self) -> list[str]:
        """Return at least one address, the preferred first. Raises OSError (socket.gaierror) when there is none."""
        if self._literal:
            return self._literal
        loop = asyncio.get_running_loop()
        now = loop.time()
        age = now - self._since
        if self._known and age < FRESH:
            return self._known
        has_failed = self._failure is not None and now - self._failed_at < NEGATIVE
        if self._looking is None and not has_failed:
            self._looking = self._look_up(loop)
        if self._known and age < STALE:
            return self._known
        if self._looking is not None:
            await asyncio.shield(self._looking)  # shared: one caller's cancel must not end it for the others
        if self._failure is not None:
            raise self._failure
        return self._known

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        done: asyncio.Future[None] = loop.create_future()

        def ask() -> None:
            found: list[str] | OSError
            try:
                rows = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(row[4][0]) for row in rows))
            except (OSError, UnicodeError) as error:  # UnicodeError: a label too long for DNS
                found = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._learn, found, done)

        try:
            _thread.start_new_thread(ask, ())  # `Thread.start` waits for the new thread to run, and we are the loop
        except RuntimeError as error:  # no more threads
            loop.call_soon(self._learn, OSError(str(error)), done)
        return done

    def _learn(self, found: list[str] | OSError, done: asyncio.Future[None]) -> None:
        self._looking = None
        now = asyncio.get_running_loop().time()
        if isinstance(found, OSError):
            self._failure, self._failed_at = found, now
        else:
            self._known, self._since, self._failure = found, now, None
        if not done.done():
            done.set_result(None)
