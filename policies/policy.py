"""A policy: the rules behind one public model name, compiled. Values only; `engine` decides with them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Decision
from policies.split import Arm, Split

if TYPE_CHECKING:
    from policies.caller_prompt import KnownPrompts
    from policies.conditions import Condition
    from policies.index import RuleIndex

__all__ = ["Arm", "Policy", "Rule", "Split"]


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    when: "Condition | None"  # None for the default
    then: Decision | Split
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    rules: tuple[Rule, ...]  # first match wins
    default: Rule
    baseline: str | None  # a route
    known_prompts: "KnownPrompts | None" = None  # `caller_prompt:`
    near: Decision | None = None  # what a nearly known caller prompt gets: the baseline route, untouched
    index: "RuleIndex | None" = None  # of `rules`, made by `index_rules`
