"""Money as text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter.cost import Cost, to_usd


@pytest.mark.parametrize(
    ("pico", "usd"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (12_500_000, "0.0000125"),
        (10**12, "1"),
        (10 * 10**12, "10"),
        (1_500_000_000_000, "1.5"),
        (-250_000_000_000, "-0.25"),
    ],
)
def test_pico_dollars_read_as_plain_decimals(pico: int, usd: str) -> None:
    assert to_usd(pico) == usd


@given(st.integers())
def test_the_text_is_exact_and_has_no_exponent(pico: int) -> None:
    text = to_usd(pico)
    assert Fraction(text) * 10**12 == pico
    assert "e" not in text.lower()
    assert not text.endswith(".")


def test_a_costs_total_is_the_sum_of_its_kinds() -> None:
    assert Cost(1, 20, 300, 4000, 50000).total == 54321
