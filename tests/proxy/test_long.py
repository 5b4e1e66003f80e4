"""Long work: in steps, one piece of work at a time, and whatever it ends with comes out."""

import asyncio
from collections.abc import Generator

import pytest

from proxy.long import Long


async def test_others_run_between_the_steps_and_no_two_pieces_of_work_at_once() -> None:
    long, steps = Long(), list[str]()

    def work(name: str) -> Generator[None, None, str]:
        for number in range(3):
            steps.append(f"{name}{number}")
            yield
        return name

    async def other() -> None:
        for _ in range(3):
            steps.append("-")
            await asyncio.sleep(0)

    assert await asyncio.gather(long.run(work("a")), other(), long.run(work("b"))) == ["a", None, "b"]
    assert [step for step in steps if step != "-"] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert steps[1] == "-"


async def test_what_fails_or_is_cancelled_does_not_hold_up_the_next() -> None:
    long = Long()

    def fails() -> Generator[None, None, None]:
        yield
        raise ValueError("no good")

    def endless() -> Generator[None, None, None]:
        while True:
            yield

    def good() -> Generator[None, None, int]:
        yield
        return 1

    with pytest.raises(ValueError, match="no good"):
        await long.run(fails())
    task = asyncio.get_running_loop().create_task(long.run(endless()))
    await asyncio.sleep(0)
    task.cancel()
    assert await long.run(good()) == 1
