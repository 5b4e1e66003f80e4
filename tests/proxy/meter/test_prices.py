"""Prices as config writes them, and the shipped table."""

import re
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter import prices
from proxy.meter.price import Price, Rates


@pytest.mark.parametrize("amount", ["0.10", 0.1, Decimal("0.1"), "1e-1", " 0.1000000000 "])
def test_an_amount_may_be_text_or_number_and_is_taken_as_written(amount: Any) -> None:
    assert prices.from_config({"input": amount, "output": 0}).base.input == 100_000


def test_unset_rates_follow_input_and_output() -> None:
    assert prices.from_config({"input": 2, "output": 10}).base == Rates(*[2 * 10**6] * 3, *[10**7] * 2)


def test_a_tier_says_what_changes() -> None:
    """What the base wrote stays, what nobody wrote follows the tier's own input and output."""
    price = prices.from_config(
        {"input": 1, "cached_input": "0.1", "output": 4, "above": {"200000": {"input": 2, "output": 6}}}
    )
    assert price.tiers == ((200_000, Rates(2_000_000, 100_000, 2_000_000, 6_000_000, 6_000_000)),)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"input": "0.1234567", "output": 1}, "input: at most 6 decimals of US$ per 1M tokens, got 0.1234567"),
        ({"input": "1e-999999999", "output": 1}, "input: at most 6 decimals"),
        ({"input": 1, "output": -1}, "output: expected US$ per 1M tokens, at least 0, got -1"),
        ({"input": 1, "output": "1e99"}, "output: expected US$"),
        ({"input": float("nan"), "output": 1}, "input: expected US$"),
        ({"input": True, "output": 1}, "input: expected US$ per 1M tokens, got True"),
        ({"input": "cheap", "output": 1}, "input: expected US$ per 1M tokens, got 'cheap'"),
        ({"input": [1], "output": 1}, "input: expected US$"),
        ({"input": 1}, "output: no price; write 0 where nothing is charged"),
        ({"output": 1}, "input: no price"),
        ({"input": 1, "output": 1, "ouput": 1}, "ouput: unknown price; the keys are input, cached_input"),
        ({"input": 1, "output": 1, "above": 7}, "above: expected a map"),
        ({"input": 1, "output": 1, "above": {200: 7}}, "above.200: expected a map of rates"),
        ({"input": 1, "output": 1, "above": {"200k": {}}}, "above.200k: expected a number of prompt tokens"),
        ({"input": 1, "output": 1, "above": {0: {}}}, "above.0: expected a number"),
        ({"input": 1, "output": 1, "above": {True: {}}}, "above.True: expected a number"),
        ({"input": 1, "output": 1, "above": {9: {"input": "x"}}}, "above.9.input: expected US$"),
    ],
)
def test_a_wrong_price_is_refused_in_words(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        prices.from_config(written)


pico = st.integers(0, 10**9)
rates = st.builds(Rates, pico, pico, pico, pico, pico)


@given(rates, st.dictionaries(st.integers(1, 10**7), rates, max_size=3))
def test_writing_a_price_and_reading_it_again_changes_nothing(base: Rates, tiers: dict[int, Rates]) -> None:
    price = Price("config", base, tuple(sorted(tiers.items())))
    assert prices.from_config(prices.to_config(price)) == price


@pytest.mark.parametrize(
    ("asked", "same_as"),
    [
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("azure/gpt-4o", "gpt-4o"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("vertex_ai/claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("google/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("ft:gpt-4o-mini-2024-07-18:acme:support:Ab12", "ft:gpt-4o-mini-2024-07-18"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::x:ckpt-step-9", "ft:gpt-4.1-mini-2025-04-14"),
        ("fireworks_ai/accounts/fireworks/models/gpt-oss-120b", "fireworks_ai/gpt-oss-120b"),
    ],
)
def test_a_model_is_found_by_the_names_people_use(asked: str, same_as: str) -> None:
    found = prices.shipped(asked)
    assert found is not None
    assert found == prices.shipped(same_as)


def test_a_dated_snapshot_with_its_own_price_keeps_it() -> None:
    assert prices.shipped("gpt-4o-2024-05-13") != prices.shipped("gpt-4o")


def test_a_fine_tune_costs_more_than_its_base_and_never_borrows_its_price() -> None:
    tuned, base = prices.shipped("ft:gpt-4o-mini-2024-07-18:acme::1"), prices.shipped("gpt-4o-mini")
    assert tuned is not None
    assert base is not None
    assert tuned.base.output > base.base.output
    assert prices.shipped("ft:gpt-5:acme::1") is None


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("support-lora-7", None),
        ("meta-llama/Llama-3.3-70B-Instruct", None),  # open weights: the host makes the price
        ("openai/gpt-oss-120b", None),
        ("gpt-4o", "my-own-servers"),
        ("", None),
        ("/", None),
        ("ft:", None),
    ],
)
def test_what_nobody_sells_has_no_price(model: str, provider: str | None) -> None:
    assert prices.shipped(model, provider) is None


def test_open_weights_are_found_at_their_host() -> None:
    assert prices.shipped("openai/gpt-oss-120b", "groq") == prices.shipped("groq/openai/gpt-oss-120b")
    assert prices.shipped("openai/gpt-oss-120b", "groq") is not None


def test_long_prompts_have_a_tier() -> None:
    found = prices.shipped("gemini-2.5-pro")
    assert found is not None
    assert [above for above, _ in found.tiers] == [200_000]


def test_every_shipped_row_is_a_price_that_charges_something() -> None:
    rows = list(prices.all_shipped())
    assert 300 < len(rows) < 1000
    for provider, name, price in rows:
        assert price.base.input or price.base.output, f"{provider}/{name} is free"
        assert price.base.cached_input <= price.base.input, f"{provider}/{name}"
        assert price.id == f"shipped:{prices.source().date}"


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://acme.openai.azure.com/openai/v1", "azure"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("http://vllm:8000/v1", None),
        ("http://127.0.0.1:8000", None),
        ("https://api.openai.com.evil.example/v1", None),
    ],
)
def test_a_servers_address_tells_the_vendor(address: str, provider: str | None) -> None:
    assert prices.vendor(address) == provider


def test_the_table_is_read_when_asked_for_and_not_before() -> None:
    """Commands that don't serve start fast: importing prices reads no file."""
    reads = "print(prices.read.cache_info().misses);"
    code = f"from proxy.meter import prices; {reads} prices.shipped('gpt-4o'); {reads}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
