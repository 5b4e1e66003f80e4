"""What can be proved of conditions without a request: that one never matches, always does, or implies another.

Everything follows from one question, whether a conjunction of comparisons can hold. The answer `no` is certain; where
the working would grow too long, or a text would have to be searched for, the answer is `perhaps`.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice, pairwise, product
from typing import TYPE_CHECKING, Any

from policies.comparison import Comparison
from policies.logic import AllOf, Node, all_of, conjuncts, negate
from policies.vocabulary import Fact

if TYPE_CHECKING:
    from policies.conditions import Condition
    from policies.policy import Rule

_TERMS = 256  # conjunctions looked at for one question; more are left unproved
_PAIRS = 10_000  # pairs of rules compared in one policy: well under a second

Term = tuple[Comparison, ...]


def contradiction(condition: "Condition") -> str | None:
    """Why the condition can never match a request, or None where it may."""
    return _clash(condition.tree)


def always(condition: "Condition") -> bool:
    """Whether the condition certainly matches every request."""
    return _clash(negate(condition.tree)) is not None


def implies(narrow: "Condition", wide: "Condition") -> bool:
    """Whether every request that matches `narrow` certainly matches `wide`."""
    return _clash(all_of([narrow.tree, negate(wide.tree)])) is not None


def unreachable(rules: Sequence["Rule"]) -> "list[tuple[Rule, Rule]]":
    """Rules that can never be the first to match, each with the earlier rule that takes all its requests. A rule that
    contradicts itself is not among them: `contradiction` tells that better."""
    found: list[tuple[Rule, Rule]] = []
    earlier: list[tuple[Rule, Condition, dict[str, frozenset[Any]]]] = []
    pairs = iter(range(_PAIRS))
    for rule in rules:
        when = rule.when
        if when is None:
            continue
        held = pinned(when.tree)
        if contradiction(when) is None:
            plausible = ((other, wide) for other, wide, pins in earlier if _may_imply(held, when, pins))
            wider = (other for (other, wide), _ in zip(plausible, pairs, strict=False) if implies(when, wide))
            found.extend((rule, because) for because in islice(wider, 1))
        earlier.append((rule, when, held))
    return found


def pinned(node: Node) -> dict[str, frozenset[Any]]:
    """The facts that must have one of few values for the node to hold, with those values."""
    pins: dict[str, frozenset[Any]] = {}
    for leaf in conjuncts(node):
        if (
            isinstance(leaf, Comparison)
            and leaf.op in ("eq", "in")
            and not leaf.negated
            and leaf.fact.kind != "texts"
        ):
            values = frozenset(leaf.want if leaf.op == "in" else (leaf.want,))
            pins[leaf.fact.name] = pins.get(leaf.fact.name, values) & values
    return pins


def _may_imply(held: dict[str, frozenset[Any]], narrow: "Condition", pins: dict[str, frozenset[Any]]) -> bool:
    """A cheap no for most pairs: the wider rule pins a fact that the narrower leaves open or holds elsewhere."""
    for name, values in pins.items():
        if name not in narrow.facts or (name in held and not held[name] <= values):
            return False
    return True


def _clash(node: Node) -> str | None:
    terms = _terms(node)
    if terms is None:
        return None
    reasons = [_impossible(term) for term in terms]
    return "; ".join(dict.fromkeys(filter(None, reasons))) if all(reasons) else None


def _terms(node: Node) -> list[Term] | None:
    """The node as alternatives of conjunctions, None where they are too many."""
    if isinstance(node, Comparison):
        return [(node,)]
    branches = [_terms(part) for part in node.parts]
    known = [branch for branch in branches if branch is not None]
    if len(known) < len(branches):
        return None
    if not isinstance(node, AllOf):
        terms = [term for branch in known for term in branch]
        return terms if len(terms) <= _TERMS else None
    size = 1
    for branch in known:
        size *= len(branch)
    if size > _TERMS:
        return None
    return [tuple(leaf for term in choice for leaf in term) for choice in product(*known)]


def _impossible(term: Term) -> str | None:
    """Why no request meets all these comparisons."""
    by_fact: dict[Fact, list[Comparison]] = {}
    for leaf in dict.fromkeys(term):
        by_fact.setdefault(leaf.fact, []).append(leaf)
    for fact, leaves in by_fact.items():
        if not _satisfiable(fact, leaves):
            told = " and ".join(map(str, leaves))
            if fact.name == "caller_prompt" and any(leaf.holds("near") for leaf in leaves):
                return f"{told} (a nearly known caller prompt is decided before the rules)"
            return f"{told} is impossible"
    return None


def _satisfiable(fact: Fact, leaves: list[Comparison]) -> bool:
    """Whether some value of the fact, or its absence, may meet all comparisons."""
    if not fact.always and _all_hold(leaves, None):
        return True
    if fact.values:
        return any(_all_hold(leaves, value) for value in fact.values if value != "near")
    if fact.kind == "flag":
        return _all_hold(leaves, True) or _all_hold(leaves, False)
    if fact.kind == "number":
        return any(_all_hold(leaves, value) for value in _samples(fact, leaves))
    listed = [leaf for leaf in leaves if leaf.op in ("eq", "in") and not leaf.negated]
    if fact.kind == "text" and listed:
        return any(_all_hold(leaves, value) for value in _values(listed[0]))
    return _may_hold(leaves)


def _all_hold(leaves: list[Comparison], value: Any) -> bool:
    return all(leaf.holds(value) for leaf in leaves)


def _samples(fact: Fact, leaves: list[Comparison]) -> list[Fraction]:
    """A number from every stretch on which no comparison changes its verdict: with these, trying is proving."""
    named = {value for leaf in leaves if leaf.op != "exists" for value in _values(leaf)}
    edges = sorted(Fraction(edge) for edge in named | ({fact.low, fact.below} - {-math.inf, math.inf}))
    if not edges:
        return [Fraction(0)]
    points = [edges[0] - 1, *edges, edges[-1] + 1, *((low + high) / 2 for low, high in pairwise(edges))]
    return [point for point in points if fact.low <= point < fact.below]


def _values(leaf: Comparison) -> Iterable[Any]:
    return leaf.want if leaf.op == "in" else (leaf.want,)


def _may_hold(leaves: list[Comparison]) -> bool:
    """For a value that exists but cannot be tried out: no wish may exclude another."""
    wishes = [leaf for leaf in leaves if not leaf.negated]
    bans = [leaf for leaf in leaves if leaf.negated]
    if any(leaf.op == "exists" or any(_follows(wish, leaf) for wish in wishes) for leaf in bans):
        return False
    if any(leaf.op == "in" and not leaf.want for leaf in wishes):
        return False
    for op in ("prefix", "suffix"):
        ends = [leaf for leaf in wishes if leaf.op == op and leaf.fact.kind == "text"]
        if any(not one.holds(other.want) and not other.holds(one.want) for one, other in pairwise(ends)):
            return False
    return True


def _follows(wish: Comparison, ban: Comparison) -> bool:
    """Whether whatever meets `wish` has what `ban` forbids."""
    if (wish.op, wish.want) == (ban.op, ban.want):
        return True
    if wish.op in ("eq", "in"):  # of lists: some member is one of these
        return all(_bare(ban, value) for value in _values(wish))
    if wish.op == ban.op and wish.op in ("prefix", "suffix", "contains"):
        return _bare(ban, wish.want)
    return wish.op in ("prefix", "suffix") and ban.op == "contains" and ban.want in wish.want


def _bare(ban: Comparison, value: str) -> bool:
    """What the comparison under the `not` says of one text."""
    return not ban.holds((value,) if ban.fact.kind == "texts" else value)
