"""Decide: facts in, a decision and its trace out. Pure."""

from policies.conditions import Condition, compile_when
from policies.decision import NOTHING_LIVE, ConditionTrace, Decision, Live, RuleTrace
from policies.engine import decide, explain
from policies.facts import Facts
from policies.index import RuleIndex, index_rules
from policies.policy import Policy, Rule
from policies.problems import Problem, Problems
from policies.proofs import always, contradiction, implies, unreachable
from policies.split import Arm, Split, choose, parse_shares
from policies.sticky import compile_sticky

__all__ = [
    "NOTHING_LIVE",
    "Arm",
    "Condition",
    "ConditionTrace",
    "Decision",
    "Facts",
    "Live",
    "Policy",
    "Problem",
    "Problems",
    "Rule",
    "RuleIndex",
    "RuleTrace",
    "Split",
    "always",
    "choose",
    "compile_sticky",
    "compile_when",
    "contradiction",
    "decide",
    "explain",
    "implies",
    "index_rules",
    "parse_shares",
    "unreachable",
]
