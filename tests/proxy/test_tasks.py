"""Background tasks: kept, told of when they fail, ended together."""

import asyncio

import structlog
from structlog.testing import capture_logs

from proxy.tasks import Tasks


async def test_closing_ends_what_runs_and_waits_for_it() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    tasks = Tasks()
    for name in ("one", "two"):
        tasks.spawn(work(name), name=name)
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == ["one", "two"]


async def test_a_failure_is_logged_with_the_tasks_name() -> None:
    async def fail() -> None:
        raise ValueError("why")

    structlog.reset_defaults()
    with capture_logs() as logs:
        tasks = Tasks()
        task = tasks.spawn(fail(), name="sweep")
        await asyncio.wait((task,))
        await asyncio.sleep(0)
    assert [(line["event"], line["task"]) for line in logs] == [("background task failed", "sweep")]
    assert isinstance(logs[0]["exc_info"], ValueError)


async def test_waiting_lets_all_end_by_themselves_also_what_they_spawn() -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def second() -> None:
        done.set()

    async def first() -> None:
        tasks.spawn(second(), name="second")

    tasks.spawn(first(), name="first")
    await tasks.wait()
    assert done.is_set()
    await tasks.wait()
