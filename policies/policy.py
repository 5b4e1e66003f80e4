"""A policy: the rules behind one public model name, compiled. Values only; `engine` decides with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.decision import Decision

if TYPE_CHECKING:
    from policies.caller_prompt import KnownPrompts
    from policies.conditions import Condition
    from policies.facts import Facts


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a split. `seed` is what its score hashes, made at load from the salt and the arm's name."""

    decision: Decision
    weight: float  # share in (0, 1]; an arm of 0 % is written but never drawn


@dataclass(frozen=True, slots=True)
class Split:
    """A weighted choice that gives one caller the same arm on every replica and after restarts."""

    arms: tuple[Arm, ...]
    salt: str  # `salt:` from config, else policy and rule
    sticky: Callable[["Facts"], str]  # the caller's key


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
    # Equality tests indexed at load; see `engine.index`. Empty for short rule lists.
    index: Mapping[str, object] | None = None
