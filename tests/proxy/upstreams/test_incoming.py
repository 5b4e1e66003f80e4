"""How bytes come in: what a server sends before it closes is read to its end, however slowly."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from proxy.upstreams import tls
from proxy.upstreams.base import Call, Failed, Target
from proxy.upstreams.incoming import Encrypted
from proxy.upstreams.pool import Pool
from tests.proxy.upstreams.conftest import Certificates, Serve, soon, until
from tests.proxy.upstreams.rawserver import answer, once

PoolOf = Callable[..., Pool]
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
    reply = await Pool(closing(body)).send(CALL, soon())
    found = b""
    while data := await reply.read(soon()):
        found += data
        await asyncio.sleep(pause)
    assert found == body
    reply.close()


async def test_one_whose_answer_is_poured(closing: Callable[[bytes], Target]) -> None:
    body = BODY * 4000
    reply = await Pool(closing(body)).send(CALL, soon())
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

        pool = Pool(Target("up", f"https://localhost:{server.getsockname()[1]}/v1", tls=certificates.trusted))
        for _ in range(20):
            closing = threading.Thread(target=hang_up)
            closing.start()
            with pytest.raises(Failed) as caught:
                await pool.send(CALL, soon(2.0))
            await asyncio.to_thread(closing.join, 10)
            assert not closing.is_alive()
            assert caught.value.failure == "connect"
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
        connection = Encrypted("up", lambda _: None)
        connection._loop = cast("asyncio.AbstractEventLoop", Slow())

        async def hang_up() -> None:
            (await shaking).close()

        hanging = asyncio.create_task(hang_up())
        with pytest.raises(ConnectionResetError):
            await connection.over(ours, trusted, "localhost")
        await hanging
