"""One comparison, alone: verdicts on values, opposites and names."""

import pytest

from policies.comparison import OPERATORS, compare, opposite
from policies.vocabulary import FACTS, find


def test_holds_is_the_verdict_on_a_value() -> None:
    small = compare(FACTS["max_tokens"], "lt", 5)
    assert [small.holds(value) for value in (4, 5, None)] == [True, False, False]
    assert [opposite(small).holds(value) for value in (4, 5, None)] == [False, True, True]
    any_of_them = compare(FACTS["tool_names"], "in", ("a", "b"))
    assert [any_of_them.holds(value) for value in (("c", "b"), ("c",), None)] == [True, False, False]


def test_the_opposite_of_the_opposite_is_the_same() -> None:
    user = compare(FACTS["user"], "eq", "ann")
    assert opposite(opposite(user)) == user
    assert [user.asked, opposite(user).asked, opposite(compare(FACTS["user"], "prefix", "a")).asked] == [
        "eq", "not", "not prefix",
    ]  # fmt: skip


def test_every_operator_that_a_type_offers_compiles() -> None:
    for kind, operators in OPERATORS.items():
        fact = next(fact for fact in FACTS.values() if fact.kind == kind)
        want = {"text": "a", "texts": "a", "number": 1, "flag": True}[kind]
        for op in set(operators) - {"not"}:
            assert compare(fact, op, (want,) if op == "in" else want).holds(None) is False


def test_an_operator_that_is_none_is_a_programmers_mistake() -> None:
    fact = find("header.x-tier")
    assert fact is not None
    with pytest.raises(AssertionError, match="near"):
        compare(fact, "near", "gold")
