"""Deciding: the first rule that matches, then its split. Explaining is the same walk with every comparison noted."""

from typing import TYPE_CHECKING

from policies.decision import NOTHING_LIVE, ConditionTrace, Decision, Live, RuleTrace
from policies.split import choose

if TYPE_CHECKING:
    from policies.facts import Facts
    from policies.policy import Policy, Rule


def decide(policy: "Policy", facts: "Facts", live: Live = NOTHING_LIVE) -> Decision:
    """What to do with this request. A nearly known caller prompt is settled before any rule is asked."""
    if policy.near is not None and facts.caller_prompt == "near":
        return policy.near
    if policy.index is not None:
        return _then(policy, policy.index.first(facts) or policy.default, facts, live)
    for rule in policy.rules:
        if rule.when is None or rule.when.test(facts):
            return _then(policy, rule, facts, live)
    return _then(policy, policy.default, facts, live)


def explain(policy: "Policy", facts: "Facts", live: Live = NOTHING_LIVE) -> tuple[Decision, tuple[RuleTrace, ...]]:
    """The same decision, and the rules that were looked at: the last one is the one that matched."""
    if policy.near is not None and facts.caller_prompt == "near":
        asked = ConditionTrace("caller_prompt", "eq", "near", "near", True)
        default = policy.default
        return policy.near, (RuleTrace(policy.near.rule, default.file, default.line, True, (asked,)),)
    traces = []
    for rule in (*policy.rules, policy.default):
        matched, conditions = rule.when.trace(facts) if rule.when is not None else (True, ())
        traces.append(RuleTrace(rule.name, rule.file, rule.line, matched, conditions))
        if matched:
            return _then(policy, rule, facts, live), tuple(traces)
    raise AssertionError("the default has no condition")


def _then(policy: "Policy", rule: "Rule", facts: "Facts", live: Live) -> Decision:
    then = rule.then
    if isinstance(then, Decision):
        return then
    return choose(then, facts, live.shares.get((policy.name, rule.name)) if live.shares else None)
