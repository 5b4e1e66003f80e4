"""One comparison of one fact: the leaf of every condition, compiled to a closure."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import re2

from policies.decision import ConditionTrace
from policies.time_window import TimeWindow
from policies.vocabulary import Fact, Kind, shown

if TYPE_CHECKING:
    from policies.facts import Facts

# What may be asked of each type of fact. Equality is written without an operator and is called `eq` here.
OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": ("in", "matches", "contains", "prefix", "suffix", "not", "exists"),
    "texts": ("in", "matches", "contains", "prefix", "suffix", "not", "exists"),
    "number": ("in", "gt", "gte", "lt", "lte", "not", "exists"),
    "flag": ("in", "not", "exists"),
}

_SYMBOLS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

# Steps of a compiled pattern. Searching is linear in the text, but where counted repetitions have more states than
# RE2 remembers, each character costs up to the whole program: `(.{1,1000})!` has 9,004 steps, 20 s for a MiB.
MAX_PROGRAM = 2_500


@dataclass(frozen=True, slots=True)
class Comparison:
    """`op` of `fact` with `want`. A missing fact makes it false; `negated`, it is true then."""

    fact: Fact
    op: str
    want: Any  # a tuple for `in`, a TimeWindow for `within`, true for `exists`
    negated: bool
    test: "Callable[[Facts], bool]" = field(compare=False, repr=False)

    def holds(self, value: Any) -> bool:
        """Its verdict if the fact had this value (None: missing)."""
        found = _tester(lambda _: value, self.fact.kind, self.op, self.want)(None)
        return found is not self.negated

    def trace(self, facts: "Facts") -> ConditionTrace:
        got, want = self.fact.read(facts), self.want
        if isinstance(want, TimeWindow):
            got, want = want.local(got).isoformat(), str(want)
        elif isinstance(want, tuple):
            want = list(want)
        if isinstance(got, tuple):
            got = list(got)
        ok = self.test(facts)
        if self.op == "exists":
            return ConditionTrace(self.fact.name, "exists", not self.negated, shown(self.fact.name, got), ok)
        return ConditionTrace(self.fact.name, self.asked, want, shown(self.fact.name, got), ok)

    @property
    def asked(self) -> str:
        """The operator as one would write it: `gt`, `not gt`, `not`."""
        if not self.negated:
            return self.op
        return "not" if self.op == "eq" else f"not {self.op}"

    def __str__(self) -> str:
        if self.op == "exists":
            return f"{self.fact.name} {'is missing' if self.negated else 'exists'}"
        if isinstance(self.want, TimeWindow):
            want = f"({self.want})"
        elif isinstance(self.want, tuple):
            want = f"[{', '.join(map(_written, self.want))}]"
        else:
            want = _written(self.want)
        told = f"{self.fact.name} {_SYMBOLS.get(self.op, self.op)} {want}"
        return f"not {told}" if self.negated else told


def compare(fact: Fact, op: str, want: Any) -> Comparison:
    """Compiled. `matches` raises `re2.error` for a pattern that is not RE2."""
    return Comparison(fact, op, want, negated=False, test=_tester(fact.read, fact.kind, op, want))


def opposite(comparison: Comparison) -> Comparison:
    test = comparison.test
    return replace(comparison, negated=not comparison.negated, test=lambda facts: not test(facts))


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tester(read: Callable[[Any], Any], kind: Kind, op: str, want: Any) -> Callable[[Any], bool]:
    """A closure for one operator, with no test of type or operator left in it."""
    if kind == "texts" and op != "exists":
        member = _tester(lambda value: value, "text", op, want)
        return lambda facts: any(map(member, read(facts) or ()))
    match op:
        case "eq":
            return lambda facts: read(facts) == want
        case "in":
            wanted = frozenset(want)
            return lambda facts: read(facts) in wanted
        case "exists":
            return lambda facts: read(facts) is not None
        case "gt":
            return lambda facts: (value := read(facts)) is not None and value > want
        case "gte":
            return lambda facts: (value := read(facts)) is not None and value >= want
        case "lt":
            return lambda facts: (value := read(facts)) is not None and value < want
        case "lte":
            return lambda facts: (value := read(facts)) is not None and value <= want
        case "contains":
            return lambda facts: (value := read(facts)) is not None and want in value
        case "prefix":
            return lambda facts: (value := read(facts)) is not None and value.startswith(want)
        case "suffix":
            return lambda facts: (value := read(facts)) is not None and value.endswith(want)
        case "matches":
            search = _pattern(want).search
            return lambda facts: (value := read(facts)) is not None and search(_encoded(value)) is not None
        case "within":
            return lambda facts: want.holds(read(facts))
    raise AssertionError(op)  # `conditions` lets no other operator through


def _encoded(text: str) -> bytes:
    """RE2 works on UTF-8; handed bytes, it is spared the way back (3 us a search become 1)."""
    return text.encode("utf-8", "replace")


def _pattern(pattern: str) -> Any:
    """Compiled. Raises `re2.error`."""
    options = re2.Options()
    options.log_errors = False  # the caller reports them
    options.never_capture = True
    compiled = re2.compile(_encoded(pattern), options)
    if compiled.programsize > MAX_PROGRAM:
        raise re2.error(
            f"too large ({compiled.programsize:,} steps, {MAX_PROGRAM:,} may be): shorten counted repetitions"
        )
    return compiled
