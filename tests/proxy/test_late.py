"""Deadlines that pass while the loop is held up: what came in time is found before anyone gives up."""

import asyncio
import functools
import gc
import socket
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy import late

Scene = Callable[[], Coroutine[Any, Any, None]]


def on_both_loops(scene: Scene) -> Callable[..., None]:
    """asyncio's own looks at its sockets before its timers, uvloop's after them: alone it would show nothing."""

    @pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @functools.wraps(scene)
    def test(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scene())

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask it for its arguments
    return test


async def held_up(until: float, meanwhile: Callable[[], object]) -> None:
    """Hold the loop up until after this time of its clock, in a socket's callback: bytes of many take as long.

    `meanwhile` happens at its beginning: what is armed there cannot fire before.
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


@on_both_loops
async def test_what_lies_in_a_socket_is_read_first() -> None:
    loop = asyncio.get_running_loop()
    seen: list[object] = []

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append(data)

    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(Reader, sock=ours)

    due = loop.time() + 0.02

    def meanwhile() -> None:
        late.Timer(loop, due, late.READ, seen.append, "given up")
        theirs.send(b"in time")

    await held_up(due, meanwhile)
    while len(seen) < 2:
        await asyncio.sleep(0.001)
    assert seen == [b"in time", "given up"]
    transport.close()
    theirs.close()


@on_both_loops
async def test_a_timer_may_be_cancelled_until_the_call() -> None:
    loop = asyncio.get_running_loop()
    seen: list[object] = []
    for turns in range(late.READ + 1):
        timer = late.Timer(loop, loop.time(), late.READ, seen.append, "given up")
        for _ in range(turns):
            await asyncio.sleep(0)
        timer.cancel()
    for _ in range(2 * late.READ + 2):
        await asyncio.sleep(0.001)
    assert not seen


@on_both_loops
async def test_a_timer_leaves_nothing_to_the_garbage_collector() -> None:
    """Else each connection that is closed for being late would wait for it."""

    class Owner:
        called = False

        def call(self) -> None:
            Owner.called = True

    owner = Owner()
    seen = weakref.ref(owner)
    gc.disable()
    try:
        late.Timer(asyncio.get_running_loop(), 0.0, late.READ, owner.call)
        del owner
        while not Owner.called:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # the loop has let go of what it called
        assert seen() is None
    finally:
        gc.enable()


@on_both_loops
async def test_what_came_in_time_is_taken() -> None:
    """Also by a task that waits for a task that waits for it."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    taking: list[asyncio.Task[bytes]] = []
    line = loop.create_task(reader.readexactly(4))
    await asyncio.sleep(0)

    async def taken() -> bytes:
        async with late.until(due):
            return await line
        raise AssertionError("unreachable")

    due = loop.time() + 0.02

    def meanwhile() -> None:
        taking.append(loop.create_task(taken()))
        theirs.send(b"line")

    await held_up(due, meanwhile)
    assert await taking[0] == b"line"
    writer.close()
    theirs.close()


@on_both_loops
async def test_what_does_not_come_is_given_up() -> None:
    loop = asyncio.get_running_loop()
    for seconds in (-1.0, 0.0, 0.02):
        with pytest.raises(TimeoutError):
            async with late.until(loop.time() + seconds):
                await loop.create_future()


@on_both_loops
async def test_who_is_done_is_left_alone() -> None:
    loop = asyncio.get_running_loop()
    async with late.until(loop.time() - 1):
        await asyncio.sleep(0)
    for _ in range(2 * late.TAKEN):
        await asyncio.sleep(0)
