"""What a settled request counts, and which series exist before it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.meter.metrics import LIMIT, Meters
from proxy.meter.usage import Usage
from routes import failure
from routes.effects import FellBack
from routes.route import Fallback, Route
from tests.proxy.meter.samples import attempt, service, settled, snapshot


@pytest.fixture
def meters() -> Meters:
    made = Meters("0.1.0")
    made.use(snapshot())
    return made


def read(meters: Meters, family: str, **labels: str) -> Any:
    """The sum of the series that have these labels (a histogram's: count and sum)."""
    of = meters._series[family].family
    values = [
        value
        for given, value in series(meters, family)
        if labels.items() <= dict(zip(of.labels, given, strict=True)).items()
    ]
    if of.kind == "histogram":
        return sum(sum(value[:-1]) for value in values), sum(value[-1] for value in values)
    return sum(values)


def series(meters: Meters, family: str) -> Iterator[tuple[list[str], Any]]:
    yield from ((labels, value) for labels, value in meters.state().get(family, []))


def count(meters: Meters) -> int:
    return sum(len(series) for series in meters.state().values())


def test_one_request_with_one_attempt(meters: Meters) -> None:
    """Every series that it touches, with its labels and amounts."""
    usage = Usage(input=100, cached_input=50, cache_write=7, output=21, reasoning=5)
    meters.settled(settled(attempt(usage=usage)))
    who = {"tenant": "search", "policy": "support", "route": "tuned", "model": "lora", "prompt": "none"}
    assert read(meters, "pointsman_requests_total", **who, rule="default", outcome="ok") == 1
    assert read(meters, "pointsman_requests_total") == 1
    for kind in ("input", "cached_input", "cache_write", "output", "reasoning"):
        booked = {**who, "role": "primary", "kind": kind, "source": "upstream"}
        assert read(meters, "pointsman_tokens_total", **booked) == getattr(usage, kind)
    assert read(meters, "pointsman_cost_usd_total", **who, kind="output") == 21 * 400_000
    assert read(meters, "pointsman_cost_usd_total") == 107 * 100_000 + 50 * 50_000 + 26 * 400_000
    baseline = {
        "tenant": "search",
        "policy": "support",
        "route": "tuned",
        "baseline": "strong",
        "source": "estimated",
    }
    assert read(meters, "pointsman_baseline_cost_usd_total", **baseline) == 410_000_000
    where = {"policy": "support", "rule": "default", "route": "tuned", "model": "lora"}
    assert read(meters, "pointsman_request_duration_seconds", **where, stream="true") == (1, 10**9)
    assert read(meters, "pointsman_time_to_first_token_seconds", **where) == (1, 250_000_000)
    assert read(meters, "pointsman_time_per_output_token_seconds", **where) == (1, 750_000_000 // 20)
    assert read(meters, "pointsman_overhead_seconds", api="chat") == (1, 300_000)
    assert read(meters, "pointsman_upstream_attempts_total", model="lora", endpoint="at-lora", result="ok") == 1
    assert read(meters, "pointsman_caller_prompt_total", policy="support", result="none") == 1
    assert read(meters, "pointsman_fallbacks_total") == 0
    assert read(meters, "pointsman_unpriced_requests_total") == 0


def test_a_request_that_was_foreseen_makes_no_new_series(meters: Meters) -> None:
    before = count(meters)
    meters.settled(settled())
    meters.settled(settled(stream=False, first_content=None))
    meters.settled(settled(attempt(route="strong", model="strong", prompt="support@3"), rule="gold0"))
    meters.settled(
        settled(
            attempt(result=failure.TIMEOUT, usage=Usage(), source="none"),
            attempt(route="strong", model="strong", prompt="support@3", role="fallback", source="estimated"),
            fallbacks=(FellBack("tuned", "strong", "timeout"),),
        )
    )
    near = attempt(route="strong", model="strong")
    meters.settled(settled(near, rule="caller-prompt-near", caller_prompt="near", stream=False))
    assert count(meters) == before


def test_attempts_are_booked_under_their_own_route(meters: Meters) -> None:
    """A cut answer costs its estimate under the route that was cut; the request counts for the one that answered."""
    cut = attempt(result=failure.TIMEOUT, source="estimated", usage=Usage(input=80, output=3))
    answer = attempt(route="strong", model="strong", prompt="support@3", role="fallback", usage=Usage(200, output=10))
    meters.settled(settled(cut, answer, fallbacks=(FellBack("tuned", "strong", "timeout"),)))
    tokens = "pointsman_tokens_total"
    assert read(meters, tokens, route="tuned", role="primary", source="estimated") == 83
    assert read(meters, tokens, route="strong", role="fallback", source="upstream", prompt="support@3") == 210
    assert read(meters, "pointsman_requests_total", route="strong", model="strong", outcome="ok") == 1
    assert read(meters, "pointsman_requests_total", route="tuned") == 0
    fell = {"policy": "support", "from": "tuned", "to": "strong", "reason": "timeout"}
    assert read(meters, "pointsman_fallbacks_total", **fell) == 1
    assert read(meters, "pointsman_cost_usd_total") == cut.cost.total + answer.cost.total


def test_what_is_not_billed_counts_no_tokens(meters: Meters) -> None:
    meters.settled(settled(attempt(result=failure.CONNECT, usage=Usage(), source="none"), outcome="upstream_error"))
    assert read(meters, "pointsman_tokens_total") == 0
    assert read(meters, "pointsman_upstream_attempts_total", model="lora", result="connect") == 1
    assert not [labels for labels, _ in series(meters, "pointsman_tokens_total") if labels[-1] == "none"]


def test_a_model_without_a_price_is_counted_not_free(meters: Meters) -> None:
    meters.settled(settled(attempt(route="unpriced", model="free"), baseline_cost=None))
    assert read(meters, "pointsman_unpriced_requests_total", model="free") == 1
    assert read(meters, "pointsman_tokens_total", model="free") == 175


def test_clamped_counts_are_counted(meters: Meters) -> None:
    meters.settled(settled(attempt(usage=Usage(0, 50, 0, 1, 0, clamped=2))))
    assert read(meters, "pointsman_usage_clamped_total", model="lora") == 2


def test_a_request_that_is_not_streamed_has_no_first_token(meters: Meters) -> None:
    meters.settled(settled(stream=False))
    assert read(meters, "pointsman_request_duration_seconds", stream="false") == (1, 10**9)
    assert read(meters, "pointsman_time_to_first_token_seconds") == (0, 0)


def test_before_a_decision_labels_are_none(meters: Meters) -> None:
    """A rejected request has no attempts, no baseline and no first token."""
    undecided = dict.fromkeys(("policy", "rule", "route", "served_by", "served_model", "served_prompt"), "none")
    meters.settled(
        dataclasses.replace(
            settled(),
            attempts=(),
            outcome="rejected",
            first_content=None,
            baseline_cost=None,
            baseline_route=None,
            **undecided,
        )
    )
    labels = {
        "tenant": "search",
        "policy": "none",
        "rule": "none",
        "route": "none",
        "model": "none",
        "prompt": "none",
    }
    assert read(meters, "pointsman_requests_total", **labels, outcome="rejected") == 1


def test_names_that_config_does_not_know_never_become_labels(meters: Meters) -> None:
    """A policy of another world counts as none; a model forwarded by the client's name as other; nothing grows."""
    meters.settled(settled(attempt(model="made-up-0"), policy="made-up"))
    meters.settled(settled(attempt(model="made-up-1", endpoint="made-up", prompt="made-up"), caller_prompt="exact"))
    series_before, places_before = count(meters), len(meters._requests)
    for n in range(50):
        meters.settled(settled(attempt(model=f"made-up-{n}", endpoint=f"e{n}", prompt=f"p{n}", route=f"r{n}")))
        meters.settled(settled(policy=f"made-up-{n}", tenant=f"t{n}"))
        meters.begin(f"made-up-{n}")
    assert "made-up" not in str(meters.state())
    assert len(meters._requests) <= places_before + 2
    assert count(meters) <= series_before + 60
    assert read(meters, "pointsman_requests_total", policy="none") == 51
    assert read(meters, "pointsman_requests_total", model="other") == 51


def test_a_fallback_counts_although_nobody_could_be_called(meters: Meters) -> None:
    """All endpoints of the first route's model were resting."""
    answer = attempt(route="strong", model="strong", prompt="support@3", role="fallback")
    meters.settled(settled(answer, fallbacks=(FellBack("tuned", "strong", "timeout"),)))
    assert read(meters, "pointsman_fallbacks_total", reason="timeout") == 1


def test_a_hedge_is_no_retry(meters: Meters) -> None:
    """It runs beside a call, whichever of them ends first; what comes after both is one."""
    failed = attempt(result=failure.CONNECT, usage=Usage(), source="none")
    hedge = attempt(role="hedge", result=failure.UPSTREAM_5XX, usage=Usage(), source="none")
    meters.settled(settled(failed, attempt(role="hedge")))
    assert read(meters, "pointsman_retries_total") == 0
    meters.settled(settled(failed, hedge, attempt()))
    assert read(meters, "pointsman_retries_total", reason="connect") == 1
    assert read(meters, "pointsman_retries_total") == 1


def test_requests_in_flight_go_up_and_down(meters: Meters) -> None:
    meters.begin("support")
    meters.begin("support")
    meters.end("support")
    assert read(meters, "pointsman_inflight_requests", policy="support") == 1


def test_what_config_reaches_is_there_before_the_first_request(meters: Meters) -> None:
    """Rules with their routes and fallbacks, but not a rule with a route that it cannot choose."""
    requests = {tuple(labels) for labels, _ in series(meters, "pointsman_requests_total")}
    assert ("search", "support", "gold0", "strong", "strong", "support@3", "ok") in requests
    assert ("search", "support", "default", "tuned", "lora", "none", "upstream_error") in requests
    assert ("search", "support", "caller-prompt-near", "strong", "strong", "none", "cancelled") in requests
    assert ("search", "none", "none", "none", "none", "none", "rejected") in requests
    assert not [labels for labels in requests if labels[2] == "gold0" and labels[3] == "tuned"]
    assert read(meters, "pointsman_split_share", policy="support", rule="default", route="tuned") == 0.25
    fallbacks = {tuple(labels) for labels, _ in series(meters, "pointsman_fallbacks_total")}
    assert fallbacks == {("support", "tuned", "strong", "timeout"), ("support", "tuned", "strong", "connect")}
    sources = {tuple(labels)[2:] for labels, _ in series(meters, "pointsman_baseline_cost_usd_total")}
    assert sources == {
        ("tuned", "strong", "estimated"),
        ("strong", "strong", "upstream"),
        ("strong", "strong", "estimated"),
    }


def test_nested_fallbacks_and_circles_end() -> None:
    """a -> b -> a: each route once."""
    a = Route("a", "strong")
    b = Route("b", "lora", fallback=(Fallback(a, frozenset({"timeout"})),))
    object.__setattr__(a, "fallback", (Fallback(b, frozenset({"auth"})),))
    meters = Meters("0.1.0")
    meters.use(snapshot(service(routes={"strong": a, "tuned": b})))
    pairs = {(labels[1], labels[2]) for labels, _ in series(meters, "pointsman_fallbacks_total")}
    assert pairs == {("a", "b"), ("b", "a")}


def test_a_large_config_leaves_room_on_the_page() -> None:
    """Past the limit, series come into being with their first request."""
    meters = Meters("0.1.0")
    tenants = tuple(f"tenant{n}" for n in range(100))
    meters.use(snapshot(*(service(f"policy{n}", rules=20) for n in range(20)), tenants=tenants))
    lines = sum(
        len(cells.cells) * (len(cells.family.bounds) + 3 if cells.family.bounds else 1)
        for cells in meters._series.values()
    )
    assert LIMIT * 0.9 < lines <= LIMIT
    meters.settled(settled(policy="policy19", rule="gold19", tenant="tenant99"))
    assert read(meters, "pointsman_requests_total", policy="policy19", tenant="tenant99", rule="gold19") == 1


def test_a_reload_adds_series_and_resets_none(meters: Meters) -> None:
    """Counters of what vanished stay; gauges and the hash are those of the config in use."""
    meters.settled(settled())
    meters.use(snapshot(service("sales"), hash="ba9876543210", tenants=("shop",)))
    assert read(meters, "pointsman_requests_total", policy="support", outcome="ok") == 1
    assert list(series(meters, "pointsman_config_info")) == [(["ba9876543210"], 1)]
    assert {labels[0] for labels, _ in series(meters, "pointsman_split_share")} == {"sales"}
    meters.settled(settled())  # began under the old config
    assert read(meters, "pointsman_requests_total", policy="support", outcome="ok") == 2
    meters.settled(settled(policy="sales", tenant="shop"))
    assert read(meters, "pointsman_requests_total", policy="sales", tenant="shop", outcome="ok") == 1


def test_reloads_are_counted_by_result(meters: Meters) -> None:
    assert read(meters, "pointsman_config_last_reload_successful") == 1
    meters.reloaded(False)
    assert read(meters, "pointsman_config_last_reload_successful") == 0
    meters.reloaded(True)
    assert read(meters, "pointsman_config_last_reload_successful") == 1
    assert sorted(series(meters, "pointsman_config_reloads_total")) == [(["failure"], 1), (["success"], 1)]


def test_a_ramp_moves_the_shares(meters: Meters) -> None:
    meters.share("support", "default", {"tuned": 3, "strong": 1})
    assert read(meters, "pointsman_split_share", route="tuned") == 0.75
