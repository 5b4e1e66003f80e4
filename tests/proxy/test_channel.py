"""The line between two processes: questions and answers over a real socketpair, in any order, until one end goes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.channel import Channel, Message, Refused
from proxy.tasks import Tasks


@asynccontextmanager
async def line(answer: Callable[[Message], Awaitable[Any]]) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two ends; `answer` serves what the first one asks."""
    ours, theirs = socket.socketpair()
    tasks = Tasks()
    asker, answerer = Channel(ours, answer, tasks), Channel(theirs, answer, tasks)
    await asker.open()
    await answerer.open()
    try:
        yield asker, answerer
    finally:
        await asker.close()
        await answerer.close()
        await tasks.close()


async def echo(message: Message) -> Any:
    return {name: value for name, value in message.items() if name != "id"}


async def test_an_answer_comes_back_with_every_digit() -> None:
    """Money is in pico-dollars: integers beyond 64 bits must not become floats on the way."""
    money = 2**64 + 1
    async with line(echo) as (asker, _):
        assert await asker.ask("state", cells=[["a", money], ["b", 0.5]]) == {
            "do": "state", "cells": [["a", money], ["b", 0.5]],
        }  # fmt: skip


async def test_both_ends_may_ask_and_answers_may_overtake() -> None:
    gate = asyncio.Event()

    async def answer(message: Message) -> Any:
        if message["do"] == "slow":
            await gate.wait()
        return message["do"]

    async with line(answer) as (one, other):
        slow = asyncio.gather(one.ask("slow"))
        assert await one.ask("quick") == "quick"
        assert await other.ask("back") == "back"
        gate.set()
        assert await slow == ["slow"]


async def test_a_failure_at_the_other_end_is_told() -> None:
    async def answer(_: Message) -> Any:
        raise ValueError("the config is refused")

    async with line(answer) as (asker, _):
        with pytest.raises(Refused, match="ValueError: the config is refused"):
            await asker.ask("prepare")
        with pytest.raises(Refused):
            await asker.ask("prepare")  # the line goes on


async def test_whoever_waits_hears_that_the_other_end_has_gone() -> None:
    asked = asyncio.Event()

    async def answer(_: Message) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async with line(answer) as (asker, answerer):
        waiting = asyncio.gather(asker.ask("state"), return_exceptions=True)
        await asked.wait()
        await answerer.close()
        (error,) = await asyncio.wait_for(waiting, 20)
        assert isinstance(error, ConnectionError)
        await asyncio.wait_for(asker.closed.wait(), 20)
        with pytest.raises(ConnectionError):
            await asker.ask("state")


async def test_an_answer_that_nobody_waits_for_is_dropped() -> None:
    gate = asyncio.Event()

    async def answer(message: Message) -> Any:
        if message["do"] == "slow":
            await gate.wait()
        return message["do"]

    async with line(answer) as (asker, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asker.ask("slow"), 0.01)
        gate.set()
        assert await asker.ask("quick") == "quick"
