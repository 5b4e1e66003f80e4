from statistics import median

import pytest

from proxy.standins.answer import draw
from proxy.standins.behaviour import Behaviour
from proxy.standins.persona import INSTANT, STRONG, Latency
from proxy.standins.plan import Pace


def test_factors_have_median_one_and_the_said_spread() -> None:
    factors = sorted(STRONG.latency.factor(draw(7, "wait", str(n))) for n in range(4000))
    assert median(factors) == pytest.approx(1, abs=0.05)
    assert factors[3800] == pytest.approx(1.78, abs=0.15)  # exp(0.35 * 1.645)


def test_cached_tokens_take_no_time() -> None:
    latency = Latency(first_token=0.5, prefill=0.2)
    assert latency.before_first(1000, 1.0) == pytest.approx(0.7)
    assert latency.before_first(0, 2.0) == pytest.approx(1.0)


def test_a_request_may_ask_for_its_own_pace() -> None:
    assert Pace.of(INSTANT, 0.5, 100, Behaviour.parse("ttft=0.5&pace=0.02")) == Pace(0.5, 0.02)
