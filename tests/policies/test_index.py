"""The index finds the rule that asking in order finds, and asks few."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Condition, Decision, Facts, Rule, compile_when, index_rules
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


def watched(*whens: Any) -> tuple[list[Rule], list[int]]:
    """Rules, and the numbers of those whose conditions were asked, in order."""
    asked: list[int] = []

    def noting(number: int, condition: Condition) -> Condition:
        def test(facts: Facts) -> bool:
            asked.append(number)
            return condition.test(facts)

        return replace(condition, test=test)

    conditions = [noting(number, compile_when(when)) for number, when in enumerate(whens)]
    return [replace(rule, when=when) for rule, when in zip(rules(*whens), conditions, strict=True)], asked


def tokens(count: int) -> Facts:
    return Facts(body={"max_tokens": count}, headers={})


_numbers = st.sampled_from([0, 1, 2, 2.5, 3])
_bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte", "not"]), _numbers, min_size=1, max_size=2)
_numeric = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": _bounds,
        "messages": _bounds | _numbers,
        "user": st.sampled_from(["ann", "bob"]),
        "header.x-tier": st.fixed_dictionaries({"prefix": st.sampled_from(["gold", ""])}),
    },
).filter(bool)


@given(st.lists(_numeric, max_size=12), st.lists(requests(), min_size=1, max_size=8))
def test_rules_with_bounds_answer_as_asking_in_order(conditions: list[Any], asked: list[Facts]) -> None:
    """Numbers above and below, at a limit, missing or of the wrong type, between rules that pin a value."""
    given = rules(*conditions)
    index = index_rules(given)
    for facts in asked:
        assert index.first(facts) is first(given, facts)


@pytest.mark.parametrize(
    ("op", "inside", "outside"), [("gt", 101, 99), ("gte", 100, 99), ("lt", 199, 201), ("lte", 200, 201)]
)
def test_a_number_beyond_no_limit_asks_no_rule(op: str, inside: int, outside: int) -> None:
    """One comparison with the outermost limit (100 of those above, 200 of those below) shuts all of them out."""
    given, asked = watched({"max_tokens": {op: 150}}, {"max_tokens": {op: 100}}, {"max_tokens": {op: 200}})
    index = index_rules(given)
    assert index.first(tokens(outside)) is None
    assert index.first(Facts(body={"max_tokens": "many"}, headers={})) is None
    assert index.first(Facts(body={}, headers={})) is None
    assert asked == []
    assert index.first(tokens(inside)) is given[1 if op.startswith("g") else 2]
    assert asked == [0, 1] if op.startswith("g") else [0, 1, 2]


def test_rules_behind_a_match_are_not_asked_and_their_number_not_read() -> None:
    given, asked = watched({"user": "ann"}, {"prompt_tokens": {"gt": 10}}, {"prompt_tokens": {"gt": 20}})
    facts = Facts(body={"user": "ann"}, headers={})
    assert index_rules(given).first(facts) is given[0]
    assert asked == [0]
    assert "prompt_tokens" not in vars(facts)


def test_only_what_must_hold_bounds_a_rule() -> None:
    """Not what stands under `any` or `not`, nor equality; and a bound that one rule alone has shuts nothing out."""
    index = index_rules(
        rules(
            {"any": [{"max_tokens": {"gt": 5}}, {"stream": True}]},
            {"max_tokens": {"not": {"gt": 5}}},
            {"text": {"prefix": "hi"}, "max_tokens": {"lt": 9}},
            {"messages": {"gt": 5, "lt": 9}},
            {"messages": {"gte": 3}},
        )
    )
    assert [number for number, _ in index.rest] == [0, 1, 2]
    ((_, is_above, limit, numbered),) = index.bounds
    assert (is_above, limit, [number for number, _ in numbered]) == (True, 3, [3, 4])


def test_a_prompt_is_not_measured_for_rules_that_ask_something_cheaper_first() -> None:
    """As when asking in order; where its size is all that the rules ask, one measure answers for all of them."""
    mixed = [{"header.x-tier": {"prefix": "gold"}, "prompt_tokens": {"gt": size}} for size in (10, 20)]
    index = index_rules(rules(*mixed))
    facts = Facts(body={"user": "ann"}, headers={})
    assert index.first(facts) is None
    assert "prompt_tokens" not in vars(facts)
    assert [number for number, _ in index.rest] == [0, 1]
    assert len(index_rules(rules(*({"prompt_tokens": {"gt": size}} for size in (10, 20)))).bounds) == 1
    both = {"header.x-tier": {"prefix": "gold"}, "prompt_tokens": {"gt": 10}, "max_tokens": {"gt": 5}}
    ((_, _, limit, _),) = index_rules(rules(both, both)).bounds
    assert limit == 5
