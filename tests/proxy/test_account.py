"""A request's account: each attempt booked under its own route and price, and one record at the end."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from policies.decision import Decision
from proxy.account import Account, Trial, new_id
from proxy.keys import Caller
from proxy.meter.baseline import Learned
from proxy.meter.cost import NO_COST
from proxy.meter.usage import NO_USAGE, Usage
from proxy.runtime import Snapshot
from routes.prompt import Prompt, RenderError

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}


@pytest.fixture
def account(snapshot: Snapshot) -> Account:
    opened = Account(snapshot, "chat", "theirs-1")
    opened.caller = Caller("search-team", "search")
    opened.service = snapshot.services["support"]
    opened.decision = Decision("support", "default", "tuned", "tuned", 0.25)
    opened.variables, opened.caller_characters = {"company": "ACME"}, 400
    return opened


def trial(account: Account, route: str, role: str = "primary") -> Trial:
    assert account.service is not None
    found = account.service.routes[route]
    model = account.snapshot.models[found.model]
    return account.open_trial(found, role, model, model.endpoints[0])


def answered(account: Account, route: str, usage: Mapping[str, Any], role: str = "primary") -> Trial:
    """An attempt that was answered with this usage, and booked."""
    opened = trial(account, route, role)
    opened.billable, opened.usage, opened.status, opened.characters = True, usage, 200, 300
    account.close_trial(opened, "ok", Learned())
    return opened


def test_ids_are_new_each_time_and_can_be_told_from_others() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("req_[0-9a-f]{32}", each) for each in ids)


def test_an_attempt_is_booked_under_its_own_route_prompt_model_and_price(account: Account) -> None:
    answered(account, "cheap", USAGE, "fallback")
    (booked,) = account.attempts
    assert (booked.route, booked.role, booked.prompt, booked.model) == ("cheap", "fallback", "support@2", "cheap")
    assert (booked.endpoint, booked.result, booked.status, booked.price) == ("one", "ok", 200, "config")
    assert (booked.usage, booked.source) == (Usage(600, 400, 0, 100, 0), "upstream")
    assert booked.cost.total == 1000 * 500_000 + 100 * 2_000_000  # no cached price: cached tokens cost input's
    assert account.spent == booked.cost.total


def test_nothing_is_owed_for_what_was_no_2xx_answer(account: Account) -> None:
    account.close_trial(trial(account, "tuned"), "connect", Learned())
    (booked,) = account.attempts
    assert (booked.usage, booked.source, booked.cost) == (NO_USAGE, "none", NO_COST)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}])
def test_a_cut_answer_is_estimated_from_its_characters(account: Account, usage: Mapping[str, Any] | None) -> None:
    opened = trial(account, "tuned")
    opened.billable, opened.characters, opened.usage = True, 40, usage
    account.close_trial(opened, "cancelled", Learned())
    (booked,) = account.attempts
    assert (booked.usage, booked.source) == (Usage(input=100, output=10), "estimated")
    assert booked.cost.total == 100 * 100_000 + 10 * 400_000


@pytest.mark.parametrize(
    ("usage", "booked", "source", "clamped"),
    [
        ({"prompt_tokens": -7, "completion_tokens": -7}, (100, 0, 10), "estimated", 2),
        ({"prompt_tokens": -7, "completion_tokens": 12}, (100, 0, 12), "estimated", 1),
        ({"prompt_tokens": 90, "completion_tokens": -7}, (90, 0, 10), "estimated", 1),
        ({"prompt_tokens": 90, "completion_tokens": "12"}, (90, 0, 10), "estimated", 0),
        ({"prompt_tokens": 90, "completion_tokens": 0}, (90, 0, 10), "estimated", 0),
        ({"prompt_tokens": 90, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 95}},
         (0, 95, 12), "upstream", 1),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_make_nothing_free(
    account: Account, usage: Mapping[str, Any], booked: tuple[int, int, int], source: str, clamped: int
) -> None:
    """A negative becomes 0 and is counted; where that leaves nothing of what was delivered, it is estimated."""
    opened = trial(account, "tuned")
    opened.billable, opened.characters, opened.usage = True, 40, usage
    account.close_trial(opened, "ok", Learned())
    (found,) = account.attempts
    assert (found.usage.input, found.usage.cached_input, found.usage.output) == booked
    assert (found.source, found.usage.clamped) == (source, clamped)
    assert found.cost.total > 0


def test_only_plain_usage_of_text_is_learned_from(account: Account) -> None:
    """Images have tokens but no characters; counts that contradict themselves are booked, and teach nothing."""
    for is_text, usage, learns in ((True, USAGE, True), (False, USAGE, False),
                                   (True, USAGE | {"prompt_tokens": 1}, False)):  # fmt: skip
        learned, account.is_text = Learned(), is_text
        opened = trial(account, "tuned")
        opened.usage, opened.characters = usage, 100
        account.close_trial(opened, "ok", learned)
        assert (learned.of("tuned").expected_output(100) == 100) is learns


def test_the_routes_prompt_counts_unless_the_callers_own_is_nearly_known(account: Account) -> None:
    assert account.service is not None
    strong, tuned = account.service.routes["strong"], account.service.routes["tuned"]
    assert strong.prompt is not None
    assert account.characters(tuned) == 400
    assert account.characters(strong) == 400 + strong.prompt.characters({"company": "ACME"})
    account.caller_prompt = "near"
    assert account.characters(strong) == 400


def test_where_the_baseline_answered_it_cost_what_it_cost_else_an_estimate(account: Account) -> None:
    account.close_baseline(answered(account, "tuned", USAGE), Learned())
    assert (account.baseline.source, (account.baseline.cost or 0) > account.spent) == ("estimated", True)
    account.close_baseline(answered(account, "strong", USAGE), Learned())
    assert account.baseline.source == "upstream"
    assert account.baseline.cost == account.attempts[-1].cost.total


def test_a_forwarding_baseline_costs_what_the_asked_model_does(account: Account, snapshot: Snapshot) -> None:
    """Whether it answered itself or another did; its price is the shipped one of the asked name."""
    service = snapshot.services["*"]
    route = service.routes[service.policy.default.then.route]  # type: ignore[union-attr]
    account.service, account.asked = replace(service, baseline=route), "gpt-4o"
    model = snapshot.models[route.model].asking("gpt-4o")
    assert snapshot.models[route.model].price is None
    opened = account.open_trial(route, "primary", model, model.endpoints[0])
    opened.billable, opened.usage, opened.status, opened.characters = True, USAGE, 200, 300
    booked = account.close_trial(opened, "ok", Learned())
    account.close_baseline(opened, Learned())
    assert (account.baseline.source, account.baseline.cost) == ("upstream", booked.cost.total)
    assert booked.cost.total > 0
    other = replace(opened.route, name="other")
    opened.route = other
    account.close_baseline(opened, Learned())
    assert account.baseline.source == "estimated"


def test_a_baseline_that_cannot_be_rendered_costs_nobody_the_answer(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prompt is sent to nobody; a filter may not take what this caller gave."""

    def fail(*_: object) -> int:
        raise RenderError("a filter needs a number")

    done = answered(account, "tuned", USAGE)
    monkeypatch.setattr(Prompt, "characters", fail)
    account.close_baseline(done, Learned())
    assert (account.baseline.cost, account.baseline.source) == (None, "none")


@pytest.mark.parametrize(("near", "prompt"), [("none", "support@2"), ("near", "none")])
def test_what_was_decided_but_never_called_is_named(account: Account, near: str, prompt: str) -> None:
    account.caller_prompt = near
    account.decision = Decision("support", "gold", "strong")
    account.finish("upstream_error", 429, "upstream_rate_limited")
    settled = account.settle()
    assert (settled.served_by, settled.served_model, settled.served_prompt) == ("strong", "strong", prompt)
    account.decision = None
    assert account.settle().served_by == "none"


def test_a_policy_without_a_baseline_compares_with_nothing(account: Account, snapshot: Snapshot) -> None:
    done = answered(account, "tuned", USAGE)
    account.service = snapshot.services["*"]
    account.close_baseline(done, Learned())
    assert (account.baseline.cost, account.baseline.source) == (None, "none")


def test_the_record_tells_the_decision_and_who_answered(account: Account) -> None:
    account.close_trial(trial(account, "tuned"), "timeout", Learned())
    account.close_baseline(answered(account, "strong", USAGE, "fallback"), Learned())
    account.waited = 10.0
    account.finish("ok", 200, None)
    settled = account.settle()
    assert (settled.id, settled.client_id, settled.tenant, settled.key) == (
        account.id, "theirs-1", "search", "search-team",
    )  # fmt: skip
    assert (settled.policy, settled.rule, settled.route, settled.arm, settled.propensity) == (
        "support", "default", "tuned", "tuned", 0.25,
    )  # fmt: skip
    assert (settled.served_by, settled.served_model, settled.served_prompt) == ("strong", "strong", "support@2")
    assert [attempt.result for attempt in settled.attempts] == ["timeout", "ok"]
    assert (settled.cost, settled.baseline_route, settled.baseline_cost) == (account.spent, "strong", account.spent)
    assert (settled.config, settled.outcome, settled.status) == (account.snapshot.hash, "ok", 200)
    assert settled.overhead == 0.0  # clocks disagree a little: never less than nothing


def test_a_request_refused_before_a_decision_has_a_record_too(snapshot: Snapshot) -> None:
    refused = Account(snapshot, "chat", None)
    refused.finish("rejected", 401, "invalid_api_key")
    settled = refused.settle()
    assert {settled.policy, settled.rule, settled.route, settled.served_by, settled.tenant} == {"none"}
    assert (settled.attempts, settled.cost, settled.baseline_cost) == ((), 0, None)
    assert (settled.outcome, settled.status, settled.error) == ("rejected", 401, "invalid_api_key")


def test_content_that_nobody_waits_for_has_no_moment(account: Account) -> None:
    """A call may go on after its caller has left: what comes then was never late, nor quick."""
    account.finish("cancelled", 499, None)
    account.saw_content()
    assert account.first_content is None


def test_the_first_content_lies_within_the_request(account: Account) -> None:
    account.saw_content()
    account.finish("ok", 200, None)
    assert account.first_content is not None
    assert 0 < account.first_content <= account.duration
