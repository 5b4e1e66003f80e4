"""First match among many rules without asking each: those that pin a fact to a value are found by that value."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policies.comparison import Comparison
from policies.logic import conjuncts, is_costly
from policies.proofs import pinned
from policies.vocabulary import Fact, find

if TYPE_CHECKING:
    from policies.facts import Facts
    from policies.policy import Rule

# A rule's place in the policy and its condition. The lowest number that matches wins.
Numbered = tuple[int, "Callable[[Facts], bool]"]
# A number to read, whether it must lie above or below (or at) a limit, and the rules that all need this.
Bound = tuple["Callable[[Facts], Any]", bool, float, Sequence[Numbered]]


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """Gives the same rule as asking all in order. Made by `index_rules`."""

    rules: "tuple[Rule, ...]"
    lookups: "tuple[tuple[Callable[[Facts], Any], Mapping[Any, Sequence[Numbered]]], ...]"
    bounds: tuple[Bound, ...]
    rest: Sequence[Numbered]  # those that no lookup finds and no bound shuts out

    def first(self, facts: "Facts") -> "Rule | None":
        """The first rule that matches."""
        best = len(self.rules)
        for read, by_value in self.lookups:
            found = by_value.get(read(facts))
            if found is not None:
                best = _lowest(found, facts, best)
        best = _lowest(self.rest, facts, best)
        for read, is_above, limit, numbered in self.bounds:
            if numbered[0][0] < best:
                value = read(facts)
                if value is not None and (value >= limit if is_above else value <= limit):
                    best = _lowest(numbered, facts, best)
        return self.rules[best] if best < len(self.rules) else None


def _lowest(candidates: Sequence[Numbered], facts: "Facts", best: int) -> int:
    for number, test in candidates:
        if number >= best:
            return best
        if test(facts):
            return number
    return best


def index_rules(rules: "Sequence[Rule]") -> RuleIndex:
    """For `Policy.index`. Pays from about five rules."""
    pins = [_pins(rule) for rule in rules]
    rivals = Counter((name, value) for pin in pins for name, values in pin.items() for value in values)

    def crowd(pin: Mapping[str, frozenset[Any]], name: str) -> int:
        return max((rivals[name, value] for value in pin[name]), default=0)

    rest: list[Numbered] = []
    found: dict[str, dict[Any, list[Numbered]]] = {}
    for number, (rule, pin) in enumerate(zip(rules, pins, strict=True)):
        numbered = (number, rule.when.test if rule.when is not None else _every)
        if not pin:
            rest.append(numbered)
            continue
        name = min(pin, key=lambda name, pin=pin: crowd(pin, name))  # type: ignore[misc]  # leaves the fewest to ask
        for value in pin[name]:
            found.setdefault(name, {}).setdefault(value, []).append(numbered)
    lookups = tuple((fact.read, by_value) for name, by_value in found.items() if (fact := find(name)))
    bounds, rest = _bounded(rules, rest)
    return RuleIndex(tuple(rules), lookups, bounds, rest)


def _bounded(rules: "Sequence[Rule]", rest: Sequence[Numbered]) -> tuple[tuple[Bound, ...], list[Numbered]]:
    """Group rules that want a number above (or below) something: if it is not beyond the least, none can match."""
    groups: dict[tuple[Fact, bool], list[tuple[float, Numbered]]] = {}
    free: list[Numbered] = []
    for numbered in rest:
        bound = _bound(rules[numbered[0]])
        if bound is None:
            free.append(numbered)
        else:
            fact, is_above, limit = bound
            groups.setdefault((fact, is_above), []).append((limit, numbered))
    bounds: list[Bound] = []
    for (fact, is_above), members in groups.items():
        limits = [limit for limit, _ in members]
        if len(members) < 2:  # to ask the bound and then the rule would cost more than the rule
            free += [numbered for _, numbered in members]
        else:
            limit = min(limits) if is_above else max(limits)
            bounds.append((fact.read, is_above, limit, [numbered for _, numbered in members]))
    return tuple(bounds), sorted(free, key=lambda numbered: numbered[0])


def _bound(rule: "Rule") -> tuple[Fact, bool, float] | None:
    """A fact that must lie above (True) or below a number, or at it, for the rule to match: the first of its kind.

    Not one that the rule itself would ask for last, and mostly not at all: a prompt is not measured in advance.
    """
    parts = conjuncts(rule.when.tree) if rule.when is not None else ()
    has_cheap = not all(map(is_costly, parts))
    for leaf in parts:
        if isinstance(leaf, Comparison) and not leaf.negated and leaf.op in ("gt", "gte", "lt", "lte"):
            if has_cheap and leaf.fact.costly:
                continue
            return leaf.fact, leaf.op in ("gt", "gte"), leaf.want
    return None


def _pins(rule: "Rule") -> dict[str, frozenset[Any]]:
    """Only facts that cost nothing to read: an index must not measure a prompt that no rule would have."""
    pins = pinned(rule.when.tree) if rule.when is not None else {}
    return {name: values for name, values in pins.items() if (fact := find(name)) and not fact.costly}


def _every(_: "Facts") -> bool:
    return True
