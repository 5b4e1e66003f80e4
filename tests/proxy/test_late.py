"""Deadlines that pass while the loop is held up: what came in time is found before anyone gives up."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from proxy import late


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def held_up(until: float, meanwhile: Callable[[], object]) -> None:
    """Hold the loop up until after this time of its clock, in a socket's callback: bytes of many take as long.

    `meanwhile` happens elsewhere, at its beginning.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    begun = (loop.time(), time.monotonic())

    class Slow(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            meanwhile()
            time.sleep(max(0.0, until + 0.02 - begun[0] - (time.monotonic() - begun[1])))
            done.set_result(None)

    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(Slow, sock=ours)
    theirs.send(b"x")
    await done
    transport.close()
    theirs.close()


class TestTurns:
    async def test_what_lies_in_a_socket_is_read_first(self) -> None:
        loop = asyncio.get_running_loop()
        seen: list[object] = []

        class Reader(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                seen.append(data)

        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Reader, sock=ours)
        due = loop.time() + 0.02
        loop.call_at(due, late.turns, loop, late.READ, seen.append, "given up")
        await held_up(due, lambda: theirs.send(b"in time"))
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        assert seen == [b"in time", "given up"]
        transport.close()
        theirs.close()


class TestUntil:
    async def test_what_came_in_time_is_taken(self) -> None:
        """Also by a task that waits for a task that waits for it."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        due = loop.time() + 0.1

        async def line() -> bytes:
            return await loop.create_task(reader.readexactly(4))

        async def taken() -> bytes:
            async with late.until(due):
                return await loop.create_task(line())
            raise AssertionError("unreachable")

        taking = loop.create_task(taken())
        await asyncio.sleep(0.01)
        await held_up(due, lambda: theirs.send(b"line"))
        assert await taking == b"line"
        writer.close()
        theirs.close()

    async def test_what_does_not_come_is_given_up(self) -> None:
        loop = asyncio.get_running_loop()
        for seconds in (-1.0, 0.0, 0.02):
            with pytest.raises(TimeoutError):
                async with late.until(loop.time() + seconds):
                    await loop.create_future()

    async def test_who_is_done_is_left_alone(self) -> None:
        loop = asyncio.get_running_loop()
        async with late.until(loop.time() - 1):
            await asyncio.sleep(0)
        for _ in range(2 * late.TAKEN):
            await asyncio.sleep(0)
