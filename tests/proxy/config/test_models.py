"""Endpoint weights: always a whole, or a reason."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import weights

WEIGHT = st.one_of(
    st.none(),
    st.just("rest"),
    st.integers(-1, 100),
    st.floats(0, 10, allow_nan=False),
    st.integers(0, 110).map(lambda n: f"{n}%"),
    st.sampled_from(["50%", "25%", "33.3%", "%", "half", "1e1%", "nan%", "-5%"]),
)


@given(st.lists(WEIGHT, min_size=1, max_size=5))
def test_shares_total_one_or_there_is_a_reason(written: list[str | float | int | None]) -> None:
    shares, wrong = weights(written)
    assert (wrong is None) == (len(shares) == len(written))
    if wrong is None:
        assert math.isclose(sum(shares), 1, abs_tol=1e-9)
        assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize(
    ("written", "shares"),
    [
        (["80%", "rest"], [0.8, 0.2]),
        (["33.3%", "33.3%", "33.4%"], [0.333, 0.333, 0.334]),
        ([3, 1], [0.75, 0.25]),
        ([None, None], [0.5, 0.5]),
        (["100%"], [1.0]),
        (["rest"], [1.0]),
        ([0, 5], [0.0, 1.0]),
    ],
)
def test_each_way_to_write_them(written: list[str | float | int | None], shares: list[float]) -> None:
    assert weights(written) == (shares, None)
