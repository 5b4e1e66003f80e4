"""First match among many rules without asking each: those that pin a fact to a value are found by that value."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from policies.proofs import pinned
from policies.vocabulary import find

if TYPE_CHECKING:
    from policies.facts import Facts
    from policies.policy import Rule

# Below this, asking one after the other is as fast.
_WORTHWHILE = 16

Numbered = tuple[int, "Callable[[Facts], bool]"]


class RuleIndex:
    """Gives the same rule as a scan in order. A rule's place is its number; the lowest number that matches wins."""

    def __init__(self, rules: "Sequence[Rule]") -> None:
        self.rules = tuple(rules)
        pins = [self._pins(rule) for rule in self.rules]
        rivals = Counter((name, value) for pin in pins for name, values in pin.items() for value in values)
        rest: list[Numbered] = []
        found: dict[str, dict[Any, list[Numbered]]] = {}
        for number, (rule, pin) in enumerate(zip(self.rules, pins, strict=True)):
            if rule.when is None:
                continue
            if not pin:
                rest.append((number, rule.when.test))
                continue
            # The pin shared with the fewest others leaves the fewest rules to ask.
            name = min(pin, key=lambda name: max((rivals[name, value] for value in pin[name]), default=0))
            for value in pin[name]:
                found.setdefault(name, {}).setdefault(value, []).append((number, rule.when.test))
        self._rest = tuple(rest)
        self._lookups = tuple((fact.read, by_value) for name, by_value in found.items() if (fact := find(name)))

    def first(self, facts: "Facts") -> "Rule | None":
        """The first rule that matches."""
        best = len(self.rules)
        for read, by_value in self._lookups:
            best = _lowest(by_value.get(read(facts), ()), facts, best)
        best = _lowest(self._rest, facts, best)
        return self.rules[best] if best < len(self.rules) else None

    @staticmethod
    def _pins(rule: "Rule") -> dict[str, frozenset[Any]]:
        """Only facts that cost nothing to read: an index must not measure a prompt that no rule would have."""
        pins = pinned(rule.when.tree) if rule.when else {}
        return {name: values for name, values in pins.items() if (fact := find(name)) and not fact.costly}


def _lowest(candidates: Sequence[Numbered], facts: "Facts", best: int) -> int:
    for number, test in candidates:
        if number >= best:
            return best
        if test(facts):
            return number
    return best


def index_rules(rules: "Sequence[Rule]") -> RuleIndex | None:
    """For `Policy.index`; None where there are too few rules to gain."""
    return RuleIndex(rules) if len(rules) >= _WORTHWHILE else None
