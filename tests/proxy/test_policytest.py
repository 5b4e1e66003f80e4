"""Policy tests as values: what is given, what differs, and which rules were reached."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.load import PlacedTest
from proxy.config.schema import Expect, Given, Test
from proxy.explain import explain
from proxy.policytest import run, situation, unreached
from proxy.runtime import Snapshot
from tests.proxy.cli.samples import ask

USERS = st.text(min_size=1, max_size=20)


def placed(user: str, given: Given, **expect: Any) -> PlacedTest:
    return PlacedTest(Test(name="t", given=given, request=ask(user=user), expect=Expect(**expect)), "f", 1)


@given(user=USERS, chance=st.none() | st.floats(0, 1, exclude_max=True), tier=st.sampled_from(["gold", "silver"]))
def test_what_is_explained_is_what_a_test_may_expect(
    snapshot: Snapshot, user: str, chance: float | None, tier: str
) -> None:
    """And nothing else: any other arm or rule is a difference."""
    conditions = Given(chance=chance, headers={"x-tier": tier})
    found = explain(snapshot, orjson.dumps(ask(user=user)), situation(snapshot, conditions))
    told = {"rule": found.decision.rule, "route": found.decision.route, "arm": found.decision.arm or "none"}
    assert run(snapshot, placed(user, conditions, **told)).ok
    other = {"strong": "tuned"}.get(told["route"], "strong")
    (difference,) = run(snapshot, placed(user, conditions, route=other)).differences
    assert (difference.field, difference.expected, difference.got) == ("route", (other,), told["route"])
    assert (found.decision.rule == "lucky") is (tier != "gold" and chance is not None and chance < 0.02)


def test_only_rules_that_decided_a_test_are_reached(snapshot: Snapshot) -> None:
    gold = Given(headers={"X-Tier": "gold"})
    results = [run(snapshot, placed("ada", gold)), run(snapshot, placed("ada", Given(key="nobody")))]
    assert [result.ok for result in results] == [True, False]
    missed = [(policy, rule.name) for policy, rule in unreached(snapshot, results)]
    assert missed == [
        *(("support", name) for name in ("heavy", "night", "canary", "lucky", "default")),
        ("*", "default"),
    ]
