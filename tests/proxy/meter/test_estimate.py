"""Token counts where none were reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter import estimate
from proxy.meter.baseline import Learned
from proxy.meter.usage import Usage


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000), (-3, 0)])
def test_four_characters_are_a_token_until_a_model_shows_its_ratio(characters: int, tokens: int) -> None:
    assert estimate.tokens(characters) == tokens


def test_a_models_own_ratio_is_used_once_known() -> None:
    """Three characters a prompt token and two an output token, as in code or German."""
    learned = Learned()
    learned.observe("lora", 3000, 200, Usage(input=900, cached_input=100, output=100, reasoning=40))
    assert estimate.usage(learned, "lora", 300, 50) == Usage(input=100, output=25)
    assert estimate.usage(learned, "other", 300, 50) == Usage(input=75, output=13)


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_was_delivered_is_never_estimated_as_nothing(characters: int, tokens: int, seen: int) -> None:
    assert estimate.tokens(characters, tokens, seen) >= 1
