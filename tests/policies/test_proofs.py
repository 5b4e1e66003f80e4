"""What is proved of conditions holds for every request; and what plainly should be proved is."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Decision, Facts, Rule, always, compile_when, contradiction, implies, unreachable
from policies.proofs import pinned
from tests.policies.samples import requests, whens


def rules(*whens: Any) -> list[Rule]:
    return [
        Rule(
            f"r{number}", None if when is None else compile_when(when), Decision("p", f"r{number}", "a"), "f.yaml", 1
        )
        for number, when in enumerate(whens)
    ]


def shadowed(found: Sequence[tuple[Rule, Rule]]) -> list[tuple[str, str]]:
    return [(rule.name, because.name) for rule, because in found]


# --- sound ---


@given(whens(), st.lists(requests(), min_size=4, max_size=8))
def test_a_contradiction_matches_nothing_and_always_everything(when: Any, asked: list[Facts]) -> None:
    condition = compile_when(when)
    verdicts = {condition.test(facts) for facts in asked}
    if contradiction(condition) is not None:
        assert verdicts == {False}
    if always(condition):
        assert verdicts == {True}


@given(whens(), whens(), st.lists(requests(), min_size=4, max_size=8))
def test_what_is_implied_follows(narrow: Any, wide: Any, asked: list[Facts]) -> None:
    first, second = compile_when(narrow), compile_when(wide)
    if implies(first, second):
        assert all(second.test(facts) for facts in asked if first.test(facts))


@given(whens())
def test_a_condition_implies_itself_and_excludes_its_opposite(when: Any) -> None:
    """Unless the working would be too long."""
    condition = compile_when(when)
    if len(str(condition)) < 100:
        assert implies(condition, condition)
        assert contradiction(compile_when({"all": [when, {"not": when}]})) is not None
        assert always(compile_when({"any": [when, {"not": when}]}))


# --- and useful ---


@pytest.mark.parametrize(
    "when",
    [
        {"all": [{"user": "a"}, {"user": "b"}]},
        {"all": [{"user": "a"}, {"user": ["b", "c"]}]},
        {"all": [{"user": "a"}, {"user": {"not": "a"}}]},
        {"all": [{"user": "a"}, {"user": {"exists": False}}]},
        {"user": {"in": []}},
        {"tool_names": {"in": []}},
        {"max_tokens": []},
        {"user": {"in": ["gold", "silver"], "prefix": "b"}},
        {"user": {"prefix": "ab", "not": {"prefix": "a"}}},
        {"user": {"suffix": "ab", "not": {"contains": "b"}}},
        {"all": [{"user": {"prefix": "a"}}, {"user": {"prefix": "b"}}]},
        {"user": {"matches": "x", "not": {"matches": "x"}}},
        {"user": {"contains": "x", "exists": False}},
        {"prompt_tokens": {"gt": 10, "lt": 5}},
        {"prompt_tokens": {"gt": 10, "lte": 10}},
        {"prompt_tokens": {"lt": 0}},
        {"prompt_tokens": {"exists": False}},
        {"messages": 3, "all": [{"messages": {"gt": 3}}]},
        {"chance": {"gte": 1}},
        {"chance": {"lt": 0}},
        {"stream": True, "not": {"stream": [True, False]}},
        {"images": {"exists": False}},
        {"tenant": {"exists": False}},
        {"caller_prompt": "near"},
        {"caller_prompt": {"not": ["exact", "none"]}},
        {"tool_names": {"exists": False, "prefix": "a"}},
        {"tool_names": "ab", "not": {"tool_names": ["ab", "c"]}},
        {"tool_names": "ab", "not": {"tool_names": {"prefix": "a"}}},
        {"time": {"days": ["sat"]}, "not": {"time": {"days": ["sat"]}}},
        {"any": [{"user": []}, {"chance": {"gt": 1}}]},
        {"any": [{"user": "a"}, {"user": "b"}], "all": [{"user": "c"}]},
    ],
)
def test_what_can_never_match(when: Any) -> None:
    assert contradiction(compile_when(when)) is not None


@pytest.mark.parametrize(
    "when",
    [
        {"all": [{"tool_names": "a"}, {"tool_names": "b"}]},
        {"tool_names": {"prefix": "a", "not": {"prefix": "ab"}}},
        {"all": [{"tool_names": {"prefix": "a"}}, {"tool_names": {"prefix": "b"}}]},
        {"all": [{"user": {"prefix": "ab"}}, {"user": {"prefix": "a"}}]},
        {"user": {"contains": "x", "not": {"prefix": "x"}}},
        {"user": {"not": ["a", "b"]}},
        {"user": {"exists": True, "not": "a"}},
        {"user": {"in": ["gold", "silver"], "prefix": "g"}},
        {"messages": {"gt": 3, "lt": 4}},
        {"max_tokens": {"gt": 2**60, "lt": 2**60 + 2}},
        {"max_tokens": {"lt": float(2**62)}},
        {"max_tokens": {"exists": True}},
        {"max_tokens": -1},
        {"chance": {"lt": 0.01}},
        {"stream": {"not": [True, False]}},
        {"caller_prompt": ["near", "exact"]},
        {"time": {"days": ["sat"]}, "not": {"time": {"days": ["sun"]}}},
        {"any": [{"user": []}, {"user": "a"}]},
    ],
)
def test_what_may_match(when: Any) -> None:
    assert contradiction(compile_when(when)) is None


def test_a_contradiction_says_why() -> None:
    assert contradiction(compile_when({"prompt_tokens": {"gt": 10, "lt": 5}, "user": "a"})) == (
        "prompt_tokens > 10 and prompt_tokens < 5 is impossible"
    )
    assert contradiction(compile_when({"any": [{"user": []}, {"caller_prompt": "near"}]})) == (
        "user in [] is impossible; caller_prompt = near (a nearly known caller prompt is decided before the rules)"
    )


@pytest.mark.parametrize(
    ("when", "is_always"),
    [
        ({"any": [{"user": "a"}, {"user": {"not": "a"}}]}, True),
        ({"any": [{"user": {"exists": True}}, {"user": {"exists": False}}]}, True),
        ({"prompt_tokens": {"gte": 0}}, True),
        ({"tenant": {"exists": True}}, True),
        ({"caller_prompt": ["none", "exact"]}, True),
        ({"caller_prompt": {"not": "near"}}, True),
        ({"any": [{"max_tokens": {"gt": 3}}, {"max_tokens": {"lte": 3}}]}, False),
        ({"any": [{"prompt_tokens": {"gt": 3}}, {"prompt_tokens": {"lte": 3}}]}, True),
        ({"chance": {"lt": 1}}, False),
        ({"stream": [True, False]}, False),
        ({"user": {"not": []}}, True),
        ({"user": "a"}, False),
    ],
)
def test_what_always_matches(when: Any, is_always: bool) -> None:
    assert always(compile_when(when)) is is_always


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"user": "a"}, {"user": "a"}),
        ({"user": "a"}, {"stream": True, "user": "a"}),
        ({"user": ["a", "b"]}, {"user": "a", "stream": True}),
        ({"any": [{"user": "a"}, {"stream": True}]}, {"stream": True}),
        ({"prompt_tokens": {"gt": 10}}, {"prompt_tokens": {"gt": 20}, "user": "a"}),
        ({"user": {"prefix": "a"}}, {"user": ["ab", "ac"]}),
        ({"user": {"not": "b"}}, {"user": "a"}),
        ({"user": {"exists": True}}, {"user": {"contains": "x"}}),
        ({"prompt_tokens": {"gte": 0}}, {"user": "a"}),
        ({"user": ["a", "b"]}, {"any": [{"user": "a"}, {"user": "b", "stream": True}]}),
    ],
)
def test_a_rule_behind_a_wider_one_is_unreachable(earlier: Any, later: Any) -> None:
    assert shadowed(unreachable(rules(earlier, later))) == [("r1", "r0")]
    assert unreachable(rules(later, earlier)) == [] or earlier == later


def test_the_first_rule_in_the_way_is_named() -> None:
    found = unreachable(rules({"key": "k"}, {"user": "a"}, {"user": ["a", "b"]}, {"stream": True}, {"user": "a"}))
    assert shadowed(found) == [("r4", "r1")]


def test_only_certain_shadows_are_claimed() -> None:
    assert unreachable(rules({"user": "a"}, {"user": "b"}, {"session": "a"}, {"user": ["a", "c"]})) == []
    assert unreachable(rules({"stream": True, "user": "a"}, {"user": "a"})) == []
    never: dict[str, Any] = {"user": {"in": []}}
    assert unreachable(rules({"user": "a"}, never, never)) == []  # that is told as a contradiction
    assert unreachable(rules(None, {"user": "a"}, None)) == []  # a default shadows nothing: it comes last


def test_long_workings_are_given_up() -> None:
    """Alternatives multiply; past the bound nothing is claimed, at once."""
    choice = [{"any": [{f"header.a{number}": "x"}, {f"header.b{number}": "y"}]} for number in range(12)]
    hopeless = {"all": [*choice, {"user": []}]}
    assert contradiction(compile_when(hopeless)) is None
    assert contradiction(compile_when({"any": [hopeless, {"user": []}]})) is None
    wide = {"any": [{"header.c": f"{number}"} for number in range(300)]}
    assert contradiction(compile_when(wide)) is None
    assert unreachable(rules(*({"text": {"matches": f"w{number}"}} for number in range(200)), {"text": "w"})) == []


def test_pins_are_the_values_that_a_fact_must_have() -> None:
    both = {"all": [{"user": ["b", "c"]}, {"not": {"model": "m"}}], "any": [{"key": "k"}, {"tenant": "t"}]}
    tree = compile_when({"user": ["a", "b"], "stream": True, "tool_names": "x", **both}).tree
    assert pinned(tree) == {"user": {"b"}, "stream": {True}}
