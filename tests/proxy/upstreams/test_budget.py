"""Retries stay a share of the requests and of the money."""

import random

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.budget import SPAN, Budget, Retries

LIMITS = Retries()


def retry(budget: Budget, now: float, limits: Retries = LIMITS, in_flight: int = 0, wasted: int = 0) -> bool:
    allowed = budget.allows(now, limits, in_flight, wasted)
    if allowed:
        budget.retried(wasted)
    return allowed


@given(st.floats(1, 300), st.integers(0))
def test_if_everything_fails_a_fifth_is_retried(rate: float, seed: int) -> None:
    """In any span there are never more retries than the floor, or the share of two spans' requests, allows."""
    budget, now, chance = Budget(), 0.0, random.Random(seed)
    requests, made = [], []
    while now < 3 * SPAN and len(requests) < 3000:
        now += chance.expovariate(rate)
        budget.begin(now)
        requests.append(now)
        if retry(budget, now):
            made.append(now)
    recent = sum(at > now - SPAN for at in made)
    assert recent <= max(LIMITS.floor * SPAN, 0.2 * sum(at > now - 2 * SPAN for at in requests)) + 1


def test_the_floor_lets_a_quiet_proxy_retry() -> None:
    budget = Budget()
    assert sum(retry(budget, 0) for _ in range(100)) == 30


def test_long_calls_in_flight_count() -> None:
    assert sum(retry(Budget(), 0, in_flight=1000) for _ in range(10)) == 10
    budget = Budget()
    assert sum(retry(budget, 0, in_flight=1000) for _ in range(500)) == 200


def test_the_past_is_forgotten() -> None:
    budget = Budget()
    while retry(budget, 0):
        pass
    assert not retry(budget, SPAN + 1)
    assert retry(budget, 2 * SPAN + 1)


def test_none_is_none() -> None:
    assert not retry(Budget(), 0, Retries(budget=0, floor=0))


def test_failed_attempts_that_cost_money_are_a_share_of_the_spend() -> None:
    """Each attempt, good or bad, costs 100: after the floor of three, a twentieth may be wasted."""
    budget = Budget()
    retried = 0
    for _ in range(1000):
        budget.begin(0)
        budget.pay(100, is_wasted=False)
    for _ in range(200):
        budget.begin(0)
        budget.pay(100, is_wasted=True)
        if retry(budget, 0, wasted=100):
            retried += 1
            budget.pay(100, is_wasted=False)
    assert 50 <= retried <= 60
    assert retry(budget, 0, wasted=0), "what failed for free is not held back"
