"""What the baseline would have cost."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter import prices
from proxy.meter.baseline import MEMORY, NO_BASELINE, Learned, answered, estimated
from proxy.meter.usage import Usage
from tests.proxy.meter.samples import PRICES, attempt

STRONG = PRICES["strong"]  # 2 / 0.2 cached / 10
LONG: dict[str, Any] = {
    "prompt_chars": 20_000,
    "static_chars": 16_000,
    "output_chars": 400,
    "rate": 0.0,
    "ttl": 300.0,
}


def test_without_traffic_or_knowledge_everything_is_new() -> None:
    """5,000 tokens at $2 and 100 at $10 a million."""
    found = estimated(Learned(), "strong", STRONG, **LONG)
    assert found.usage == Usage(input=5000, output=100)
    assert (found.cost, found.uncached, found.source) == (11_000_000_000, 11_000_000_000, "estimated")


def test_a_busy_policy_keeps_its_static_prompt_cached() -> None:
    """1 - exp(-rate x TTL) of the static part: half of 4,000 tokens where that is a half."""
    found = estimated(Learned(), "strong", STRONG, **{**LONG, "rate": math.log(2) / 300})
    assert found.usage == Usage(input=3000, cached_input=2000, output=100)
    assert found.uncached == 11_000_000_000
    assert found.cost == 11_000_000_000 - 2000 * 1_800_000


def test_an_observed_share_above_the_predicted_one_wins() -> None:
    learned = Learned()
    learned.observe("strong", 40_000, 4_000, Usage(input=1000, cached_input=9000, output=1000, reasoning=50))
    found = estimated(learned, "strong", STRONG, **{**LONG, "rate": 0.001})
    assert found.usage == Usage(input=500, cached_input=4500, output=100, reasoning=50)


@pytest.mark.parametrize(("characters", "cached"), [(4096, 1024), (4092, 0)])
def test_a_prompt_too_short_for_the_vendors_cache_never_hits(characters: int, cached: int) -> None:
    given = {**LONG, "prompt_chars": characters, "static_chars": characters, "rate": 100.0}
    found = estimated(Learned(), "strong", STRONG, **given)
    assert found.usage is not None
    assert found.usage.cached_input == cached


def test_a_server_of_ones_own_caches_short_prompts_too() -> None:
    """What a model reports counts whatever its vendor's rules are."""
    learned = Learned()
    learned.observe("strong", 400, 400, Usage(input=25, cached_input=75, output=100))
    given = {**LONG, "prompt_chars": 400, "static_chars": 400, "rate": 100.0}
    found = estimated(learned, "strong", STRONG, **given)
    assert found.usage is not None
    assert (found.usage.input, found.usage.cached_input) == (25, 75)


def test_workers_share_a_policys_requests() -> None:
    alone, one_of_four = Learned(), Learned()
    one_of_four.workers = 4
    for learned in (alone, one_of_four):
        for second in range(100):
            learned.arrived("support", float(second))
    assert one_of_four.arrived("support", 100.0) == 4 * alone.arrived("support", 100.0)


def test_a_cancelled_request_costs_what_was_delivered() -> None:
    """Nothing delivered: the prompt alone, and no reasoning."""
    learned = Learned()
    learned.observe("strong", 400, 400, Usage(input=100, output=100, reasoning=30))
    assert estimated(learned, "strong", STRONG, **{**LONG, "output_chars": 0}).usage == Usage(input=5000)
    assert estimated(learned, "strong", STRONG, **{**LONG, "output_chars": 4}).usage == Usage(5000, 0, 0, 1, 30)


def test_a_long_prompt_is_priced_at_its_tier() -> None:
    price = prices.from_config({"input": 1, "output": 1, "above": {4999: {"input": 2}}})
    assert estimated(Learned(), "strong", price, **LONG).cost == 5000 * 2_000_000 + 100 * 1_000_000


def test_without_a_price_there_is_no_baseline() -> None:
    assert estimated(Learned(), "strong", None, **LONG) == NO_BASELINE
    assert answered([attempt(route="strong")], "strong", None) == NO_BASELINE


def test_where_the_baseline_answered_it_cost_what_it_cost() -> None:
    """The tuned route's failed attempt before it is not the baseline's doing."""
    failed = attempt(result="timeout", usage=Usage(input=100, output=3))
    own = attempt(route="strong", model="strong", role="fallback", usage=Usage(1000, 4000, 0, 90, 10))
    found = answered([failed, own], "strong", STRONG)
    assert (found.cost, found.source) == (own.cost.total, "upstream")
    assert found.uncached == 5000 * 2_000_000 + 100 * 10_000_000


def test_where_the_baselines_own_usage_is_an_estimate_it_says_so() -> None:
    own = attempt(route="strong", model="strong", source="estimated", usage=Usage(1000, output=5))
    assert answered([own], "strong", STRONG).source == "estimated"
    assert answered([attempt(route="strong", result="connect", source="none")], "strong", STRONG) == NO_BASELINE


def test_a_steady_stream_of_requests_is_measured_at_its_rate() -> None:
    """Soon, whatever the rate; the first request cannot know."""
    for rate in (0.1, 1.0, 50.0):
        learned = Learned()
        assert learned.arrived("support", 1000.0) == 0.0
        for n in range(1, 3000):
            measured = learned.arrived("support", 1000.0 + n / rate)
            if n > 10:
                assert measured == pytest.approx(rate, rel=0.1), n


def test_a_lone_request_after_a_long_pause_finds_a_cold_cache() -> None:
    learned = Learned()
    for n in range(100):
        learned.arrived("support", float(n))
    assert learned.arrived("support", 100.0) == pytest.approx(1.0, rel=0.1)
    rate = learned.arrived("support", 100.0 + 6 * 3600)
    assert -math.expm1(-rate * 300) < 1e-6
    assert learned.arrived("elsewhere", 5.0) == 0.0


def test_a_clock_that_steps_back_does_no_harm() -> None:
    learned = Learned()
    learned.arrived("support", 100.0)
    assert learned.arrived("support", 50.0) >= 0.0
    assert learned.arrived("support", 0.0) == 0.0


def test_what_a_model_does_now_outweighs_what_it_did() -> None:
    learned = Learned()
    for _ in range(MEMORY):
        learned.observe("strong", 400, 400, Usage(input=100, output=100))
    for _ in range(MEMORY):
        learned.observe("strong", 400, 400, Usage(input=200, output=100, reasoning=50))
    assert learned.of("strong").expected_prompt(400) > 170
    assert learned.of("strong").mean_reasoning > 35


sizes = st.integers(0, 10**6)
usages = st.builds(Usage, *[st.integers(0, 10**5)] * 5)
seen = st.lists(st.tuples(sizes, sizes, usages), max_size=5)
rates = st.floats(0, 1000)


@given(seen, sizes, st.integers(0, 10**7), sizes, rates, rates)
def test_the_honest_figure_is_never_above_the_naive_one(
    seen: list[tuple[int, int, Usage]], prompt: int, static: int, output: int, rate: float, faster: float
) -> None:
    """And more traffic never makes the baseline dearer; the same knowledge gives the same integers."""
    learned = Learned()
    for prompt_chars, output_chars, usage in seen:
        learned.observe("strong", prompt_chars, output_chars, usage)
    sized = {"prompt_chars": prompt, "static_chars": static, "output_chars": output, "ttl": 300.0}
    found = estimated(learned, "strong", STRONG, **sized, rate=rate)
    busier = estimated(learned, "strong", STRONG, **sized, rate=rate + faster)
    assert found == estimated(learned, "strong", STRONG, **sized, rate=rate)
    assert found.cost is not None
    assert busier.cost is not None
    assert found.uncached is not None
    assert 0 <= busier.cost <= found.cost <= found.uncached
    assert isinstance(found.cost, int)
