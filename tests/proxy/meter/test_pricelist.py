"""Making the shipped table from LiteLLM's list."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.meter import pricelist, prices


def listing(**rows: dict[str, Any]) -> str:
    return json.dumps({name: {"litellm_provider": "openai", "mode": "chat", **row} for name, row in rows.items()})


def test_floats_become_the_decimals_they_stand_for() -> None:
    """7.5e-08 a token is 0.075 a million, not 0.07499999."""
    text = listing(small={"input_cost_per_token": 7.5e-08, "output_cost_per_token": 6e-07})
    assert pricelist.convert(text)["openai"] == {"small": {"input": "0.075", "output": "0.6"}}


def test_standard_rates_and_tiers_are_kept_and_special_ones_left() -> None:
    text = listing(
        long={
            "input_cost_per_token": 1e-06,
            "input_cost_per_token_batches": 5e-07,
            "input_cost_per_token_above_200k_tokens": 2e-06,
            "input_cost_per_token_above_200k_tokens_priority": 9e-06,
            "cache_read_input_token_cost": 1e-07,
            "cache_creation_input_token_cost_above_1hr": 6e-06,
            "output_cost_per_token": 4e-06,
            "output_cost_per_reasoning_token": 5e-06,
        }
    )
    assert pricelist.convert(text)["openai"]["long"] == {
        "input": "1",
        "cached_input": "0.1",
        "output": "4",
        "reasoning": "5",
        "above": {200000: {"input": "2", "cached_input": "0.1", "output": "4", "reasoning": "5"}},
    }


@pytest.mark.parametrize(
    "row",
    [
        {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
        {"mode": "image_generation", "input_cost_per_token": 1e-06},
        {"litellm_provider": "somebody", "input_cost_per_token": 1e-06},
        {"input_cost_per_token": 1.23456789e-12, "output_cost_per_token": 1e-06},
        {"input_cost_per_token": "1e-06"},
    ],
)
def test_rows_that_are_no_price_are_left_out(row: dict[str, Any]) -> None:
    assert pricelist.convert(listing(x=row))["openai"] == {}


def test_rows_that_lookup_finds_anyway_are_left_out() -> None:
    price = {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}
    rows = {"m": price, "m-2026-01-01": price, "m-2025-01-01": {**price, "input_cost_per_token": 3e-06}}
    rows["azure/m"] = {**price, "litellm_provider": "azure"}
    table = pricelist.convert(listing(**rows))
    assert sorted(table["openai"]) == ["m", "m-2025-01-01"]
    assert table["azure"] == {}


def test_a_write_price_below_input_was_meant_for_reads() -> None:
    text = listing(
        x={"input_cost_per_token": 2e-06, "cache_creation_input_token_cost": 1e-06, "output_cost_per_token": 2e-06}
    )
    assert pricelist.convert(text)["openai"]["x"] == {"input": "2", "cached_input": "1", "output": "2"}


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(pricelist.Unreadable):
        pricelist.convert(text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pricelist.Unreadable, match=r"nowhere\.json"):
        pricelist.find(str(tmp_path / "nowhere.json"))


def test_the_diff_names_what_came_went_and_changed() -> None:
    old = {"openai": {"a": {"input": "1"}, "b": {"input": "1"}}}
    new = {"openai": {"b": {"input": "2"}, "c": {"input": "3"}}}
    assert list(pricelist.diff(old, new)) == [
        '- openai/a {"input": "1"}',
        '~ openai/b {"input": "1"} -> {"input": "2"}',
        '+ openai/c {"input": "3"}',
    ]


def test_the_shipped_table_is_this_programs_own_output() -> None:
    """Byte for byte, when the LiteLLM that it was made from is the one installed."""
    try:
        found = pricelist.find("litellm")
    except pricelist.Unreadable:
        pytest.skip("litellm is not installed")
    if found.version != prices.source().version:
        pytest.skip(f"made from {prices.source().version}, installed is {found.version}")
    made = pricelist.render(found, pricelist.convert(found.text), prices.source().date)
    assert made == prices.TABLE.read_bytes()
