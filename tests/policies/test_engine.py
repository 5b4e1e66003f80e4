"""Deciding: order, splits, live shares, nearly known prompts; and explaining, which is the same walk."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import (
    Arm,
    ConditionTrace,
    Decision,
    Facts,
    Live,
    Policy,
    Rule,
    RuleTrace,
    Split,
    compile_sticky,
    compile_when,
    decide,
    explain,
    index_rules,
)
from tests.policies.samples import requests, whens


def policy(*whens: Any, then: Decision | Split | None = None, near: Decision | None = None) -> Policy:
    rules = tuple(
        Rule(f"r{number}", compile_when(when), Decision("p", f"r{number}", "strong"), "p.yaml", number)
        for number, when in enumerate(whens)
    )
    last = Rule("default", None, then or Decision("p", "default", "tuned"), "p.yaml", 99)
    return Policy("p", rules, last, "strong", near=near)


def indexed(given: Policy) -> Policy:
    return replace(given, index=index_rules(given.rules))


SPLIT = Split(
    tuple(
        Arm(Decision("p", "default", name, name, weight), weight)
        for name, weight in (("tuned", 0.25), ("strong", 0.75))
    ),
    "p/default",
    compile_sticky("user"),
)
ANN = Facts(body={"user": "ann"}, headers={})


@pytest.mark.parametrize("prepared", [lambda given: given, indexed])
def test_the_first_rule_that_matches_wins(prepared: Any) -> None:
    given = prepared(policy({"user": "bob"}, {"user": {"prefix": "a"}}, {"user": "ann"}))
    assert decide(given, ANN).rule == "r1"
    assert decide(given, Facts(body={}, headers={})) is given.default.then


def test_a_decision_is_shared_not_made() -> None:
    given = policy({"user": "ann"})
    assert decide(given, ANN) is given.rules[0].then


def test_a_rule_without_a_condition_matches() -> None:
    given = policy({"user": "bob"})
    every = replace(given, rules=(replace(given.rules[0], when=None),))
    assert decide(every, ANN).rule == "r0"


@given(st.lists(whens(), max_size=6), requests(("exact", "near", "none")), st.booleans())
def test_explaining_and_indexing_change_nothing(conditions: list[Any], facts: Facts, is_near: bool) -> None:
    near = Decision("p", "caller-prompt-near", "strong", untouched=True) if is_near else None
    given = policy(*conditions, then=SPLIT, near=near)
    decision, traces = explain(given, facts)
    assert decision == decide(given, facts) == decide(indexed(given), facts)
    assert [trace.matched for trace in traces] == [False] * (len(traces) - 1) + [True]
    assert traces[-1].rule == decision.rule


def test_a_nearly_known_prompt_is_settled_before_the_rules() -> None:
    near = Decision("p", "caller-prompt-near", "strong", untouched=True)
    given = policy({"user": "ann"}, near=near)
    facts = Facts(body={"user": "ann"}, headers={}, caller_prompt="near")
    assert decide(given, facts) is near
    assert decide(given, ANN).rule == "r0"
    assert decide(policy({"user": "ann"}), facts).rule == "r0"
    asked = ConditionTrace("caller_prompt", "eq", "near", "near", True)
    assert explain(given, facts) == (near, (RuleTrace("caller-prompt-near", "p.yaml", 99, True, (asked,)),))


def test_explaining_ends_with_the_rule_that_matched() -> None:
    given = policy({"user": "bob"}, {"user": "ann"}, {"user": "ann"})
    decision, traces = explain(given, ANN)
    assert decision is given.rules[1].then
    assert traces == (
        RuleTrace("r0", "p.yaml", 0, False, (ConditionTrace("user", "eq", "bob", "ann", False),)),
        RuleTrace("r1", "p.yaml", 1, True, (ConditionTrace("user", "eq", "ann", "ann", True),)),
    )
    _, traces = explain(policy({"user": "bob"}), ANN)
    assert traces[-1] == RuleTrace("default", "p.yaml", 99, True, ())


def test_live_shares_stand_in_for_the_written_ones() -> None:
    given = policy(then=SPLIT)
    written = decide(given, ANN)
    assert written.propensity in (0.25, 0.75)
    ramp = Live(shares={("p", "default"): {"tuned": 1.0, "strong": 0.0}})
    assert decide(given, ANN, ramp) == Decision("p", "default", "tuned", "tuned", 1.0)
    assert explain(given, ANN, ramp)[0] == decide(given, ANN, ramp)
    assert decide(given, ANN, Live(shares={("other", "default"): {"tuned": 1.0}})) is written


def test_a_default_with_a_condition_is_a_programmers_mistake() -> None:
    given = policy()
    broken = replace(given, default=replace(given.default, when=compile_when({"user": "bob"})))
    with pytest.raises(AssertionError, match="default"):
        explain(broken, ANN)
