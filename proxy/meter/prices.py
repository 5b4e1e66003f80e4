"""Prices from config and from the shipped table. The table is read when first asked for, never at import.

Config and table share one grammar: `{input, cached_input, cache_write, output, reasoning}` in US$ per 1M tokens, and
`above: {200000: {input: ..., output: ...}}` for longer prompts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from proxy.meter.price import Price, Rates
from proxy.meter.usage import KINDS

# provider -> model -> price as config writes it
Table = Mapping[str, Mapping[str, Mapping[str, Any]]]

TABLE = Path(__file__).with_name("prices.json")

# Pico-dollars per token in a US dollar per 1M tokens: hence at most 6 decimals.
MILLION = 1_000_000
DECIMALS = 6

# Vendors that a bare model name may belong to. The same open weights cost differently at every host, so hosts'
# rows want their provider.
VENDORS = ("openai", "anthropic", "gemini", "mistral", "deepseek", "xai", "cohere", "moonshot", "zai")

# Where a provider's models are looked up, in order. A provider that is not here has rows of its own or none.
SELLS: Mapping[str, tuple[str, ...]] = {
    "azure": ("azure", "openai"),
    "azure_ai": ("openai", "mistral", "cohere"),
    "vertex_ai": ("gemini", "anthropic", "mistral"),
    "google": ("gemini",),
    "mistralai": ("mistral",),
    "x-ai": ("xai",),
    "cohere_chat": ("cohere",),
    "moonshotai": ("moonshot",),
    "bedrock_converse": ("bedrock",),
}

HOSTS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "vertex_ai",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.moonshot.ai": "moonshot",
    "api.z.ai": "zai",
    "api.groq.com": "groq",
    "api.cerebras.ai": "cerebras",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
}

# Dated snapshots: gpt-4o-2024-08-06, claude-haiku-4-5-20251001, Vertex AI's claude-sonnet-4-5@20250929.
_DATE = re.compile(r"[-@](20\d\d-\d\d-\d\d|20\d{6})$")
# Fireworks' own names carry their account.
_ACCOUNT = "accounts/fireworks/models/"
# Bedrock's cross-region profiles: us.anthropic.claude-...
_REGION = re.compile(r"^(us|eu|apac|jp|au|ca|us-gov|global)\.")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the shipped table comes from."""

    name: str
    version: str
    date: str  # when it was taken
    license: str


def from_config(written: Mapping[str, Any], id: str = "config") -> Price:
    """Compile a price as config writes it. Raises ValueError, which names the key and what is wrong with it.

    `input` and `output` must be there; unset `cached_input` and `cache_write` cost `input`, unset `reasoning` costs
    `output`. A tier under `above` says what changes: its unset keys keep what the base wrote, and follow the tier's
    own `input` and `output` where the base wrote nothing.
    """
    tiers = written.get("above") or {}
    if not isinstance(tiers, Mapping):
        raise ValueError(f"above: expected a map of prompt sizes to rates, got {tiers!r}")
    base = {key: value for key, value in written.items() if key != "above"}
    compiled = {}
    for size, dearer in tiers.items():
        if not isinstance(dearer, Mapping):
            raise ValueError(f"above.{size}: expected a map of rates, got {dearer!r}")
        compiled[_size(size)] = _rates({**base, **dearer}, f"above.{size}.")
    return Price(id, _rates(base), tuple(sorted(compiled.items())))


def to_config(price: Price) -> dict[str, Any]:
    """The price as config would write it, amounts as exact text; keys that follow others are left out."""
    written: dict[str, Any] = _written(price.base)
    if price.tiers:
        written["above"] = {size: _written(rates, tuple(written)) for size, rates in price.tiers}
    return written


def shipped(model: str, provider: str | None = None) -> Price | None:
    """Find a model's list price, or None.

    `provider` is a name from the table (`openai`, `azure`, `anthropic`...), as LiteLLM or `vendor` say it; without
    one the name is looked for among the vendors' own models, after an optional `provider/` prefix. A provider
    that the table does not know has no prices: its models are nobody's. Fine-tunes (`ft:base:org:suffix:id`) only
    match rows of fine-tunes, because they cost more than their base.
    """
    sellers, name = _place(model, provider)
    row = lookup(_table(), sellers, name)
    return from_config(row, f"shipped:{source().date}") if row else None


def lookup(table: Table, sellers: Sequence[str], name: str) -> Mapping[str, Any] | None:
    """The row of the first seller that has the model, under its own name or the one it is a dated snapshot of."""
    for seller in sellers:
        rows = table.get(seller, {})
        for known_as in _names(name):
            if known_as in rows:
                return rows[known_as]
    return None


def vendor(base_url: str) -> str | None:
    """The provider behind a server's address, or None for one's own servers and unknown ones."""
    host = urlsplit(base_url).hostname or ""
    while host:
        if host in HOSTS:
            return HOSTS[host]
        host = host.partition(".")[2]
    return None


def source() -> Source:
    """Where the shipped table comes from, and when."""
    raw = read()
    return Source(raw["source"], raw["version"], raw["date"], raw["license"])


def all_shipped() -> Iterator[tuple[str, str, Price]]:
    """All rows of the shipped table: provider, model, price."""
    for provider, rows in _table().items():
        for name, row in rows.items():
            yield provider, name, from_config(row, f"shipped:{source().date}")


@cache
def read() -> dict[str, Any]:
    """The shipped file as it is: source, version, date, license and models."""
    table: dict[str, Any] = orjson.loads(TABLE.read_bytes())
    return table


def _table() -> Table:
    models: Table = read()["models"]
    return models


def _place(model: str, provider: str | None) -> tuple[Sequence[str], str]:
    """Who sells the model, and its name there without the seller's prefix."""
    prefix, slash, rest = model.partition("/")
    if provider is None and not slash:
        return VENDORS, model
    if provider in (None, prefix) and slash:
        provider, model = prefix, rest
    assert provider is not None
    return SELLS.get(provider, (provider,)), model


def _names(model: str) -> Iterator[str]:
    """What a model may be called in the table, most exact first."""
    model = model.removeprefix(_ACCOUNT)
    if model.startswith("ft:"):
        model = ":".join(model.split(":")[:2])
    for name in dict.fromkeys((model, _REGION.sub("", model))):
        yield name
        if _DATE.search(name):
            yield _DATE.sub("", name)


def _rates(written: Mapping[str, Any], path: str = "") -> Rates:
    stray = sorted(set(map(str, written)) - set(KINDS))
    if stray:
        raise ValueError(f"{path}{stray[0]}: unknown price; the keys are {', '.join(KINDS)} and above")
    given = {kind: _pico(written[kind], f"{path}{kind}") for kind in KINDS if written.get(kind) is not None}
    for kind in ("input", "output"):
        if kind not in given:
            raise ValueError(f"{path}{kind}: no price; write 0 where nothing is charged (as for embeddings' output)")
    return Rates(
        input=given["input"],
        cached_input=given.get("cached_input", given["input"]),
        cache_write=given.get("cache_write", given["input"]),
        output=given["output"],
        reasoning=given.get("reasoning", given["output"]),
    )


def _pico(amount: Any, path: str) -> int:
    """US$ per 1M tokens as pico-dollars per token."""
    if isinstance(amount, bool) or not isinstance(amount, str | int | float | Decimal):
        raise ValueError(f"{path}: expected US$ per 1M tokens, got {amount!r}")
    try:
        exact = Decimal(str(amount).strip())  # a float's shortest text is what was written
    except InvalidOperation:
        raise ValueError(f"{path}: expected US$ per 1M tokens, got {amount!r}") from None
    if not exact.is_finite() or exact < 0 or exact > 10**9:
        raise ValueError(f"{path}: expected US$ per 1M tokens, at least 0, got {amount!r}")
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)  # it is finite
    if exponent >= -100:  # beyond that, exact fractions get long and the answer is no anyway
        numerator, denominator = exact.as_integer_ratio()
        pico, rest = divmod(numerator * MILLION, denominator)
        if not rest:
            return pico
    raise ValueError(f"{path}: at most {DECIMALS} decimals of US$ per 1M tokens, got {amount}")


def _size(size: Any) -> int:
    digits = str(size)
    if isinstance(size, bool) or not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        raise ValueError(f"above.{size}: expected a number of prompt tokens, such as 200000")
    return int(digits)


def _written(rates: Rates, always: Sequence[str] = ()) -> dict[str, str]:
    follows = {"cached_input": rates.input, "cache_write": rates.input, "reasoning": rates.output}
    amounts = {kind: getattr(rates, kind) for kind in KINDS}
    return {
        kind: usd_per_million(pico) for kind, pico in amounts.items() if kind in always or pico != follows.get(kind)
    }


def usd_per_million(pico_per_token: int) -> str:
    """Pico-dollars per token as US$ per 1M tokens, exact and plain: `2.5`."""
    whole, rest = divmod(pico_per_token, MILLION)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
