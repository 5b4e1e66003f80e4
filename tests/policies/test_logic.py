"""Trees of comparisons: flat groups, opposites, and the same verdict from closures and from judging."""

from itertools import product

import pytest

from policies import Facts, compile_when
from policies.comparison import Comparison, compare
from policies.logic import AllOf, AnyOf, all_of, any_of, compose, conjuncts, judge, negate
from policies.vocabulary import FACTS

USER = compare(FACTS["user"], "eq", "a")
MODEL = compare(FACTS["model"], "eq", "a")
TIER = compare(FACTS["session"], "exists", True)


def test_groups_are_flat_and_a_group_of_one_is_its_member() -> None:
    assert all_of([USER, all_of([MODEL, USER]), TIER]) == AllOf((USER, MODEL, TIER))
    assert any_of([any_of([USER, MODEL]), USER]) == AnyOf((USER, MODEL))
    assert all_of([USER, USER]) == USER
    assert conjuncts(AllOf((USER, MODEL))) == (USER, MODEL)
    assert conjuncts(AnyOf((USER, MODEL))) == (AnyOf((USER, MODEL)),)


def test_not_goes_down_to_the_comparisons() -> None:
    tree = negate(all_of([USER, any_of([MODEL, TIER])]))
    assert str(tree) == "not user = a or (not model = a and session is missing)"
    assert negate(tree) == all_of([USER, any_of([MODEL, TIER])])


@pytest.mark.parametrize("group", [AllOf, AnyOf])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_closures_judge_as_all_and_any_do(group: type[AllOf] | type[AnyOf], size: int) -> None:
    names = ("user", "model", "tenant", "key")[:size]
    tree = group(tuple(compare(FACTS[name], "eq", "yes") for name in names))
    for answers in product(("yes", "no"), repeat=size):
        given = dict(zip(names, answers, strict=True))
        facts = Facts(
            body={name: given.get(name) for name in ("user", "model")},
            headers={},
            tenant=given.get("tenant", ""),
            key=given.get("key", ""),
        )
        expected = (all if group is AllOf else any)(answer == "yes" for answer in answers)
        assert compose(tree)(facts) is expected
        assert judge(tree, facts, []) is expected


def test_a_thousand_alternatives_are_no_depth() -> None:
    many = compile_when({"any": [{"user": {"prefix": f"u{number}-"}} for number in range(5000)]})
    assert many.test(Facts(body={"user": "u4999-x"}, headers={}))
    assert isinstance(many.tree, AnyOf)
    assert all(isinstance(part, Comparison) for part in many.tree.parts)
