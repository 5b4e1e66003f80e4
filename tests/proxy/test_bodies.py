"""The memory that bodies share, and the turns that uploads take."""

import asyncio
from typing import Any, cast

import pytest

from proxy.bodies import AT_ONCE, COPIES, FREE, Bodies
from proxy.errors import TooLarge, Unavailable
from proxy.exchange import Exchange
from proxy.runtime import Limits

LIMITS = Limits(max_body=10 * FREE, body_memory=15 * COPIES * FREE)


def exchange(length: int = 0) -> Exchange:
    made = Exchange(cast(Any, None), b"POST", "/", {}, True)
    made.length = length
    return made


def test_each_body_is_counted_as_it_grows_and_given_back_once() -> None:
    bodies, first, second = Bodies(), exchange(), exchange()
    assert bodies.grow(first, FREE + 1, LIMITS) is None
    assert bodies.held == COPIES * first.held == COPIES * (FREE + 1)
    assert bodies.grow(first, 3 * FREE, LIMITS) is None
    assert bodies.grow(second, 10 * FREE, LIMITS) is None
    assert bodies.held == 13 * COPIES * FREE
    bodies.give_back(first)
    bodies.give_back(first)
    assert bodies.held == COPIES * second.held == 10 * COPIES * FREE


def test_no_more_is_set_aside_than_will_come() -> None:
    bodies, known = Bodies(), exchange(length=2 * FREE + 5)
    assert bodies.grow(known, 2 * FREE + 1, LIMITS) is None
    assert bodies.held == COPIES * (2 * FREE + 1)
    assert bodies.grow(known, 2 * FREE + 5, LIMITS) is None
    assert bodies.held == COPIES * (2 * FREE + 5)


def test_a_body_is_refused_for_its_own_size_or_for_the_others() -> None:
    bodies, first, second = Bodies(), exchange(), exchange()
    assert isinstance(bodies.refuse(10 * FREE + 1, LIMITS), TooLarge)
    assert isinstance(bodies.grow(first, 10 * FREE + 1, LIMITS), TooLarge)
    assert bodies.grow(first, 10 * FREE, LIMITS) is None
    refusal = bodies.grow(second, 6 * FREE, LIMITS)
    assert isinstance(refusal, Unavailable)
    assert refusal.headers() == [(b"retry-after", b"1")]
    assert isinstance(bodies.refuse(6 * FREE, LIMITS), Unavailable)
    assert bodies.refuse(5 * FREE, LIMITS) is None
    assert (bodies.held, second.held) == (10 * COPIES * FREE, 0)


def test_little_memory_is_room_for_one_body_at_a_time() -> None:
    bodies, first, second = Bodies(), exchange(), exchange()
    bodies.room = FREE
    assert bodies.grow(first, 10 * FREE, LIMITS) is None  # `max_body`: it would never be taken otherwise
    assert isinstance(bodies.grow(second, FREE, LIMITS), Unavailable)
    assert bodies.refused == 1
    bodies.give_back(first)
    assert bodies.grow(second, 10 * FREE, LIMITS) is None


@pytest.mark.parametrize("count", [1, AT_ONCE, 3 * AT_ONCE + 1])
async def test_so_many_read_on_in_one_turn_and_in_order(count: int) -> None:
    bodies, resumed = Bodies(), list[int]()
    for number in range(count):
        bodies.queue(lambda number=number: resumed.append(number))  # type: ignore[misc]
    assert not resumed
    before = 0
    while len(resumed) < count:
        await asyncio.sleep(0)
        assert len(resumed) - before <= AT_ONCE
        before = len(resumed)
    assert resumed == list(range(count))
    bodies.queue(lambda: resumed.append(-1))
    await asyncio.sleep(0)
    assert resumed[-1] == -1
