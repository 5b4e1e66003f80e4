"""Connections above the room are told to come again, in OpenAI's shape, and closed; those inside are unharmed."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from proxy.listener import Listener
from tests.faults.client import Client
from tests.proxy.test_pressure import GET, Served, asked


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """With room for one connection and two refusals."""
    served = Served()
    await served.listener.start()
    served.listener.room = lambda: (1, 2)
    yield served
    await served.listener.stop(5)
    await served.tasks.close()


async def until_taken(listener: Listener, connections: int, refused: int) -> None:
    async with asyncio.timeout(10):
        while (listener.connections, listener.refused) != (connections, refused):
            await asyncio.sleep(0.001)


async def test_one_too_many_is_told_to_come_again(served: Served) -> None:
    async with await Client.open(served.url) as inside, await Client.open(served.url) as outside:
        assert await asked(inside) == 200
        outside.send(GET)
        answer = await outside.answer()
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"].startswith("req_")
        assert await asked(inside) == 200
        assert served.listener.refused == 1


async def test_a_large_body_does_not_reset_the_answer_away(served: Served) -> None:
    async with await Client.open(served.url) as inside, await Client.open(served.url) as outside:
        assert await asked(inside) == 200
        outside.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n" + b"x" * 4_000_000)
        assert (await outside.answer()).status == 503


async def test_there_is_room_again_once_one_has_left(served: Served) -> None:
    async with await Client.open(served.url) as first:
        assert await asked(first) == 200
    await until_taken(served.listener, 0, 0)
    async with await Client.open(served.url) as second:
        assert await asked(second) == 200


async def test_the_oldest_refusal_makes_room_for_the_newest(served: Served) -> None:
    """Clients that connect and say nothing are not kept; they are told all the same."""
    async with await Client.open(served.url) as inside:
        assert await asked(inside) == 200
        silent = [await Client.open(served.url) for _ in range(5)]
        await until_taken(served.listener, 1, 5)
        for client in silent:
            async with client, asyncio.timeout(10):
                assert (await client.answer()).status == 503
