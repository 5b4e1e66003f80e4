"""Makes the shipped price table out of LiteLLM's, which is read as a file and never imported.

Kept are text models of the main vendors and hosts, at standard (not batch, flex or priority) rates. Left out are rows
that say 0 for everything (free trials and unknown prices look the same) and rows that looking up would find anyway.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from proxy.meter import prices

MODES = {"chat", "completion", "responses", "embedding"}

# LiteLLM's provider -> ours, in order of authority: a later row never replaces an earlier one of the same name.
PROVIDERS: Mapping[str, str] = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "vertex_ai-language-models": "gemini",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "xai",
    "cohere_chat": "cohere",
    "cohere": "cohere",
    "moonshot": "moonshot",
    "zai": "zai",
    "minimax": "minimax",
    "meta": "meta",
    "azure": "azure",
    "bedrock_converse": "bedrock",
    "groq": "groq",
    "cerebras": "cerebras",
    "sambanova": "sambanova",
    "together_ai": "together_ai",
    "fireworks_ai": "fireworks_ai",
}

# LiteLLM's field -> our kind
FIELDS: Mapping[str, str] = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
}
_FIELD = re.compile(rf"({'|'.join(FIELDS)})(?:_above_(\d+)k_tokens)?")

NEVER = Decimal("Infinity")

LICENSE = "MIT, Copyright (c) 2023 Berri AI"

Table = dict[str, dict[str, dict[str, Any]]]


class Unreadable(Exception):
    """The price list could not be found or is not one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A price list as found: what to call it, and its text."""

    name: str
    version: str
    text: str


def find(source: str) -> Listing:
    """Read the installed LiteLLM's list (`litellm`), or a copy of it at a path. Raises Unreadable."""
    if source != "litellm":
        try:
            text = Path(source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(f"{source}: {error}") from error
        return Listing("litellm", f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}", text)
    spec = importlib.util.find_spec("litellm")  # finds the folder, executes nothing
    if spec is None or not spec.submodule_search_locations:
        raise Unreadable("litellm is not installed; give the path of its model_prices_and_context_window.json")
    path = Path(spec.submodule_search_locations[0]) / "model_prices_and_context_window_backup.json"
    return Listing("litellm", importlib.metadata.version("litellm"), path.read_text())


def convert(text: str) -> Table:
    """Turn LiteLLM's list into our table: provider -> model -> price as config writes it. Raises Unreadable."""
    try:
        listed = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(listed, dict):
        raise Unreadable("not a map of models")
    table: Table = {provider: {} for provider in PROVIDERS.values()}
    for theirs, ours in PROVIDERS.items():
        for name, row in sorted(listed.items()):
            if not isinstance(row, dict) or row.get("litellm_provider") != theirs or row.get("mode") not in MODES:
                continue
            price = _price(row)
            if price and _wanted(theirs, name, price):
                table[ours].setdefault(_bare(name, theirs, ours), price)
    return {provider: dict(sorted(_short(table, provider).items())) for provider in table}


def render(listing: Listing, table: Table, date: str) -> bytes:
    """The shipped file: a header, then a line a model, so that changes read well in a diff."""
    header = {
        "about": "US$ per 1M tokens; made by `pointsman prices update`, not by hand",
        "source": listing.name,
        "version": listing.version,
        "date": date,
        "license": LICENSE,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in header.items()]
    providers = []
    for provider, rows in table.items():
        models = ",\n".join(f"      {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        providers.append(f"    {json.dumps(provider)}: {{\n{models}\n    }}")
    return ("{\n" + "".join(lines) + '  "models": {\n' + ",\n".join(providers) + "\n  }\n}\n").encode()


def diff(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What changes between two tables, a line a model."""
    before = {f"{provider}/{name}": row for provider, rows in old.items() for name, row in rows.items()}
    after = {f"{provider}/{name}": row for provider, rows in new.items() for name, row in rows.items()}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None:
            yield f"+ {name} {json.dumps(now)}"
        elif now is None:
            yield f"- {name} {json.dumps(was)}"
        elif json.loads(json.dumps(now)) != was:
            yield f"~ {name} {json.dumps(was)} -> {json.dumps(now)}"


def _price(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row in our grammar, or None where it has no price."""
    rates: dict[int, dict[str, Decimal]] = {0: {}}
    for field, amount in row.items():
        match = _FIELD.fullmatch(field)
        if match and isinstance(amount, int | Decimal):
            kind, above = FIELDS[match[1]], int(match[2] or 0) * 1000
            # A cached price of 0 means `not known` more often than `free`; unset, it costs the full input.
            if amount or kind in ("input", "output"):
                rates.setdefault(above, {})[kind] = Decimal(amount) * 10**6
    for kinds in rates.values():
        # Nobody sells cache writes below the input price: the list means reads.
        if "cached_input" not in kinds and kinds.get("cache_write", NEVER) < kinds.get("input", 0):
            kinds["cached_input"] = kinds.pop("cache_write")
    base = rates.pop(0)
    if not any(base.values()):
        return None
    written: dict[str, Any] = {"input": Decimal(0), "output": Decimal(0), **base}
    if rates:
        written["above"] = {str(size): dearer for size, dearer in sorted(rates.items())}
    try:
        return prices.to_config(prices.from_config(written))
    except ValueError:
        return None  # more decimals than a price has: a typing error in the list


def _wanted(theirs: str, name: str, price: Mapping[str, Any]) -> bool:
    if theirs == "fireworks_ai":  # a long tail of rows by parameter count; what it serves has a cached price
        return "cached_input" in price and "/routers/" not in name
    if theirs == "azure":  # azure/eu/gpt-4o and the like: nobody's deployment is called so
        return name.count("/") < 2
    if theirs == "together_ai":  # together-ai-4.1b-8b: a class, no model
        return "/" in name
    return True


def _bare(name: str, theirs: str, ours: str) -> str:
    for prefix in (theirs, ours, "vertex_ai"):
        name = name.removeprefix(f"{prefix}/")
    return name.removeprefix("accounts/fireworks/models/")


def _short(table: Table, provider: str) -> dict[str, dict[str, Any]]:
    """One provider's rows without those that looking up finds by a shorter name or at the model's vendor."""
    rows = dict(table[provider])
    sellers = prices.SELLS.get(provider, (provider,))
    for name, row in table[provider].items():
        del rows[name]
        if prices.lookup({**table, provider: rows}, sellers, name) != row:
            rows[name] = row
    return rows
