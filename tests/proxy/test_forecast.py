"""What a request would cost: the ways through fallbacks, output limits, prices that are missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.load import load
from proxy.explain import Explanation, Situation, explain
from proxy.forecast import calls, chains, longest
from proxy.runtime import Snapshot
from routes.failure import CLASSES, DEFAULT_FALLBACK
from routes.route import MAX_ATTEMPTS, Fallback, Route, flatten
from tests.proxy.cli.samples import CONFIG, ask, write


def explained(snapshot: Snapshot | None, tier: str = "gold", **changes: Any) -> Explanation:
    assert snapshot is not None
    return explain(snapshot, orjson.dumps(ask(**changes)), Situation(0.0, {b"x-tier": tier.encode()}))


def test_ways_follow_the_causes_of_fallbacks() -> None:
    c = Route("c", "m")
    b = Route("b", "m", fallback=(Fallback(c, frozenset({"timeout"})),))
    a = Route("a", "m", fallback=(Fallback(b, frozenset({"connect"})), Fallback(c, frozenset({"auth"}))))
    # what is left of a's own list has its turn after b or c, whichever came first
    assert set(chains(a)) == {("a",), ("a", "b"), ("a", "b", "c"), ("a", "c"), ("a", "c", "b")}
    assert set(chains(c)) == {("c",)}


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """A route over others that are made before it: no circles, as the checks see to."""
    made: list[Route] = []
    for number in range(draw(st.integers(1, 5))):
        targets = draw(st.lists(st.sampled_from(made), max_size=3, unique_by=id)) if made else []
        causes = st.one_of(st.just(DEFAULT_FALLBACK), st.frozensets(st.sampled_from(CLASSES), min_size=1))
        made.append(Route(f"r{number}", "m", fallback=tuple(Fallback(to, draw(causes)) for to in targets)))
    return made[-1]


@given(routes())
def test_no_way_is_longer_than_allowed_or_tries_a_route_twice(route: Route) -> None:
    ways = set(chains(route))
    names = {each.name for each in flatten(route)}
    assert ways
    for way in ways:
        assert way[0] == route.name
        assert len(way) == len(set(way)) <= MAX_ATTEMPTS
        assert set(way) <= names


def test_attempts_that_are_left_go_to_further_endpoints() -> None:
    """The dearest first; a model with one endpoint has none."""
    prices = {"a": 10, "b": 90, "c": 5}
    assert longest(("a",), 3, {"a": 0}, prices) == ("a",)
    assert longest(("a",), 3, {"a": 4}, prices) == ("a", "a", "a")
    assert longest(("a", "b"), 3, {"a": 2, "b": 1}, prices) == ("a", "b", "b")
    assert longest(("a", "b", "c"), 3, {"a": 2, "b": 1, "c": 1}, prices) == ("a", "b", "c")


def test_one_endpoint_may_be_called_twice_where_nothing_takes_over(snapshot: Snapshot) -> None:
    """And no upstream more than that."""
    alone = Route("r", "tuned")
    helped = Route("r", "tuned", fallback=(Fallback(alone, DEFAULT_FALLBACK),))
    some = Route("r", "tuned", fallback=(Fallback(alone, frozenset({"timeout"})),))
    assert [calls(snapshot, route) for route in (alone, helped, some)] == [2, 1, 2]
    hasty = replace(snapshot, retries=replace(snapshot.retries, pause=0.0))
    assert [calls(hasty, route) for route in (alone, helped)] == [1, 1]
    model = snapshot.models["tuned"]
    keys = replace(snapshot, models={"tuned": replace(model, endpoints=model.endpoints * 3)})
    assert [calls(keys, route) for route in (alone, helped)] == [2, 2]


def test_output_counts_only_where_it_has_a_limit(snapshot: Snapshot) -> None:
    free, limited = explained(snapshot), explained(snapshot, max_tokens=100)
    assert free.estimate.output is None
    assert limited.estimate.output == 100
    assert free.estimate.usd is not None
    assert limited.estimate.usd == free.estimate.usd + 100 * 10_000_000
    assert explained(snapshot, max_completion_tokens=100, n=3).estimate.output == 300
    assert explained(snapshot, max_tokens=0).estimate.output == 0


def test_tokens_are_those_of_the_request_as_it_is_sent(tmp_path: Path) -> None:
    """With the caller's system text dropped, it costs nothing."""
    dropping = CONFIG.replace(
        "{model: strong, prompt: support@2}", "{model: strong, prompt: support@2, caller_system: drop}"
    )
    plain = explained(load(write(tmp_path, dropping)).snapshot)
    messages = [{"role": "system", "content": "x" * 4000}, *ask()["messages"]]
    dropped = explained(load(write(tmp_path, dropping)).snapshot, messages=messages)
    merged = explained(load(write(tmp_path)).snapshot, messages=messages)
    assert dropped.estimate.tokens == plain.estimate.tokens
    assert merged.estimate.tokens >= plain.estimate.tokens + 1000


def test_a_missing_price_is_unknown_and_not_free(tmp_path: Path) -> None:
    """Of the decided route, or of one that may take over."""
    config = CONFIG.replace("tuned: {at: one, price: {input: 0.1, output: 0.4}}", "tuned: {at: one}")
    first = explained(load(write(tmp_path, config)).snapshot, "none", user="dave")
    assert (first.route.name, first.estimate.usd, first.estimate.worst) == ("tuned", None, None)
    config = CONFIG.replace("cheap: {at: one, price: {input: 0.5, output: 2}}", "cheap: {at: one}")
    second = explained(load(write(tmp_path, config)).snapshot, "none", user="dave")
    assert second.estimate.usd is not None
    assert (second.estimate.worst, second.estimate.attempts) == (None, 3)
    assert second.baseline.uncached is not None


def test_a_cached_baseline_is_never_dearer(snapshot: Snapshot) -> None:
    found = explained(snapshot, "none", user="dave", max_tokens=10).baseline
    assert found.cached is not None
    assert found.uncached is not None
    assert 0 < found.cached < found.uncached
    assert explained(snapshot, model="gpt-4o", pointsman=None).baseline.route is None
