"""`all` and `any` over comparisons. `not` is pushed down to the comparisons, so that a tree has two kinds of node."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.comparison import Comparison, opposite
from policies.decision import ConditionTrace

if TYPE_CHECKING:
    from policies.facts import Facts


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, AllOf) else str(part) for part in self.parts)


Node = Comparison | AllOf | AnyOf


def all_of(parts: Sequence[Node]) -> Node:
    """Flat and without repetition."""
    return _group(AllOf, parts)


def any_of(parts: Sequence[Node]) -> Node:
    return _group(AnyOf, parts)


def _group(group: type[AllOf] | type[AnyOf], parts: Sequence[Node]) -> Node:
    flat: dict[Node, None] = {}
    for part in parts:
        flat |= dict.fromkeys(part.parts if isinstance(part, group) else (part,))
    return next(iter(flat)) if len(flat) == 1 else group(tuple(flat))


def negate(node: Node) -> Node:
    if isinstance(node, Comparison):
        return opposite(node)
    parts = [negate(part) for part in node.parts]
    return any_of(parts) if isinstance(node, AllOf) else all_of(parts)


def comparisons(node: Node) -> Iterator[Comparison]:
    if isinstance(node, Comparison):
        yield node
    else:
        for part in node.parts:
            yield from comparisons(part)


def conjuncts(node: Node) -> tuple[Node, ...]:
    """What must all hold for the node to hold."""
    return node.parts if isinstance(node, AllOf) else (node,)


def compose(node: Node) -> "Callable[[Facts], bool]":
    """One closure for a tree. Cheap questions come first: the order cannot change the verdict."""
    if isinstance(node, Comparison):
        return node.test
    tests = tuple(compose(part) for part in sorted(node.parts, key=is_costly))
    return _all(tests) if isinstance(node, AllOf) else _any(tests)


def is_costly(node: Node) -> bool:
    """Whether asking it may read the whole conversation, or search a text."""
    return any(leaf.fact.costly or leaf.op == "matches" for leaf in comparisons(node))


def judge(node: Node, facts: "Facts", seen: list[ConditionTrace]) -> bool:
    """The verdict of `compose(node)`, with every comparison made and noted."""
    if isinstance(node, Comparison):
        seen.append(node.trace(facts))
        return seen[-1].ok
    verdicts = [judge(part, facts, seen) for part in node.parts]
    return all(verdicts) if isinstance(node, AllOf) else any(verdicts)


def _all(tests: "tuple[Callable[[Facts], bool], ...]") -> "Callable[[Facts], bool]":
    if len(tests) == 2:
        first, second = tests
        return lambda facts: first(facts) and second(facts)

    def test(facts: "Facts") -> bool:
        for each in tests:  # noqa: SIM110 - a generator would cost more than the tests
            if not each(facts):
                return False
        return True

    return test


def _any(tests: "tuple[Callable[[Facts], bool], ...]") -> "Callable[[Facts], bool]":
    if len(tests) == 2:
        first, second = tests
        return lambda facts: first(facts) or second(facts)

    def test(facts: "Facts") -> bool:
        for each in tests:  # noqa: SIM110 - a generator would cost more than the tests
            if each(facts):
                return True
        return False

    return test
