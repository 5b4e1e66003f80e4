"""Background tasks are kept while they run, told of when they fail, and ended."""

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from proxy import tasks
from proxy.tasks import Tasks


async def test_closing_cancels_what_runs_and_waits_for_it() -> None:
    kept, ended = Tasks(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = kept.spawn(work(), name="work")
    await asyncio.sleep(0)  # it begins
    await kept.close()
    assert task.cancelled()
    assert ended.is_set()


async def test_waiting_lets_it_end_by_itself_and_what_it_spawned() -> None:
    kept, done = Tasks(), asyncio.Event()

    async def second() -> None:
        done.set()

    async def first() -> None:
        kept.spawn(second(), name="second")

    kept.spawn(first(), name="first")
    await kept.wait()
    assert done.is_set()
    await kept.wait()


async def test_a_failure_is_logged_by_the_tasks_name(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Tasks()

    async def work() -> None:
        raise OSError("disk")

    with capture_logs() as told:
        monkeypatch.setattr(tasks, "log", structlog.get_logger())
        task = kept.spawn(work(), name="write")
        await asyncio.wait((task,))
        await asyncio.sleep(0)  # its callback
    assert [(line["event"], line["task"]) for line in told] == [("background task failed", "write")]
