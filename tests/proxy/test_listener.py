"""Binding addresses, waiting for a set to be empty, and who comes while the listener closes."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from proxy import server
from proxy.bodies import Bodies
from proxy.exchange import Exchange
from proxy.listener import UNSENT, Listener, Open, address_of, bind, is_loopback, ours
from proxy.outbox import Outbox
from proxy.runtime import Limits
from proxy.tasks import Tasks

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.mark.parametrize(
    ("address", "host", "private"),
    [
        ("127.0.0.1:0", "127.0.0.1", True),
        ("127.0.0.3:0", "127.0.0.3", True),
        ("localhost:0", "127.0.0.1", True),
        ("0.0.0.0:0", "0.0.0.0", False),
        (":0", "0.0.0.0", False),
    ],
)
def test_addresses_are_bound_as_written(address: str, host: str, private: bool) -> None:
    with bind(address) as sock:
        assert address_of(sock) == f"{host}:{sock.getsockname()[1]}"
        assert is_loopback(sock) is private
        assert not sock.getblocking()
        socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, sock.getsockname()[1])).close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_in_brackets() -> None:
    try:
        sock = bind("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with sock:
        assert address_of(sock) == f"[::1]:{sock.getsockname()[1]}"
        assert is_loopback(sock)


def test_a_port_in_use_is_an_error_and_leaves_no_socket() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(OSError, match="in use"):
        bind(address_of(taken))


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system keeps what it likes")
def test_the_system_keeps_little_for_a_client_that_does_not_read() -> None:
    """Of megabytes; what the client's own system takes for it comes on top."""
    with bind("127.0.0.1:0") as sock, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(sock.getsockname())
        sock.setblocking(True)
        taken, _ = sock.accept()
        with taken:
            taken.setblocking(False)
            assert 0 < taken.send(bytes(4 * 2**20)) < 3 * UNSENT


async def test_waiting_for_a_set_to_be_empty() -> None:
    things = Open()
    assert await things.wait_empty(0)
    things |= {1, 2}
    assert not await things.wait_empty(0)
    waiting = [asyncio.get_running_loop().create_task(things.wait_empty(20)) for _ in range(2)]
    await asyncio.sleep(0)
    things.discard(1)
    things.discard(3)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    things.discard(2)
    assert await asyncio.gather(*waiting) == [True, True]


class Hello:
    limits = Limits()
    bodies = Bodies()

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.begun = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, exchange: Exchange) -> None:
        self.begun += 1
        await self.may_answer.wait()
        exchange.reply(200, b"", b"hello")


class Served:
    """A listener that has started, and clients that ask it by blocking sockets."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.sock = bind("127.0.0.1:0")
        self.where = self.sock.getsockname()
        self.app = Hello()
        self.listener = Listener(ours(self.app), self.sock, self.tasks)

    def client(self, sent: bytes = GET) -> socket.socket:
        client = socket.create_connection(self.where, timeout=10)
        client.sendall(sent)
        return client


def play(
    new_loop: Callable[[], asyncio.AbstractEventLoop], scene: Callable[[Served], Coroutine[None, None, None]]
) -> None:
    async def main() -> None:
        served = Served()
        await served.listener.start()
        await scene(served)
        await served.tasks.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def said(client: socket.socket) -> bytes:
    """All until the server closes. Raises ConnectionResetError."""
    with client:
        return await asyncio.to_thread(lambda: b"".join(iter(lambda: client.recv(65536), b"")))


@LOOPS
def test_who_waits_to_be_taken_when_the_listener_closes_is_answered(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Their connections are made, by the system: they have sent what they want, and would be reset."""

    async def scene(served: Served) -> None:
        served.listener.pause()
        clients = [served.client() for _ in range(50)]
        await served.listener.stop(5)
        for client in clients:
            answer = await said(client)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            served.client()

    play(new_loop, scene)


@pytest.mark.parametrize("turns", range(6))
@LOOPS
def test_who_is_being_taken_when_the_listener_closes_is_answered(
    new_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    """However far the loop has come with them; nor does one that asks a little later keep the stop to its limit."""

    async def scene(served: Served) -> None:
        late = served.client(b"")
        asking = served.client()
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping = asyncio.get_running_loop().create_task(served.listener.stop(3600))
        for _ in range(20):
            await asyncio.sleep(0)
        late.sendall(GET)
        for client in (late, asking):
            assert (await said(client)).startswith(b"HTTP/1.1 200 ")
        await stopping

    play(new_loop, scene)


@LOOPS
def test_who_has_left_before_it_was_taken_is_not_missed(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scene(served: Served) -> None:
        served.listener.pause()
        for reset in (True, False):
            client = served.client()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
            client.close()
        staying = served.client()
        await served.listener.stop(5)
        assert (await said(staying)).startswith(b"HTTP/1.1 200 ")
        assert served.listener.connections == 0

    play(new_loop, scene)


@LOOPS
def test_one_that_never_asks_holds_up_a_stop_for_a_moment_only(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_CALL", 0.1)

    async def scene(served: Served) -> None:
        served.listener.pause()
        client = served.client(b"")
        async with asyncio.timeout(30):
            await served.listener.stop(3600)
        assert await said(client) == b""

    play(new_loop, scene)


@LOOPS
def test_another_that_listens_there_takes_who_comes_later(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A worker that is replaced must not end the queue of the others."""

    async def scene(served: Served) -> None:
        with served.sock.dup() as other:
            await served.listener.stop(5)
            client = served.client()
            taken, _ = other.accept()
            with taken, client:
                assert taken.getpeername() == client.getsockname()

    play(new_loop, scene)


@LOOPS
def test_no_more_are_taken_than_there_is_room_for(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Each would want a descriptor for its call, too."""

    async def scene(served: Served) -> None:
        served.listener.room = lambda: (3, 100)
        served.listener.pause()
        clients = [served.client() for _ in range(10)]
        served.app.may_answer.clear()
        stopping = asyncio.get_running_loop().create_task(served.listener.stop(3600))
        refused = [await said(client) for client in clients[3:]]
        served.app.may_answer.set()
        assert [answer[:12] for answer in refused] == [b"HTTP/1.1 503"] * 7
        assert [(await said(client))[:12] for client in clients[:3]] == [b"HTTP/1.1 200"] * 3
        await stopping

    play(new_loop, scene)


@pytest.mark.parametrize("turns", range(12))
@LOOPS
def test_one_is_hurried_however_far_a_stop_has_come(
    new_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    async def scene(served: Served) -> None:
        served.app.may_answer.clear()
        client = served.client()
        while not served.app.begun:
            await asyncio.sleep(0)
        stopping = asyncio.get_running_loop().create_task(served.listener.stop(3600))
        for _ in range(turns):
            await asyncio.sleep(0)
        served.listener.hurry()
        async with asyncio.timeout(30):
            await stopping
        client.close()

    play(new_loop, scene)


@LOOPS
def test_without_time_nobody_is_taken(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Their calls would be paid for, and cut."""

    async def scene(served: Served) -> None:
        served.listener.pause()
        client = served.client()
        await served.listener.stop(0.0)
        with pytest.raises(ConnectionResetError):
            await said(client)
        assert served.app.begun == 0

    play(new_loop, scene)


@LOOPS
def test_a_server_that_the_loop_has_closed_is_no_obstacle(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """As uvloop does after an error; what it gives for its sockets then are none."""

    async def scene(served: Served) -> None:
        assert served.listener._taking is not None
        served.listener._taking.close()
        served.listener._taking = cast(Any, SimpleNamespace(sockets=[None], close=served.listener._taking.close))
        client = served.client()
        await served.listener.stop(5)
        assert (await said(client)).startswith(b"HTTP/1.1 200 ")

    play(new_loop, scene)
