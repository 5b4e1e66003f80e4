"""`pointsman prices`: the price table, with what a config says over it, and making it anew."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.options import DEFAULT_CONFIG, AsJson
from proxy.meter import prices as table
from proxy.meter.price import Price, Rates
from proxy.meter.usage import KINDS

if TYPE_CHECKING:
    from proxy.runtime import Model

UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    price: Price | None
    origin: str  # `config`, `shipped`, or `none`


def prices(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Models, as the config or a vendor names them; or `update`."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            envvar="POINTSMAN_CONFIG",
            metavar="FILE",
            help="The config file.",
            show_default="pointsman.yaml, if there is one",
        ),
    ] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="The shipped table only, whatever the config.")] = False,
    as_json: AsJson = False,
    source: Annotated[
        str, typer.Option("--from", metavar="FILE|litellm", help="With `update`: the list to take prices from.")
    ] = "litellm",
    write: Annotated[bool, typer.Option("--write", help="With `update`: write the table.")] = False,
) -> None:
    """Show prices in US$ per 1M tokens, and their origin.

    Shows the models of the config, whose own prices win; without a config, the whole shipped table. `update` makes
    that table anew from a price list and shows what changes.

    Exits with 1 when one of the models has no price.
    """
    if models and models[0] == UPDATE:
        raise typer.Exit(update(source, write=write))
    raise typer.Exit(
        show(models or (), as_json=as_json, configured=None if shipped else _configured(config, as_json=as_json))
    )


def _configured(config: Path | None, *, as_json: bool) -> "Mapping[str, Model]":
    """The config's models, but those that forward any asked name; none without a config."""
    from proxy.cli.offline import load_offline

    if config is None and not DEFAULT_CONFIG.exists():
        return {}
    _, snapshot = load_offline(config or DEFAULT_CONFIG, as_json=as_json)
    return {name: model for name, model in snapshot.models.items() if not model.forwards}


def show(names: Sequence[str], *, as_json: bool = False, configured: "Mapping[str, Model] | None" = None) -> int:
    """Print the prices of these names, else of the configured models, else of all that are shipped.

    Returns the exit code: 1 when a model has no price.
    """
    rows = list(_rows(names, configured or {}))
    if as_json:
        print(json.dumps(_document(rows), indent=2))  # noqa: T201 - the command's result
    else:
        _print_table(rows)
    return 1 if any(row.price is None for row in rows) else 0


def update(source: str, *, write: bool, today: str | None = None) -> int:
    """Make the shipped table from a list, print what changes, and write it if asked. Returns the exit code."""
    from proxy.meter import pricelist

    try:
        listing = pricelist.find(source)
        made = pricelist.convert(listing.text)
    except pricelist.Unreadable as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    changes = list(pricelist.diff(table.read()["models"], made))
    for line in changes:
        typer.echo(line)
    count = sum(len(rows) for rows in made.values())
    typer.echo(f"{count} models from {listing.name} {listing.version}, {len(changes)} changes", err=True)
    if write:
        table.TABLE.write_bytes(pricelist.render(listing, made, today or f"{datetime.now(UTC):%Y-%m-%d}"))
        typer.echo(f"wrote {table.TABLE}", err=True)
    elif changes:
        typer.echo("nothing written; --write does", err=True)
    return 0


def _rows(names: Sequence[str], configured: "Mapping[str, Model]") -> Iterable[Row]:
    if not names and not configured:
        for provider, name, price in table.all_shipped():
            yield Row(name if provider in table.VENDORS else f"{provider}/{name}", price, "shipped")
    for name in names or configured:
        known = configured[name].price if name in configured else table.shipped(name)
        yield Row(name, known, "none" if known is None else known.id.partition(":")[0])


def _document(rows: Iterable[Row]) -> dict[str, Any]:
    found = table.source()
    return {
        "unit": "US$ per 1M tokens",
        "source": {"name": found.name, "version": found.version, "date": found.date, "license": found.license},
        "models": {row.model: {"origin": row.origin, **_amounts(row.price)} for row in rows},
    }


def _amounts(price: Price | None) -> dict[str, Any]:
    if price is None:
        return {}
    amounts: dict[str, Any] = _rates(price.base)
    if price.tiers:
        amounts["above"] = {str(above): _rates(rates) for above, rates in price.tiers}
    return amounts


def _rates(rates: Rates) -> dict[str, str]:
    return {kind: table.usd_per_million(getattr(rates, kind)) for kind in KINDS}


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("model", box=None, pad_edge=False, header_style="bold")
    for heading in ("input", "cached", "write", "output"):
        shown.add_column(heading, justify="right")
    shown.add_column("longer prompts")
    shown.add_column("from")
    for row in rows:
        if row.price is None:
            shown.add_row(row.model, *("-",) * 4, "", "no price: write one in the config", style="yellow")
            continue
        base = _rates(row.price.base)
        longer = "; ".join(_tier(above, rates) for above, rates in row.price.tiers)
        shown.add_row(
            row.model, base["input"], base["cached_input"], base["cache_write"], base["output"], longer, row.origin
        )
    # A pipe has no width: rows stay whole, so that grep and awk find them.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False)
    console.print(shown)
    found = table.source()
    typer.echo(f"US$ per 1M tokens. Shipped: {found.name} {found.version}, {found.date} ({found.license}).", err=True)


def _tier(above: int, rates: Rates) -> str:
    each = _rates(rates)
    return f"> {above:,}: {each['input']} / {each['cached_input']} / {each['cache_write']} / {each['output']}"
