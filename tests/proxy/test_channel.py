"""The line between supervisor and worker: questions both ways, refusals, a sudden end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.channel import Channel, Refused
from proxy.tasks import Tasks


async def answer(message: dict[str, Any]) -> Any:
    match message["do"]:
        case "echo":
            return message["value"]
        case "fail":
            raise ValueError("not like this")
        case "hang":
            await asyncio.Event().wait()
    return None


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    tasks = Tasks()
    one, other = (Channel(sock, answer, tasks) for sock in socket.socketpair())
    await one.open()
    await other.open()
    try:
        yield one, other
    finally:
        await one.close()
        await other.closed.wait()
        await tasks.close()


@pytest.mark.parametrize("value", [None, "ä\n", 2**200, -(2**63) - 1, 0.1, [[["a"], 2**64]], {"x": "y" * 300_000}])
async def test_values_arrive_whole(value: Any) -> None:
    """Money is in pico-dollars: ten million dollars are more than 64 bits."""
    async with ends() as (one, other):
        assert await one.ask("echo", value=value) == value
        assert await other.ask("echo", value=value) == value


async def test_many_questions_at_once_get_their_own_answers() -> None:
    async with ends() as (one, _):
        assert await asyncio.gather(*(one.ask("echo", value=n) for n in range(100))) == list(range(100))


async def test_a_refusal_comes_back_with_its_reason() -> None:
    async with ends() as (one, _):
        with pytest.raises(Refused, match="ValueError: not like this"):
            await one.ask("fail")
        assert await one.ask("echo", value=1) == 1


async def test_what_is_too_large_is_refused_and_the_line_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.channel.MAX_MESSAGE", 1000)
    async with ends() as (one, _):
        with pytest.raises(Refused, match=r"'echo' takes 1,\d\d\d bytes"):
            await one.ask("echo", value="x" * 1000)
        assert await one.ask("echo", value="x") == "x"


async def test_whoever_waits_hears_of_the_end() -> None:
    async with ends() as (one, other):
        waiting = asyncio.get_running_loop().create_task(one.ask("hang"))
        await one.ask("echo", value=1)
        await other.close()
        with pytest.raises(ConnectionError):
            await waiting
        await one.closed.wait()
        with pytest.raises(ConnectionError):
            await one.ask("echo", value=1)


async def test_an_answer_that_comes_too_late_is_dropped() -> None:
    async with ends() as (one, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.ask("hang"), 0)
        assert await one.ask("echo", value=1) == 1


async def test_what_was_said_last_still_arrives() -> None:
    """A worker answers and hangs up at once."""
    async with ends() as (one, other):
        asked = asyncio.get_running_loop().create_task(one.ask("echo", value="x" * 1_000_000))
        await other.ask("echo", value=1)
        await other.close()
        assert await asked == "x" * 1_000_000
