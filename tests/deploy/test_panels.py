"""Every panel and rule, asked of a real Prometheus that scrapes: each has an answer, and every figure is finite."""

import pytest

from tests.deploy import panels
from tests.deploy.prometheus import Prometheus, wait_until
from tests.deploy.test_promql import ALERTS, RECORDED

pytestmark = [pytest.mark.needs("prometheus"), pytest.mark.xdist_group("prometheus")]


def test_every_panel_has_finite_answers(prometheus: Prometheus) -> None:
    assert panels.all_faults(prometheus) == []


def test_a_panel_without_an_answer_is_noticed(prometheus: Prometheus) -> None:
    """The check above can fail, in each of its three ways."""
    wrong = {
        "no data": "sum(rate(pointsman_speed_total[1m]))",
        "not finite": "sum(up) / 0",
        "to name": "up",
    }
    for reason, expr in wrong.items():
        (fault,) = panels.faults(
            panels.Query("Wrong", expr, "{{route}}" if reason == "to name" else "", False), prometheus
        )
        assert reason in fault


def test_reloads_are_marked(prometheus: Prometheus) -> None:
    (expr,) = panels.annotation_queries(panels.load())
    assert prometheus.instant(expr)


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    """Each recorded figure has a value, and no rule or alert is in error."""
    wait_until(lambda: all(prometheus.instant(name) for name in RECORDED), "all rules have values")
    groups = prometheus.get("/api/v1/rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health == dict.fromkeys([*RECORDED, *ALERTS], "ok")


def test_savings_agree_with_cost_and_baseline(prometheus: Prometheus) -> None:
    """The stat is the difference of the two lines drawn below it, at the same moment."""
    queries = {(query.panel, query.legend): query.expr for query in panels.panel_queries(panels.load())}
    saved = queries["Saved per hour", "Saved per hour"]
    baseline = queries["Cost per hour by route, against the baseline", "baseline"]
    cost = queries["Cost per hour", "Cost per hour"]
    (difference,) = prometheus.instant(f"abs(({saved}) - (({baseline}) - ({cost}))) < 1e-6")
    assert difference
