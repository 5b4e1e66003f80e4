"""What is refused when memory or descriptors run out, and when it is taken again."""

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest

from proxy.bodies import Bodies
from proxy.exchange import Exchange
from proxy.listener import Listener, bind, ours
from proxy.outbox import Outbox
from proxy.pressure import Level, Pressure, next_level, room_of
from proxy.runtime import Limits
from proxy.tasks import Tasks
from tests.faults.client import Client

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Hello:
    limits = Limits()
    bodies = Bodies()

    def __init__(self) -> None:
        self.outbox = Outbox()

    async def __call__(self, exchange: Exchange) -> None:
        exchange.reply(200, b"", b"hello")


class Served:
    """A listener with its pressure, which the test applies itself."""

    def __init__(self) -> None:
        sock = bind("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self.tasks = Tasks()
        self.listener = Listener(ours(Hello()), sock, self.tasks)
        self.shed: list[bool] = []
        self.pressure = Pressure(self.listener, Bodies(), self.shed.append, lambda _: None)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.listener.start()
    yield served
    await served.listener.stop(5)
    await served.tasks.close()


def no_descriptor(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


async def asked(client: Client) -> int:
    client.send(GET)
    async with asyncio.timeout(10):
        return (await client.answer()).status


@pytest.mark.parametrize(
    ("level", "share", "then"),
    [
        ("calm", 0.0, "calm"),
        ("calm", 0.899, "calm"),
        ("calm", 0.90, "shedding"),
        ("calm", 0.95, "full"),
        ("shedding", 0.86, "shedding"),
        ("shedding", 0.84, "calm"),
        ("shedding", 0.96, "full"),
        ("full", 0.91, "full"),
        ("full", 0.89, "shedding"),
        ("full", 0.10, "calm"),
        ("full", 3.0, "full"),
    ],
)
def test_levels_go_up_at_once_and_down_later(level: Level, share: float, then: Level) -> None:
    assert next_level(level, share) == then


@pytest.mark.parametrize("descriptors", [256, 1024, 20_000, 1_048_576])
def test_there_is_a_descriptor_for_each_connection_and_its_call(descriptors: int) -> None:
    room, refusals = room_of(descriptors)
    assert room * 2 + refusals < descriptors
    assert 0.4 * descriptors <= room < 0.46 * descriptors
    assert all(count > 0 for count in room_of(10))


async def test_calls_are_shed_once_and_taken_again_once(served: Served) -> None:
    for share in (0.5, 0.91, 0.92, 0.88, 0.97, 0.93, 0.89, 0.5, 0.4):
        await served.pressure.take(share)
    assert served.shed == [True, True, True, False]
    assert served.pressure.level == "calm"


async def test_when_memory_is_full_connections_wait_in_the_queue(served: Served) -> None:
    """Those that are open are served on; those that come are taken when there is memory again, not refused."""
    async with await Client.open(served.url) as old:
        assert await asked(old) == 200
        await served.pressure.take(0.96)
        async with await Client.open(served.url) as new:
            new.send(GET)
            assert await asked(old) == 200
            assert served.listener.connections == 1
            await served.pressure.take(0.5)
            async with asyncio.timeout(10):
                assert (await new.answer()).status == 200


async def test_a_listener_that_cannot_open_again_tries_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor it stays closed, and the watch goes on."""
    await served.pressure.take(0.96)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "dup", no_descriptor)
        await served.pressure.take(0.5)
    assert (served.pressure.level, served.shed) == ("full", [True])
    await served.pressure.take(0.5)
    assert (served.pressure.level, served.shed) == ("calm", [True, False])
    async with await Client.open(served.url) as client:
        assert await asked(client) == 200


async def test_a_stop_while_memory_is_full(served: Served) -> None:
    await served.pressure.take(0.96)
    await served.listener.stop(1)


async def test_the_watch_reads_a_configured_limit(served: Served) -> None:
    """A byte is less than this process uses: the first look sheds, and a look without a limit ends it."""
    limit: list[int | None] = [1]
    watching = served.tasks.spawn(served.pressure.watch(lambda: limit[0]), name="watch")
    async with asyncio.timeout(20):
        while served.shed != [True]:
            await asyncio.sleep(0.01)
        limit[0] = 2**50
        while served.shed != [True, False]:
            await asyncio.sleep(0.01)
    watching.cancel()


async def test_the_room_for_bodies_follows_a_configured_limit(served: Served) -> None:
    limit: list[int | None] = [2**50]
    bodies = served.pressure._bodies
    watching = served.tasks.spawn(served.pressure.watch(lambda: limit[0]), name="watch")
    async with asyncio.timeout(20):
        while bodies.room == sys.maxsize:
            await asyncio.sleep(0.01)
        before = bodies.room
        limit[0] = 2**40
        while bodies.room == before:
            await asyncio.sleep(0.01)
    assert 0 < bodies.room < before
    watching.cancel()
