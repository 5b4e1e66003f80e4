"""Both event loops, raw servers, certificates, and a watch on what a loop would only log."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
import uvloop

from proxy import outbox
from proxy.outbox import Outbox
from proxy.upstreams.base import TLS, Call, Reply, Target, Upstream
from proxy.upstreams.descriptors import Descriptors
from proxy.upstreams.pool import Pool
from proxy.upstreams.registry import CLIENTS
from tests.proxy.upstreams.rawserver import RawServer, Script

Serve = Callable[..., Awaitable[RawServer]]
Connect = Callable[..., Upstream]
PoolOf = Callable[..., Pool]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def nothing_unhandled() -> AsyncIterator[None]:
    """An exception in a callback, or a future whose exception nobody reads, fails the test."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    yield
    assert not seen


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(script: Script, **options: Any) -> RawServer:
            return await stack.enter_async_context(RawServer(script, **options).running())

        yield start


@pytest.fixture
def is_busy() -> bool:
    """Whether a request waits until the loop has come round; see `proxy.outbox`."""
    return False


@pytest.fixture
async def connect(is_busy: bool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Make a client of the given kind for a server; closed at the end."""
    made: list[Upstream] = []
    box = Outbox()
    if is_busy:
        box.is_busy = True
        monkeypatch.setattr(outbox, "BUSY", 0)

    def make(server: RawServer | str, client: str = "pool", **options: Any) -> Upstream:
        url = server if isinstance(server, str) else server.url
        options.setdefault("headers", ((b"authorization", b"Bearer sk-secret-of-test"),))
        upstream = CLIENTS[client](Target("up", url, client=client, **options), Descriptors(), box)
        made.append(upstream)
        return upstream

    yield make
    for upstream in made:
        await upstream.close()


@pytest.fixture
def pool_of(connect: Connect) -> PoolOf:
    """Our own pool for a server."""
    return lambda server, **options: cast("Pool", connect(server, **options))


class Certificates:
    """A CA of our own, and servers' contexts signed by it."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(path))
        self.trusted = TLS(ca=str(path))

    def server(self, name: str = "localhost", **options: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name, **options).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def asking_for_a_client(self) -> tuple[ssl.SSLContext, TLS]:
        """A server that wants a client certificate, and who has one."""
        context = self.server()
        self._ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        mine = self._ca.issue_cert("client.test")
        pem, key = self._folder / "client.pem", self._folder / "client.key"
        mine.cert_chain_pems[0].write_to_path(str(pem))
        mine.private_key_pem.write_to_path(str(key))
        return context, TLS(ca=self.trusted.ca, certificate=str(pem), key=str(key))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def read_all(reply: Reply, parts: list[bytes] | None = None) -> bytes:
    """Read to the end; `parts` holds what had come when that fails."""
    parts = [] if parts is None else parts
    while data := await reply.read(soon()):
        parts.append(data)
    return b"".join(parts)


async def fetch(upstream: Upstream, body: bytes = b"{}", **options: Any) -> tuple[int, bytes]:
    """One call from end to end."""
    reply = await upstream.send(Call(b"/chat/completions", body, **options), soon())
    try:
        return reply.status, await read_all(reply)
    finally:
        reply.close()


def pool_to(target: Target) -> Pool:
    """Our own pool, alone in its loop."""
    return Pool(target, Descriptors(), Outbox())


def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
