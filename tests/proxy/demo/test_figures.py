import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.figures import UNCACHED, Figures, Sample, figures, parse, quantile

RECORDED = (Path(__file__).parent / "metrics.txt").read_text()


@pytest.fixture
def found() -> Figures:
    return figures(RECORDED)


def test_samples_are_read_with_their_labels() -> None:
    text = '# HELP x y\nx_total{a="b",c="d\\"e,f}"} 1.5 1700000000\nplain 2\n'
    assert parse(text) == [Sample("x_total", {"a": "b", "c": 'd\\"e,f}'}, 1.5), Sample("plain", {}, 2.0)]


def test_routes_that_answered_are_shown(found: Figures) -> None:
    assert [(row.route, row.requests, row.failed) for row in found.routes] == [("strong", 40, 0), ("tuned", 60, 2)]
    assert found.baseline == "strong"
    assert found.fallbacks == 3


def test_tokens_and_dollars_add_up_over_kinds_and_sources(found: Figures) -> None:
    strong, tuned = found.routes
    assert (strong.input, strong.cached, strong.output) == (60_000, 50_000, 2_000)
    assert (tuned.input, tuned.cached, tuned.output) == (2_000, 0, 1_200)
    assert strong.usd == pytest.approx(0.05)
    assert found.total.usd == pytest.approx(0.0507)


def test_the_honest_saving_is_baseline_less_cost(found: Figures) -> None:
    strong, tuned = found.routes
    assert strong.saved == pytest.approx(0)
    assert tuned.saved == pytest.approx(0.07 - 0.0007)
    assert found.total.saved == pytest.approx(0.12 - 0.0507)


def test_the_naive_saving_prices_the_baseline_without_cache_hits(found: Figures) -> None:
    """Strong's uncached tokens cost 2 $ a million: 60,000 of them and 0.02 $ of output are 0.14 $, for 40 answers."""
    strong, tuned = found.routes
    assert strong.uncached_baseline_usd == pytest.approx(0.14)
    assert tuned.uncached_baseline_usd == pytest.approx(58 * 0.14 / 40)
    assert found.total.naively_saved is not None
    assert found.total.naively_saved > found.total.saved


def test_the_proxys_own_naive_figure_is_preferred() -> None:
    text = f'{RECORDED}{UNCACHED}{{route="strong"}} 0.2\n{UNCACHED}{{route="tuned"}} 0.3\n'
    assert [row.uncached_baseline_usd for row in figures(text).routes] == [0.2, 0.3]
    assert figures(text).total.uncached_baseline_usd == pytest.approx(0.5)


def test_without_traffic_there_is_nothing_to_show() -> None:
    found = figures("")
    assert found.routes == ()
    assert found.total.p50 is None
    assert found.total.saved == 0


def test_quantiles_lie_inside_their_bucket(found: Figures) -> None:
    strong, tuned = found.routes
    assert strong.p50 == pytest.approx(0.5 + 0.5 * (20 - 10) / 30)
    assert tuned.p95 == pytest.approx(0.5 * 0.95)
    assert strong.first_token is None


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=10), st.floats(0.01, 1))
def test_quantile_never_leaves_the_buckets(counts: list[int], q: float) -> None:
    total = 0
    buckets = []
    for bound, count in enumerate(counts, 1):
        total += count
        buckets.append((float(bound), float(total)))
    buckets.append((math.inf, float(total)))
    value = quantile(q, buckets)
    assert (value is None) == (total == 0)
    assert value is None or 0 <= value <= len(counts)


def test_described_for_a_program(found: Figures) -> None:
    described = found.describe()
    assert described["routes"][1]["tokens"] == {"input": 2000, "cached_input": 0, "output": 1200}
    assert described["total"]["saved_usd"] == pytest.approx(0.0693)
