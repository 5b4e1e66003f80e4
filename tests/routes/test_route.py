"""The story of a route, told by playbook; and which routes it can reach."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from routes import failure
from routes.effects import FellBack, Relay, Relayed
from routes.failure import DEFAULT_FALLBACK
from routes.prompt import compile_prompt
from routes.route import MAX_ATTEMPTS, Ask, Fallback, Route, flatten, run
from tests.playbook import Playbook

MESSAGES = [{"role": "user", "content": "hi"}]
ASK = Ask(body={"model": "support", "messages": MESSAGES, "temperature": 1}, messages=MESSAGES)
SENT: Mapping[str, Any] = {"messages": MESSAGES, "temperature": 1}
DOWN = Relayed(failure=failure.CONNECT)
GOOD = Relayed(committed=True)


def route(name: str, *fallbacks: Route, on: frozenset[str] = DEFAULT_FALLBACK) -> Route:
    return Route(name, f"model-of-{name}", fallback=tuple(Fallback(to, on) for to in fallbacks))


def relay(route: Route, role: str = "fallback") -> Relay:
    return Relay(route, dict(SENT), role)


def test_a_good_answer_ends_it() -> None:
    only = route("only")
    with Playbook(run(only, ASK)) as play:
        play << relay(only, "primary")
        play >> GOOD


def test_a_failure_without_fallback_ends_it() -> None:
    only = route("only")
    with Playbook(run(only, ASK)) as play:
        play << relay(only, "primary")
        play >> DOWN


def test_a_fallback_takes_over() -> None:
    strong = route("strong")
    tuned = route("tuned", strong)
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play >> DOWN
        play << FellBack("tuned", "strong", "connect")
        play << relay(strong)
        play >> GOOD


def test_nothing_takes_over_once_content_has_gone_out() -> None:
    tuned = route("tuned", route("strong"))
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play >> Relayed(failure=failure.BAD_ANSWER, committed=True)


def test_nothing_takes_over_once_all_calls_are_spent() -> None:
    """The model's own endpoints may have used them up."""
    tuned = route("tuned", route("strong"))
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play >> Relayed(failure=failure.CONNECT, spent=True)


@pytest.mark.parametrize("reason", [failure.REQUEST, failure.CONTENT_FILTER, "check:json"])
def test_a_failure_that_no_fallback_answers_to_ends_it(reason: str) -> None:
    tuned = route("tuned", route("strong"))
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play >> Relayed(failure=reason)


def test_the_first_fallback_that_answers_to_the_failure_is_taken() -> None:
    """A failed check is one more class; a fallback passed over may still serve a later failure."""
    slow, wrong = route("slow"), route("wrong")
    tuned = Route(
        "tuned",
        "m",
        fallback=(Fallback(slow, frozenset({failure.TIMEOUT})), Fallback(wrong, frozenset({"check:json"}))),
    )
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play >> Relayed(failure="check:json")
        play << FellBack("tuned", "wrong", "check:json")
        play << relay(wrong)
        play >> Relayed(failure=failure.TIMEOUT)
        play << FellBack("wrong", "slow", "timeout")
        play << relay(slow)
        play >> GOOD


def test_nested_fallbacks_come_before_those_that_are_left() -> None:
    c, d = route("c"), route("d")
    b = route("b", d)
    a = route("a", b, c)
    with Playbook(run(a, ASK)) as play:
        play << relay(a, "primary")
        play >> DOWN
        play << FellBack("a", "b", "connect")
        play << relay(b)
        play >> DOWN
        play << FellBack("b", "d", "connect")
        play << relay(d)
        play >> DOWN  # c is left, the attempts are spent


def test_what_is_left_serves_when_the_nested_list_does_not() -> None:
    c = route("c")
    b = route("b", route("d"), on=frozenset({failure.TIMEOUT}))
    a = route("a", b, c)
    with Playbook(run(a, ASK)) as play:
        play << relay(a, "primary")
        play >> DOWN
        play << FellBack("a", "b", "connect")
        play << relay(b)
        play >> DOWN
        play << FellBack("b", "c", "connect")
        play << relay(c)
        play >> GOOD


def test_no_route_is_tried_twice() -> None:
    """Even in a circle, which config refuses."""
    a, b = route("a"), route("b")
    object.__setattr__(a, "fallback", (Fallback(b, DEFAULT_FALLBACK),))
    object.__setattr__(b, "fallback", (Fallback(a, DEFAULT_FALLBACK), Fallback(b, DEFAULT_FALLBACK)))
    with Playbook(run(a, ASK)) as play:
        play << relay(a, "primary")
        play >> DOWN
        play << FellBack("a", "b", "connect")
        play << relay(b)
        play >> DOWN


def test_attempts_are_limited() -> None:
    chain = route("last")
    for name in "dcba":
        chain = route(name, chain)
    story, attempts = run(chain, ASK), 0
    effect = next(story, None)
    while effect is not None:
        is_relay = isinstance(effect, Relay)
        attempts += is_relay
        try:
            effect = story.send(DOWN if is_relay else None)
        except StopIteration:
            break
    assert attempts == MAX_ATTEMPTS


def test_each_attempt_starts_from_the_callers_own_body() -> None:
    prompt = compile_prompt("p", "1", {"messages": [{"system": "Be kind."}]}, str)
    strong = replace(route("strong"), prompt=prompt)
    tuned = route("tuned", strong)
    with Playbook(run(tuned, ASK)) as play:
        play << relay(tuned, "primary")
        play.asked.body["messages"] = ["changed by the driver"]
        play >> DOWN
        play << FellBack("tuned", "strong", "connect")
        play << Relay(strong, {**SENT, "messages": [*prompt.render({}), *MESSAGES]}, "fallback")
        play >> GOOD


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_it_can_be_closed_at_any_yield(stage: int) -> None:
    story = run(route("tuned", route("strong")), ASK)
    effect = next(story)
    for _ in range(stage - 1):
        effect = story.send(DOWN if isinstance(effect, Relay) else None)
    story.close()
    assert list(story) == []


def test_a_relay_needs_its_answer() -> None:
    story = run(route("only"), ASK)
    next(story)
    with pytest.raises(AssertionError):
        story.send(None)


def test_flatten_meets_each_route_once() -> None:
    d, c = route("d"), route("c")
    b = route("b", d, c)
    a = route("a", b, c)
    object.__setattr__(d, "fallback", (Fallback(a, DEFAULT_FALLBACK),))
    assert [each.name for each in flatten(a)] == ["a", "b", "c", "d"]
