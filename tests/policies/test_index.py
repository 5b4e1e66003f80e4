"""The index finds the rule that asking in order finds, and asks few."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies import Decision, Facts, Rule, compile_when, index_rules
from tests.policies.samples import requests, whens


def rules(*whens: Any) -> list[Rule]:
    return [
        Rule(
            f"r{number}", None if when is None else compile_when(when), Decision("p", f"r{number}", "a"), "f.yaml", 1
        )
        for number, when in enumerate(whens)
    ]


def first(given: list[Rule], facts: Facts) -> Rule | None:
    return next((rule for rule in given if rule.when is None or rule.when.test(facts)), None)


@given(st.lists(whens() | st.just({"user": "ann"}) | st.just({"stream": True, "user": ["bob", "ann"]}), max_size=8),
       st.lists(requests(), min_size=1, max_size=8))  # fmt: skip
def test_the_index_answers_as_asking_in_order(conditions: list[Any], asked: list[Facts]) -> None:
    given = rules(*conditions)
    index = index_rules(given)
    for facts in asked:
        assert index.first(facts) is first(given, facts)


def test_only_rules_that_the_value_leads_to_are_asked() -> None:
    """A thousand tenants: the request's own rule is found without reading what the others compare."""
    given = rules(*({"header.x-tenant": f"t{number}", "prompt_tokens": {"gt": 6000}} for number in range(1000)))
    index = index_rules(given)
    other = Facts(body={}, headers={b"x-tenant": b"nobody"})
    assert index.first(other) is None
    assert "prompt_tokens" not in vars(other)
    long = Facts(body={"messages": [{"role": "user", "content": "x" * 24_004}]}, headers={b"x-tenant": b"t7"})
    assert index.first(long) is given[7]


def test_a_rule_is_filed_under_its_rarest_value() -> None:
    given = rules(*({"header.x-tier": "gold", "user": f"u{number}"} for number in range(9)))
    ((_, by_value),) = index_rules(given).lookups
    assert sorted(by_value) == [f"u{number}" for number in range(9)]


def test_costly_facts_are_not_read_in_advance() -> None:
    given = rules({"text": "refund"}, {"system": ["a", "b"]}, {"header.x-tier": "gold"})
    index = index_rules(given)
    assert [number for number, _ in index.rest] == [0, 1]


def test_a_rule_without_a_condition_always_matches_and_one_without_values_never() -> None:
    given = rules({"user": []}, {"user": "ann"}, None, {"user": "bob"})
    index = index_rules(given)
    assert index.first(Facts(body={"user": "ann"}, headers={})) is given[1]
    assert index.first(Facts(body={"user": "bob"}, headers={})) is given[2]
    assert index_rules([]).first(Facts(body={}, headers={})) is None
