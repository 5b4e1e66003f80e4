"""Grafana panels as plain dictionaries: a factory a kind, so that panels of a kind look alike.

A panel leaves here with its size; where it goes and its id come from the dashboard.
"""

from typing import Any

from queries import Target

Panel = dict[str, Any]
Size = tuple[int, int]  # width of 24 columns, height in rows
Step = tuple[str, float | None]  # colour, from this value on

SOURCE = {"type": "prometheus", "uid": "${datasource}"}  # the dashboard's variable: provisioned or imported alike


def panel(kind: str, title: str, about: str, size: Size, **fields: Any) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        **fields,
    }


def queries(targets: list[Target], *, instant: bool = False, as_table: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "refId": chr(ord("A") + i),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": expr,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
            "format": "table" if as_table else "time_series",
        }
        for i, (expr, legend) in enumerate(targets)
    ]


def thresholds(steps: list[Step]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in steps]}


NEWEST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
BY_NAME = {"mode": "palette-classic-by-name"}  # a route keeps its colour from panel to panel


def stat(
    title: str, about: str, expr: str, unit: str, *, steps: list[Step] | None = None, decimals: int | None = None
) -> Panel:
    """The newest value over a small line of its past, coloured by `steps`."""
    defaults: dict[str, Any] = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(steps or [("blue", None)]),
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    return panel(
        "stat",
        title,
        about,
        (3, 4),
        targets=queries([(expr, title)]),
        fieldConfig={"defaults": defaults, "overrides": []},
        options={
            "colorMode": "value",
            "graphMode": "area",
            "orientation": "auto",
            "textMode": "value",
            "reduceOptions": NEWEST,
        },
    )


def lines(
    title: str,
    about: str,
    targets: list[Target],
    unit: str,
    *,
    size: Size = (8, 8),
    draw: str = "line",
    stack: str = "none",
    bottom: float | None = 0,
    top: float | None = None,
    empty: str | None = None,
    overrides: list[dict[str, Any]] | None = None,
) -> Panel:
    """A time series: lines, areas when `stack` is `normal`, or bars for what happens seldom. `bottom` and `top` bound
    the axis; `empty` is what a panel says when nothing happened, where that is good news."""
    stacked = stack != "none"
    defaults: dict[str, Any] = {
        "unit": unit,
        "color": BY_NAME,
        "custom": {
            "drawStyle": draw,
            "lineInterpolation": "linear",
            "lineWidth": 1 if stacked else 2,
            "fillOpacity": {"bars": 80, "line": 35 if stacked else 0}[draw],
            "showPoints": "never",
            "spanNulls": 60_000,
            "stacking": {"mode": stack, "group": "A"},
        },
    }
    optional = {"min": bottom, "max": top, "noValue": empty}
    defaults |= {name: value for name, value in optional.items() if value is not None}
    return panel(
        "timeseries",
        title,
        about,
        size,
        targets=queries(targets),
        fieldConfig={"defaults": defaults, "overrides": overrides or []},
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def bars(
    title: str, about: str, targets: list[Target], unit: str, *, overrides: list[dict[str, Any]] | None = None
) -> Panel:
    """One bar a series, over the whole of the time shown."""
    defaults = {"unit": unit, "color": BY_NAME, "thresholds": thresholds([("green", None)])}
    return panel(
        "bargauge",
        title,
        about,
        (8, 6),
        targets=queries(targets, instant=True),
        fieldConfig={"defaults": defaults, "overrides": overrides or []},
        options={"displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "reduceOptions": NEWEST},
    )


def table(title: str, about: str, target: Target, unit: str, *, names: dict[str, str], size: Size) -> Panel:
    """The present label sets as rows; `names` are the columns that are kept, in order, and their titles."""
    order = {name: i for i, name in enumerate(names)}
    return panel(
        "table",
        title,
        about,
        size,
        targets=queries([target], instant=True, as_table=True),
        fieldConfig={"defaults": {"unit": unit}, "overrides": []},
        options={"showHeader": True},
        transformations=[
            {"id": "filterFieldsByName", "options": {"include": {"names": list(names)}}},
            {"id": "organize", "options": {"renameByName": names, "indexByName": order}},
        ],
    )


def text(title: str, about: str, content: str, *, size: Size = (8, 8)) -> Panel:
    return panel("text", title, about, size, options={"mode": "markdown", "content": content})


def fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def override(pattern: str, **properties: Any) -> dict[str, Any]:
    """How the series whose names match look. The short names here stand for Grafana's dotted ones."""
    dotted = {
        "line_style": "custom.lineStyle",
        "width": "custom.lineWidth",
        "fill": "custom.fillOpacity",
        "stacking": "custom.stacking",
    }
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [{"id": dotted.get(name, name), "value": value} for name, value in properties.items()],
    }


DASHED = {"fill": "dash", "dash": [10, 6]}
DOTTED = {"fill": "dot", "dash": [0, 6]}
QUANTILE_STYLES = [
    override("/^p50 /", line_style=DOTTED, width=2, fill=0),
    override("/^p95 /", width=2, fill=0),
    override("/^p99 /", line_style=DASHED, width=1, fill=0),
]
