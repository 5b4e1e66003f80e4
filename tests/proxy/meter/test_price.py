"""Usage times price, against exact fractions."""

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.meter import prices
from proxy.meter.cost import PICO, Cost
from proxy.meter.price import Price, Rates
from proxy.meter.usage import KINDS, Usage

amounts = st.decimals(0, 1000, places=6, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**7)
usages = st.builds(Usage, counts, counts, counts, counts, counts)


def rates(optional: bool) -> Any:
    keys = dict.fromkeys(KINDS, amounts)
    required = {} if optional else {"input": keys.pop("input"), "output": keys.pop("output")}
    return st.fixed_dictionaries(required, optional=keys)


def oracle(written: dict[str, Any], usage: Usage) -> Fraction:
    """The contract's words in exact fractions: what a request costs, in US$."""
    tier: dict[str, Any] = {}
    for above, dearer in sorted(written.get("above", {}).items()):
        if usage.prompt > above:
            tier = dearer
    at = {**written, **tier}
    at.setdefault("cached_input", at["input"])
    at.setdefault("cache_write", at["input"])
    at.setdefault("reasoning", at["output"])
    return sum((Fraction(at[kind]) / 10**6 * getattr(usage, kind) for kind in KINDS), Fraction(0))


@given(rates(optional=False), st.dictionaries(st.integers(1, 10**7), rates(optional=True), max_size=3), usages)
def test_cost_is_exact(written: dict[str, Any], tiers: dict[int, Any], usage: Usage) -> None:
    written = {**written, "above": tiers}
    price = prices.from_config(written)
    assert Fraction(price.cost(usage).total, PICO) == oracle(written, usage)
    assert price.total(usage) == price.cost(usage).total


@given(rates(optional=False), usages, usages)
def test_without_tiers_cost_adds_up(written: dict[str, Any], one: Usage, other: Usage) -> None:
    price = prices.from_config(written)
    both = Usage(*(getattr(one, kind) + getattr(other, kind) for kind in KINDS))
    assert price.cost(one).total + price.cost(other).total == price.cost(both).total


def test_the_whole_request_is_billed_at_the_tier_it_reaches() -> None:
    """The tier starts above its size, and cached tokens count towards it."""
    price = Price("t", Rates(1, 1, 1, 1, 1), ((100, Rates(2, 2, 2, 2, 2)), (200, Rates(3, 3, 3, 3, 3))))
    assert price.cost(Usage(input=100, output=1)) == Cost(input=100, output=1)
    assert price.cost(Usage(input=1, cached_input=100, output=1)) == Cost(input=2, cached_input=200, output=2)
    assert price.cost(Usage(input=201, output=1)) == Cost(input=603, output=3)
