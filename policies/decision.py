"""What deciding answers: the chosen route, and why. Plain values; nothing here decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request. Built when config is compiled, one per rule and arm, and shared by requests."""

    policy: str
    rule: str  # the rule's name; `default` for the default, `caller-prompt-near` for a caller prompt nearly known
    route: str
    arm: str | None = None  # the split's arm (the same name as the route), None where there was no split
    propensity: float = 1.0  # the chance with which this arm is drawn, in (0, 1]
    untouched: bool = False  # forward the caller's own messages, add no prompt (a nearly known caller prompt)


@dataclass(frozen=True, slots=True)
class ConditionTrace:
    """One comparison: what was asked of which fact, and what the request had."""

    fact: str
    op: str
    want: Any
    got: Any
    ok: bool


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule looked at; `matched` is the verdict that serving uses."""

    rule: str
    file: str
    line: int
    matched: bool
    conditions: tuple[ConditionTrace, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """What moves without a change of config. Immutable; a new one replaces the old one."""

    # (policy, rule) -> arm -> weight: a ramp's present shares, in place of the split's written ones
    shares: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)


NOTHING_LIVE = Live()
