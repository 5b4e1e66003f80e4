"""Every expression we ship parses, and asks only for metrics and labels that the product promises."""

from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from tests.deploy import panels
from tests.deploy.contract import METRICS, TARGET_LABELS, labels_of
from tests.deploy.prometheus import DEPLOY


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED = {rule["record"]: rule["expr"] for rule in rules("rules.yml")}
ALERTS = {rule["alert"]: rule["expr"] for rule in rules("alerts.yml")}


def dashboard_expressions() -> dict[str, str]:
    dashboard = panels.load()
    queries = {f"{query.panel}: {query.legend}": query.expr for query in panels.panel_queries(dashboard)}
    return queries | {f"annotation {i}": expr for i, expr in enumerate(panels.annotation_queries(dashboard))}


EXPRESSIONS = dashboard_expressions() | RECORDED | ALERTS


def nodes(expr: Any, kind: type) -> list[Any]:
    """Every node of a kind in a parsed expression."""
    found: list[Any] = []
    promql_parser.walk(expr, lambda node: found.append(node) if isinstance(node, kind) else None)
    return found


def labels_on_offer(name: str) -> set[str] | None:
    """A recorded rule's level (`policy_route:...`) names its labels."""
    if name in RECORDED:
        return set(name.split(":")[0].split("_"))
    promised = labels_of(name)
    return None if promised is None else {*promised, *TARGET_LABELS}


def strays(expr: str) -> Iterator[str]:
    parsed = promql_parser.parse(expr)
    for selector in nodes(parsed, promql_parser.VectorSelector):
        offered = labels_on_offer(selector.name)
        if offered is None:
            yield f"no metric {selector.name}"
            continue
        yield from (
            f"{selector.name} has no label {matcher.name}"
            for matcher in selector.matchers.matchers
            if matcher.name not in offered
        )
    for aggregate in nodes(parsed, promql_parser.AggregateExpr):
        for selector in nodes(aggregate.expr, promql_parser.VectorSelector):
            by = set(aggregate.modifier.labels) if aggregate.modifier else set()
            yield from (
                f"{selector.name} has no label {name}" for name in by - (labels_on_offer(selector.name) or by)
            )


@pytest.mark.parametrize("expr", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_asks_only_for_what_is_promised(expr: str) -> None:
    assert list(strays(expr)) == []


def test_a_stray_name_is_noticed() -> None:
    """The check above can fail."""
    assert list(strays("sum by (colour) (rate(pointsman_requests_total{size='l'}[5m])) + pointsman_speed")) == [
        "pointsman_requests_total has no label size",
        "no metric pointsman_speed",
        "pointsman_requests_total has no label colour",
    ]


@pytest.mark.parametrize("expr", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_quantiles_join_all_series_by_bucket(expr: str) -> None:
    """A quantile over unsummed buckets would be one of each instance, rule and model."""
    for call in nodes(promql_parser.parse(expr), promql_parser.Call):
        if call.func.name == "histogram_quantile":
            inner = call.args[1]
            assert isinstance(inner, promql_parser.AggregateExpr)
            assert inner.modifier is not None
            assert "le" in inner.modifier.labels


def test_the_dashboard_shows_every_metric() -> None:
    """All but the reload gauge, which is an alert."""
    shown = " ".join(dashboard_expressions().values())
    hidden = {name for name in METRICS if name not in shown}
    assert hidden == {"pointsman_config_last_reload_successful"}
    assert "pointsman_config_last_reload_successful" in ALERTS["PointsmanConfigReloadFailed"]


def test_levels_tell_the_labels() -> None:
    """The first part of a rule's name lists what it is summed by."""
    for name, expr in RECORDED.items():
        level = set(name.split(":")[0].split("_"))
        outermost = nodes(promql_parser.parse(expr), promql_parser.AggregateExpr)
        assert all(set(each.modifier.labels) - {"le"} == level for each in outermost), name
