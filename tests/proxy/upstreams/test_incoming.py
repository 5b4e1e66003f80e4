"""How bytes come in: what a server sends before it closes is read to its end, however slowly."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from proxy.outbox import Outbox
from proxy.upstreams import incoming, tls
from proxy.upstreams.base import Call, Failed, Target
from proxy.upstreams.incoming import Encrypted
from tests.proxy.upstreams.conftest import Certificates, PoolOf, Serve, pool_to, soon, until
from tests.proxy.upstreams.rawserver import answer, once

CALL = Call(b"/x", b"{}")


@pytest.fixture(params=["plain", "tls, no goodbye", "tls, goodbye"])
def closing(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Callable[[bytes], Target]]:
    """Targets that send this body and close at once. Their servers are threads: they do not wait for our loop."""
    context = certificates.server() if request.param != "plain" else None
    with contextlib.ExitStack() as servers:

        def target(body: bytes) -> Target:
            server = servers.enter_context(socket.create_server(("127.0.0.1", 0)))
            sent = answer(body, headers=b"connection: close\r\n")
            run = threading.Thread(target=serve_one, args=(server, context, sent, request.param == "tls, goodbye"))
            run.start()
            servers.callback(run.join, 10)
            scheme = "https://localhost" if context else "http://127.0.0.1"
            return Target("up", f"{scheme}:{server.getsockname()[1]}/v1", tls=certificates.trusted)

        yield target


def serve_one(server: socket.socket, context: ssl.SSLContext | None, sent: bytes, says_goodbye: bool) -> None:
    peer, _ = server.accept()
    peer.settimeout(10)
    if context is not None:
        peer = context.wrap_socket(peer, server_side=True)
    with peer:
        while not peer.recv(65536).endswith(CALL.body):
            pass
        peer.sendall(sent)
        if says_goodbye and isinstance(peer, ssl.SSLSocket):
            goodbye(peer)


def goodbye(peer: ssl.SSLSocket) -> None:
    peer.settimeout(0)
    with contextlib.suppress(OSError):  # it does not wait for ours
        peer.unwrap()


BODY = bytes(range(256))


@pytest.mark.parametrize("pause", [0.0, 0.002], ids=["quickly", "slowly"])
@pytest.mark.parametrize("size", [30_000, 200_000, 2_000_000])
async def test_a_server_that_closes_after_its_answer(
    closing: Callable[[bytes], Target], size: int, pause: float
) -> None:
    body = BODY * (size // 256)
    reply = await pool_to(closing(body)).send(CALL, soon())
    found = b""
    while data := await reply.read(soon()):
        found += data
        await asyncio.sleep(pause)
    assert found == body
    reply.close()


async def test_one_whose_answer_is_poured(closing: Callable[[bytes], Target]) -> None:
    body = BODY * 4000
    reply = await pool_to(closing(body)).send(CALL, soon())
    found: list[bytes] = []

    def take(data: bytes) -> float | None:
        found.append(data)
        return None if len(found) % 3 == 0 else soon()

    while await reply.pour(take, soon()):
        await asyncio.sleep(0.002)
    assert b"".join(found) == body
    reply.close()


async def test_a_slow_reader_holds_up_a_server_with_tls(
    serve: Serve, pool_of: PoolOf, certificates: Certificates
) -> None:
    server = await serve(once(answer(bytes(50_000_000))), tls=certificates.server())
    reply = await pool_of(server, tls=certificates.trusted).send(Call(b"/x", b"{}"), soon())
    await asyncio.sleep(0.3)
    assert reply._connection is not None
    assert reply._connection._unread <= 1024 * 1024
    reply.close()


@pytest.mark.parametrize("when", ["at once", "after the hello", "after the handshake"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_server_that_hangs_up_instead_of_an_answer(certificates: Certificates, how: str, when: str) -> None:
    """It could not be connected to, which is known at once: nobody waits for what cannot come."""
    context = certificates.server()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            peer, _ = server.accept()
            if when == "after the hello":
                peer.recv(65536)
            elif when == "after the handshake":
                peer = context.wrap_socket(peer, server_side=True)
            if how == "rst":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

        pool = pool_to(Target("up", f"https://localhost:{server.getsockname()[1]}/v1", tls=certificates.trusted))
        for _ in range(20):
            closing = threading.Thread(target=hang_up)
            closing.start()
            with pytest.raises(Failed) as caught:
                await pool.send(CALL, soon(2.0))
            await asyncio.to_thread(closing.join, 10)
            assert not closing.is_alive()
            assert caught.value.failure == "connect"
            assert pool.size == 0


class TlsServer:
    """One connection of a server which puts its records together as it likes: more of them in one segment, say."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.url = f"https://localhost:{self._listening.getsockname()[1]}/v1"

    def accept(self) -> None:
        self._peer, _ = self._listening.accept()
        self._peer.settimeout(10)

    def shake(self, then: bytes = b"") -> None:
        """The handshake; `then` goes out with its last flight."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self._in.write(self._peer.recv(65536))
        if then:
            self._tls.write(then)
        self.flush()

    def request(self) -> None:
        got = b""
        while not got.endswith(CALL.body):
            try:
                got += self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._in.write(self._peer.recv(65536))

    def flush(self, then: bytes = b"") -> None:
        if data := self._out.read() + then:
            self._peer.sendall(data)

    def write(self, data: bytes, then: bytes = b"") -> None:
        """`then` is no TLS."""
        self._tls.write(data)
        self.flush(then)

    def close(self) -> None:
        self._peer.close()
        self._listening.close()


@contextlib.asynccontextmanager
async def acting(server: TlsServer, act: Callable[[], None]) -> AsyncIterator[None]:
    running = asyncio.create_task(asyncio.to_thread(act))
    try:
        yield
    finally:
        await running
        server.close()


async def test_an_answer_that_comes_with_the_handshake_is_nobodys(certificates: Certificates) -> None:
    """It would pass for that to a request which has not been sent."""
    context = certificates.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server has the last word of the handshake
    server = TlsServer(context)

    def act() -> None:
        server.accept()
        server.shake(then=answer(b"early"))

    pool = pool_to(Target("up", server.url, tls=certificates.trusted))
    async with acting(server, act):
        with pytest.raises(Failed) as caught:
            await pool.send(CALL, soon(3600))
    assert caught.value.failure == "connect"
    await pool.close()
    assert pool.size == 0


async def test_what_tls_cannot_read_may_have_been_an_answer(certificates: Certificates) -> None:
    """Which is billed: the call must not be made again as if it had not been."""
    server = TlsServer(certificates.server())

    def act() -> None:
        server.accept()
        server.shake()
        server.request()
        server.write(answer(b"{}"), then=b"\x17\x03\x03\x00\x20" + bytes(32))

    async with acting(server, act):
        with pytest.raises(Failed) as caught:
            await pool_to(Target("up", server.url, tls=certificates.trusted)).send(CALL, soon())
    assert caught.value.failure == "bad_answer"


async def test_a_server_that_wants_a_certificate_was_not_connected_to(certificates: Certificates) -> None:
    """In TLS 1.3 it says so only after our side of the handshake is over."""
    context = certificates.server()
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server:

        def act() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(ssl.SSLError):
                context.wrap_socket(peer, server_side=True)

        running = asyncio.create_task(asyncio.to_thread(act))
        url = f"https://localhost:{server.getsockname()[1]}/v1"
        with pytest.raises(Failed) as caught:
            await pool_to(Target("up", url, tls=certificates.trusted)).send(CALL, soon())
        await running
    assert caught.value.failure == "connect"


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("answers", [False, True], ids=["without a word", "with an answer"])
async def test_a_server_that_half_closes_and_reads_no_more_is_not_waited_for(
    certificates: Certificates, encrypted: bool, answers: bool
) -> None:
    """Its end is known; what it has not taken it never will."""
    early = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\nno"
    context = certificates.server()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def act() -> None:
            peer, _ = server.accept()
            peer.settimeout(40)
            if encrypted:
                peer = context.wrap_socket(peer, server_side=True)
            with peer:
                peer.recv(1000)
                if answers:
                    peer.sendall(early)
                if isinstance(peer, ssl.SSLSocket):
                    goodbye(peer)
                socket.socket.shutdown(peer, socket.SHUT_WR)  # the socket's own: TLS would end both halves
                asyncio.run_coroutine_threadsafe(asyncio.wait_for(over.wait(), 40), loop).result()

        running = asyncio.create_task(asyncio.to_thread(act))
        scheme = "https://localhost" if encrypted else "http://127.0.0.1"
        pool = pool_to(Target("up", f"{scheme}:{server.getsockname()[1]}/v1", tls=certificates.trusted))
        call = Call(b"/x", bytes(50_000_000))
        async with asyncio.timeout(30):
            if answers:
                reply = await pool.send(call, soon(3600))
                assert reply.status == 413
                assert await reply.read(soon(3600)) == b"no"
                assert await reply.read(soon(3600)) == b""
                reply.close()
            else:
                with pytest.raises(Failed) as caught:
                    await pool.send(call, soon(3600))
                assert caught.value.failure == "connect"
        over.set()
        await running
    assert pool.size == 0


async def test_one_that_is_lost_before_we_hear_of_the_handshake(certificates: Certificates) -> None:
    """Nobody would be told any more that it is."""

    class Slow:
        """The loop, which resumes who waits for a handshake only when the server has gone."""

        create_connection = asyncio.get_running_loop().create_connection

        async def start_tls(self, source: asyncio.Transport, *rest: Any, **more: Any) -> Any:
            transport = await asyncio.get_running_loop().start_tls(source, *rest, **more)
            await until(source.is_closing)
            return transport

    context, trusted = certificates.server(), tls.context(certificates.trusted)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        ours.setblocking(False)
        peer, _ = server.accept()
        shaking = asyncio.to_thread(context.wrap_socket, peer, server_side=True)
        connection = Encrypted("up", lambda _: None, Outbox())
        connection._loop = cast("asyncio.AbstractEventLoop", Slow())

        async def hang_up() -> None:
            (await shaking).close()

        hanging = asyncio.create_task(hang_up())
        with pytest.raises(ConnectionResetError):
            await connection.over(ours, trusted, "localhost")
        await hanging


async def test_the_pools_limit_counts_for_a_handshake_not_the_loops(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is a minute; a config may say more. Silence is waited for as long as the pool waits."""
    monkeypatch.setattr(incoming, "HANDSHAKE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = pool_to(Target("up", f"https://localhost:{server.getsockname()[1]}/v1", tls=certificates.trusted))
        with pytest.raises(Failed) as caught:  # the loop's limit is what we say it is
            await pool.send(Call(b"/x", b"{}", tls_timeout=20), soon(20))
        assert "in time" not in str(caught.value)
    monkeypatch.undo()
    assert incoming.HANDSHAKE > 3600
