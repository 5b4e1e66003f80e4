"""Reads the dashboard as Grafana would: every panel's queries, with the variables put in."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.prometheus import DEPLOY, Prometheus

DASHBOARD = DEPLOY / "grafana/dashboards/pointsman.json"
WINDOWS = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "5m"}


@dataclass(frozen=True)
class Query:
    panel: str
    expr: str
    legend: str
    instant: bool


def load(path: Path = DASHBOARD) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def substitute(expr: str, variables: list[str]) -> str:
    """What Grafana sends with every variable on All."""
    for name, window in WINDOWS.items():
        expr = expr.replace(name, window)
    for name in variables:
        expr = expr.replace(f"${name}", ".*")
    assert "$" not in expr, f"a variable that the dashboard does not define: {expr}"
    return expr


def variables(dashboard: dict[str, Any]) -> list[str]:
    return [variable["name"] for variable in dashboard["templating"]["list"]]


def panel_queries(dashboard: dict[str, Any]) -> list[Query]:
    names = variables(dashboard)
    return [
        Query(panel["title"], substitute(target["expr"], names), target["legendFormat"], target["instant"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def annotation_queries(dashboard: dict[str, Any]) -> list[str]:
    return [substitute(each["expr"], variables(dashboard)) for each in dashboard["annotations"]["list"]]


def answers(query: Query, prometheus: Prometheus) -> list[tuple[dict[str, str], list[float]]]:
    """What a panel would draw, series by series: over the last seconds, or now for an instant query."""
    if query.instant:
        return [(each["metric"], [float(each["value"][1])]) for each in prometheus.instant(query.expr)]
    found = prometheus.range(query.expr, seconds=10, step=1)
    return [(each["metric"], [float(value) for _, value in each["values"]]) for each in found]


def all_faults(prometheus: Prometheus) -> list[str]:
    """What is wrong with any panel of the dashboard, asked of a Prometheus that has seen traffic of every kind."""
    return [fault for query in panel_queries(load()) for fault in faults(query, prometheus)]


def faults(query: Query, prometheus: Prometheus) -> Iterator[str]:
    """What is wrong with a panel's answer once there is traffic: none, NaN or infinity, a series without its name."""
    found = answers(query, prometheus)
    if not found:
        yield f"{query.panel}: no data for {query.expr}"
    for labels, values in found:
        if not all(map(math.isfinite, values)):
            yield f"{query.panel}: not finite at {labels}: {query.expr}"
        nameless = [name for name in re.findall(r"{{(\w+)}}", query.legend) if not labels.get(name)]
        if nameless:
            yield f"{query.panel}: no {nameless} to name {labels} by"
