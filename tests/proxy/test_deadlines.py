"""When the waits of an attempt end, and which limit a timeout was. Seconds count from a loop's clock."""

import asyncio
from collections.abc import Iterator

import pytest

from proxy.deadlines import Deadlines
from proxy.runtime import Timeouts
from proxy.upstreams.base import Failed
from routes import failure
from routes.route import Route

BASE = Timeouts(connect=1, first_content=10, idle=5, total=60)
PLAIN = Route("r", "m")


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    loop = Clock()
    yield loop
    loop.close()


def test_a_stream_waits_for_content_then_between_pieces_never_past_the_total(clock: Clock) -> None:
    deadlines = Deadlines(PLAIN, BASE, clock, streamed=True)
    assert (deadlines.connect, deadlines.first, deadlines.next()) == (1, 1010, 1005)
    clock.now = 1058
    assert deadlines.next() == 1060


def test_the_first_content_of_a_whole_answer_is_its_end(clock: Clock) -> None:
    assert Deadlines(PLAIN, BASE, clock, streamed=False).first == 1060


def test_first_content_never_outlasts_the_total(clock: Clock) -> None:
    assert Deadlines(PLAIN, Timeouts(first_content=90, total=20), clock, streamed=True).first == 1020


def test_a_routes_own_timeouts_go_over_the_endpoints(clock: Clock) -> None:
    route = Route("r", "m", timeouts={"first_content": 2.0, "idle": 3.0})
    deadlines = Deadlines(route, BASE, clock, streamed=True)
    assert (deadlines.connect, deadlines.first, deadlines.next()) == (1, 1002, 1003)


@pytest.mark.parametrize(
    ("after", "content", "phase", "seconds"),
    [(10, False, "first_content", "10 s"), (30, True, "idle", "5 s"), (60, True, "total", "60 s"),
     (60, False, "total", "60 s")],
)  # fmt: skip
def test_a_timeout_says_which_limit_it_was(
    clock: Clock, after: float, content: bool, phase: str, seconds: str
) -> None:
    deadlines = Deadlines(PLAIN, BASE, clock, streamed=True)
    clock.now += after
    told = deadlines.explain(Failed(failure.TIMEOUT, "'m' said nothing", phase="idle"), content)
    assert (told.failure, told.phase) == (failure.TIMEOUT, phase)
    assert told.message == f"'m' said nothing ({phase} timeout of {seconds})"


@pytest.mark.parametrize("failed", [Failed(failure.TIMEOUT, "x", phase="connect"), Failed(failure.BAD_ANSWER, "x")])
def test_other_failures_are_left_as_they_are(clock: Clock, failed: Failed) -> None:
    assert Deadlines(PLAIN, BASE, clock, streamed=True).explain(failed, content=False) is failed
