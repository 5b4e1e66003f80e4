"""`when`: plain YAML data compiled to a condition that tests, explains and prints itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import re2

from policies.comparison import OPERATORS, compare
from policies.decision import ConditionTrace
from policies.logic import AllOf, Node, all_of, any_of, comparisons, compose, judge, negate
from policies.problems import Problem, Problems, kind_of, nearest
from policies.time_window import compile_window
from policies.vocabulary import FACTS, Fact, find

if TYPE_CHECKING:
    from policies.facts import Facts

Path = tuple[str | int, ...]

# What people write who know another tool.
_SYNONYMS = {
    "one_of": "in", "any_of": "in",
    "ne": "not", "neq": "not", "!=": "not", "not_in": "not", "nin": "not",
    ">": "gt", ">=": "gte", "ge": "gte", "min": "gte", "<": "lt", "<=": "lte", "le": "lte", "max": "lte",
    "regex": "matches", "regexp": "matches", "re": "matches", "starts_with": "prefix", "startswith": "prefix",
    "ends_with": "suffix", "endswith": "suffix", "includes": "contains", "has": "contains", "present": "exists",
}  # fmt: skip
_EQUALITY = ("eq", "equals", "equal", "is", "==", "=", "value")

_OPERATOR_NAMES = ("gt", "gte", "lt", "lte", "not", "in", "matches", "contains", "prefix", "suffix", "exists")
_WANTED = {"text": "text", "texts": "text", "number": "a number", "flag": "true or false"}
_MOST = 2**63  # requests with greater numbers are refused; also leaves out infinity and what is not a number
_BROKEN = AllOf(())  # stands for what could not be compiled; never leaves this module


@dataclass(frozen=True, slots=True)
class Condition:
    """Compiled once, asked for every request. Equal when written alike."""

    tree: Node
    test: "Callable[[Facts], bool]" = field(compare=False, repr=False)
    facts: frozenset[str]  # the names of those it looks at

    def trace(self, facts: "Facts") -> tuple[bool, tuple[ConditionTrace, ...]]:
        """The verdict of `test`, and every comparison in it, also those that `test` need not make. What stands under
        `not` is told as its opposite (`not gt`), so that each `ok` is one that helps the verdict."""
        seen: list[ConditionTrace] = []
        return judge(self.tree, facts, seen), tuple(seen)

    def __str__(self) -> str:
        return str(self.tree)


def compile_when(when: Any, named: Mapping[str, Any] | None = None) -> Condition:
    """`when` as it stands in the config; `named` are the `conditions:` it may name. Raises `Problems`."""
    reading = _Reading(named or {})
    tree = reading.node(when, ())
    if reading.problems:
        raise Problems(list(dict.fromkeys(reading.problems)))
    return Condition(tree, compose(tree), frozenset(leaf.fact.name for leaf in comparisons(tree)))


class _Reading:
    """One walk through a `when` and the named conditions it reaches."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = named
        self.problems: list[Problem] = []
        self.known: dict[str, Node] = {}
        self.open: list[str] = []  # the names being read, outermost first

    def problem(self, path: Path, code: str, message: str, suggestion: str | None = None) -> Node:
        self.problems.append(Problem(path, code, message, suggestion, self.open[-1] if self.open else None))
        return _BROKEN

    def node(self, raw: Any, path: Path) -> Node:
        if isinstance(raw, str):
            return self.name(raw, path)
        if not isinstance(raw, Mapping):
            suggestion = "{all: [...]}" if isinstance(raw, list | tuple) else None
            message = f"a condition is a map of facts or the name of a condition, not {kind_of(raw)}"
            return self.problem(path, "wrong-type", message, suggestion)
        if not raw:
            return self.problem(path, "empty-condition", "this condition asks nothing")
        return all_of([self.entry(key, value, (*path, key)) for key, value in raw.items()])

    def name(self, name: str, path: Path) -> Node:
        if name in self.known:
            return self.known[name]
        if name not in self.named:
            fact = find(name)
            meant = nearest(name, self.named) or (f"{{{name}: true}}" if fact and fact.kind == "flag" else None)
            return self.problem(path, "unknown-condition", f"no condition is named {name!r}", meant)
        if name in self.open:
            ring = " -> ".join([*self.open[self.open.index(name) :], name])
            return self.problem(path, "condition-cycle", f"conditions name each other in a ring: {ring}")
        self.open.append(name)
        self.known[name] = self.node(self.named[name], ())
        self.open.pop()
        return self.known[name]

    def entry(self, key: Any, value: Any, path: Path) -> Node:
        if key == "not":
            return negate(self.node(value, path))
        if key in ("all", "any"):
            if not isinstance(value, list | tuple):
                return self.problem(path, "wrong-type", f"`{key}` wants a list of conditions, not {kind_of(value)}")
            if not value:
                return self.problem(path, "empty-condition", f"`{key}` is an empty list")
            parts = [self.node(part, (*path, position)) for position, part in enumerate(value)]
            return all_of(parts) if key == "all" else any_of(parts)
        fact = find(key) if isinstance(key, str) else None
        if fact is None:
            return self.unknown_fact(key, value, path)
        return self.time(fact, value, path) if fact.kind == "time" else self.comparison(fact, value, path)

    def unknown_fact(self, key: Any, value: Any, path: Path) -> Node:
        group, _, rest = str(key).partition(".")
        family = nearest(group, ("header", "metadata"))
        if family and not rest:
            inner = next(iter(value), "NAME") if isinstance(value, Mapping) else "NAME"
            return self.problem(path, "unknown-fact", f"{key!r} needs a name after it", f"{family}.{inner}")
        if family == group:
            return self.problem(path, "unknown-fact", f"{rest!r} cannot be the name of an HTTP header")
        meant = f"{family}.{rest}" if family else nearest(key, (*FACTS, "all", "any", "not"))
        return self.problem(path, "unknown-fact", f"no fact is named {key!r}", meant)

    def time(self, fact: Fact, value: Any, path: Path) -> Node:
        try:
            return compare(fact, "within", compile_window(value))
        except Problems as found:
            for each in found.problems:
                self.problem((*path, *each.path), each.code, each.message, each.suggestion)
            return _BROKEN

    def comparison(self, fact: Fact, value: Any, path: Path) -> Node:
        if not isinstance(value, Mapping):
            return self.equality(fact, value, path)
        if not value:
            return self.problem(path, "empty-condition", f"`{fact.name}` is compared with nothing")
        return all_of([self.operator(fact, op, want, (*path, op)) for op, want in value.items()])

    def equality(self, fact: Fact, value: Any, path: Path) -> Node:
        if isinstance(value, list | tuple):
            return self.one_of(fact, value, path)
        return compare(fact, "eq", value) if self.fits(fact, value, path) else _BROKEN

    def one_of(self, fact: Fact, values: Sequence[Any], path: Path) -> Node:
        fitting = [self.fits(fact, value, (*path, position)) for position, value in enumerate(values)]
        return compare(fact, "in", tuple(dict.fromkeys(values))) if all(fitting) else _BROKEN

    def operator(self, fact: Fact, op: Any, want: Any, path: Path) -> Node:
        if op not in OPERATORS[fact.kind]:
            return self.unknown_operator(fact, op, want, path)
        if op == "not":
            return negate(self.comparison(fact, want, path))
        if op == "exists":
            if not isinstance(want, bool):
                return self.problem(path, "wrong-type", f"`exists` wants true or false, not {kind_of(want)}")
            there = compare(fact, "exists", True)
            return there if want else negate(there)
        if op == "in":
            if not isinstance(want, list | tuple):
                return self.problem(path, "wrong-type", f"`in` wants a list, not {kind_of(want)}", f"[{want}]")
            return self.one_of(fact, want, path)
        if not self.fits(fact, want, path, whole=False):
            return _BROKEN
        try:
            return compare(fact, op, want)
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
            return self.problem(path, "bad-pattern", f"not an RE2 pattern: {reason}")

    def unknown_operator(self, fact: Fact, op: Any, want: Any, path: Path) -> Node:
        fitting = OPERATORS[fact.kind]
        if op in _OPERATOR_NAMES:
            message = f"`{op}` does not compare {_WANTED[fact.kind]}, which `{fact.name}` is"
            return self.problem(path, "wrong-operator", message, nearest(op, fitting))
        if op in _EQUALITY:
            meant: str | None = f"{fact.name}: {want}"
        else:
            meant = _SYNONYMS.get(op)
            meant = meant if meant in fitting else nearest(op, fitting)
        return self.problem(path, "unknown-operator", f"no operator is named {op!r}", meant)

    def fits(self, fact: Fact, value: Any, path: Path, *, whole: bool = True) -> bool:
        """Whether the fact can be compared with this value; `whole`: as a value that it may have."""
        if not _is(fact, value):
            message = f"`{fact.name}` is {_WANTED[fact.kind]}, but {value!r} is {kind_of(value)}"
            self.problem(path, "wrong-type", message, _rewritten(fact, value))
            return False
        if whole and fact.values and value not in fact.values:
            message = f"`{fact.name}` is never {value!r}: it is one of {', '.join(fact.values)}"
            self.problem(path, "unknown-value", message, nearest(value, fact.values))
            return False
        return True


def _is(fact: Fact, value: Any) -> bool:
    if fact.kind == "flag":
        return isinstance(value, bool)
    if fact.kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return isinstance(value, str)


def _rewritten(fact: Fact, value: Any) -> str | None:
    """The value as one of the fact's type, where that is plainly meant."""
    if value is None:
        return "{exists: false}"
    if fact.kind in ("text", "texts"):
        return f'"{str(value).lower() if isinstance(value, bool) else value}"'
    word = value.strip().lower() if isinstance(value, str) else ""
    if fact.kind == "flag":
        return {"on": "true", "yes": "true", "true": "true", "off": "false", "no": "false", "false": "false"}.get(
            word
        )
    return word if word.isdecimal() else None
