"""Policy tests: a request, what it comes with, and the decision it must lead to. Nothing is sent."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from policies.decision import Decision
from policies.policy import Rule
from proxy.config.problems import did_you_mean
from proxy.errors import PointsmanError
from proxy.explain import Explanation, Situation, caller_of, explain
from proxy.runtime import Snapshot

if TYPE_CHECKING:
    from proxy.config.load import PlacedTest
    from proxy.config.schema import Given

# A test that gives no time gets this one, noon of a Wednesday, so that it does not fail by night.
NOON: Final = datetime(2025, 1, 1, 12, tzinfo=UTC).timestamp()
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the test expects it."""

    field: str
    expected: tuple[str, ...]  # any of these
    got: str
    note: str | None = None  # what may be meant


@dataclass(frozen=True, slots=True)
class Result:
    placed: "PlacedTest"
    differences: tuple[Difference, ...]
    explanation: Explanation | None  # None: the request was refused

    @property
    def ok(self) -> bool:
        return not self.differences


def run(snapshot: Snapshot, placed: "PlacedTest") -> Result:
    """Decide one test's request as when serving, and compare."""
    test = placed.test
    expect = {name: wanted for name, value in test.expect if (wanted := _any_of(value))}
    try:
        found = explain(snapshot, json.dumps(test.request).encode(), situation(snapshot, test.given))
    except LookupError:
        names = [caller.key for caller in snapshot.keys.callers.values()]
        unknown = Difference("key", (str(test.given.key),), "no such key", _near(test.given.key, names))
        return Result(placed, (unknown,), None)
    except PointsmanError as error:
        return Result(placed, _refused(snapshot, expect, error, test.request.get("model")), None)
    got = {
        "policy": found.decision.policy,
        "rule": found.decision.rule,
        "route": found.decision.route,
        "arm": found.decision.arm or NONE,
        "model": found.route.model,
        "prompt": found.prompt,
        "caller_prompt": found.seen.result,
        "error": NONE,
    }
    known = {
        "policy": snapshot.services.keys(),
        "rule": rule_names(found),
        "route": found.service.routes.keys(),
        "arm": {NONE, *found.service.routes},
        "model": snapshot.models.keys(),
    }
    differences = [
        Difference(name, wanted, got[name], _unknown(wanted, known[name]) if name in known else None)
        for name, wanted in expect.items()
        if got[name] not in wanted
    ]
    return Result(placed, tuple(differences), found)


def situation(snapshot: Snapshot, given: "Given") -> Situation:
    """Raises `LookupError` for a key that the config does not have, `Unauthorized` for a wrong header."""
    headers = {name.lower().encode(): value.encode() for name, value in given.headers.items()}
    return Situation(
        now=NOON if given.time is None else datetime.fromisoformat(given.time).timestamp(),
        headers=headers,
        caller=caller_of(snapshot, headers, given.key, given.tenant),
        request_id=given.request_id or "",
        chance=given.chance,
        api=given.api or "chat",
    )


def unreached(snapshot: Snapshot, results: Iterable[Result]) -> list[tuple[str, Rule]]:
    """The rules, defaults among them, that decided no test: policy and rule, as they stand in the config."""
    reached = {(r.explanation.decision.policy, r.explanation.decision.rule) for r in results if r.explanation}
    return [
        (name, rule)
        for name, service in snapshot.services.items()
        for rule in (*service.policy.rules, service.policy.default)
        if (name, rule.name) not in reached
    ]


def rule_names(found: Explanation) -> set[str]:
    """All that can decide in the policy: its rules, its default, a caller prompt nearly known."""
    policy = found.service.policy
    near = () if policy.near is None else (policy.near.rule,)
    return {*(rule.name for rule in (*policy.rules, policy.default)), *near}


def leading_to(found: Explanation, differences: Iterable[Difference]) -> set[str]:
    """The rules that would have made it as expected."""
    wanted = {each.field: each.expected for each in differences}
    policy = found.service.policy
    names = {*wanted.get("rule", ())} & rule_names(found)
    return names or {
        rule.name
        for rule in (*policy.rules, policy.default)
        if not {*wanted.get("route", ()), *wanted.get("arm", ())}.isdisjoint(_routes(rule))
    }


def _routes(rule: Rule) -> list[str]:
    if isinstance(rule.then, Decision):
        return [rule.then.route]
    return [arm.decision.route for arm in rule.then.arms]


def _refused(
    snapshot: Snapshot, expect: dict[str, tuple[str, ...]], error: PointsmanError, model: object
) -> tuple[Difference, ...]:
    wanted = expect.get("error", ())
    if error.code in wanted or str(error.http_status) in wanted:
        return ()
    note = _near(model, snapshot.services) if error.code == "model_not_found" else None
    return (Difference("error", wanted or (NONE,), f"{error.http_status} {error.code}: {error.message}", note),)


def _any_of(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _unknown(wanted: Sequence[str], known: Iterable[str]) -> str | None:
    names = list(known)
    strange = next((name for name in wanted if name not in names), None)
    if strange is None:
        return None
    near = _near(strange, names)
    return f"there is no {strange!r}" + (f"; {near}" if near else "")


def _near(name: object, known: Iterable[str]) -> str | None:
    return did_you_mean(name, list(known))
