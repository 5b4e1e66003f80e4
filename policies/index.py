"""First match among many rules without asking each: those that pin a fact to a value are found by that value."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policies.proofs import pinned
from policies.vocabulary import find

if TYPE_CHECKING:
    from policies.facts import Facts
    from policies.policy import Rule

# A rule's place in the policy and its condition. The lowest number that matches wins.
Numbered = tuple[int, "Callable[[Facts], bool]"]


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """Gives the same rule as asking all in order. Made by `index_rules`."""

    rules: "tuple[Rule, ...]"
    lookups: "tuple[tuple[Callable[[Facts], Any], Mapping[Any, Sequence[Numbered]]], ...]"
    rest: Sequence[Numbered]  # those that no lookup finds

    def first(self, facts: "Facts") -> "Rule | None":
        """The first rule that matches."""
        best = len(self.rules)
        for read, by_value in self.lookups:
            found = by_value.get(read(facts))
            if found is not None:
                best = _lowest(found, facts, best)
        best = _lowest(self.rest, facts, best)
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
    return RuleIndex(tuple(rules), lookups, rest)


def _pins(rule: "Rule") -> dict[str, frozenset[Any]]:
    """Only facts that cost nothing to read: an index must not measure a prompt that no rule would have."""
    pins = pinned(rule.when.tree) if rule.when is not None else {}
    return {name: values for name, values in pins.items() if (fact := find(name)) and not fact.costly}


def _every(_: "Facts") -> bool:
    return True
