"""How the demo's figures look: a table for people, on a terminal or in a file."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.demo.figures import Figures, RouteFigures

if TYPE_CHECKING:
    from proxy.demo.traffic import Outcome

COLUMNS = ("requests", "in", "cached", "out", "cost $", "saved $", "naive $", "p50", "p95", "TTFT p50")


def table(figures: Figures, title: str) -> Table:
    """One row a route, and their total."""
    found = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        collapse_padding=True,
        pad_edge=False,
    )
    found.add_column("route", no_wrap=True)
    for name in COLUMNS:
        found.add_column(name, justify="right", no_wrap=True)
    for row in figures.routes:
        star = " *" if row.route == figures.baseline else ""
        found.add_row(row.route + star, *_cells(row))
    found.add_section()
    found.add_row("total", *_cells(figures.total), style="bold")
    return found


def _cells(row: RouteFigures) -> tuple[str, ...]:
    failed = f" ({row.failed} failed)" if row.failed else ""
    return (
        f"{row.requests}{failed}",
        f"{row.input:,}",
        f"{row.cached:,}",
        f"{row.output:,}",
        f"{row.usd:.4f}",
        f"{row.saved:.4f}",
        "-" if row.naively_saved is None else f"{row.naively_saved:.4f}",
        _seconds(row.p50),
        _seconds(row.p95),
        _seconds(row.first_token),
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def summary(figures: Figures) -> str:
    """The saving in two sentences: the honest number, and why the other one is larger."""
    total = figures.total
    if figures.baseline is None or not total.baseline_usd:
        return "No savings yet: the policy has no baseline, or nothing was answered."
    said = (
        f"Saved {_share(total.saved, total.baseline_usd)} (${total.saved:.4f}) against sending everything to "
        f"`{figures.baseline}`, whose prompt cache is counted."
    )
    naive, list_price = total.naively_saved, total.uncached_baseline_usd
    if naive is None or not list_price:
        return said
    return f"{said} At list price, without cache hits, it would look like {_share(naive, list_price)} (${naive:.4f})."


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"


def screen(figures: Figures, title: str, last: "Outcome | None" = None) -> RenderableType:
    """The live view: the table, the saving, and the answer that came last."""
    parts: list[RenderableType] = [table(figures, title), Text(summary(figures), style="green")]
    if figures.baseline:
        parts.append(Text(f"* the baseline; {figures.fallbacks} fallbacks", style="dim"))
    if last is not None:
        went = last.served_by or last.route or "nowhere"
        parts.append(Text(f"last: {last.kind} -> {went}, {last.status}, {last.seconds:.2f} s", style="dim"))
    return Group(*parts)
