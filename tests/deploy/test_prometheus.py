"""The shipped Prometheus files, judged by promtool; their arithmetic by its unit tests."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.prometheus import DEPLOY
from tests.deploy.test_promql import ALERTS, RECORDED, rules

FOLDER = DEPLOY / "prometheus"
DOCS = DEPLOY.parent / "docs"
UNIT_TESTS = sorted((FOLDER / "tests").glob("*.yml"))


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_config_and_rules_are_valid() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "rules.yml", FOLDER / "alerts.yml")


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_rules_do_their_sums(path: Path) -> None:
    promtool("test", "rules", path)


def test_every_alert_is_tested_to_fire() -> None:
    tests = [test for path in UNIT_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert fired == set(ALERTS)


def test_every_recorded_figure_is_tested() -> None:
    """In its own unit test, or in that of the alert it is for."""
    known = (FOLDER / "tests/rules.yml").read_text() + " ".join(ALERTS.values())
    assert [name for name in RECORDED if name not in known] == []


def test_every_alert_says_what_to_do() -> None:
    """Summary, description, severity, and a runbook that exists."""
    text = (DOCS / "alerts.md").read_text()
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"
    assert headings == {name.lower() for name in ALERTS}


def test_runbooks_name_panels_that_exist() -> None:
    """What a runbook puts in quotes and on the dashboard is there."""
    dashboard = (DEPLOY / "grafana/dashboards/pointsman.json").read_text()
    named = set(re.findall(r'"([A-Z][^"]+)"', (DOCS / "alerts.md").read_text()))
    assert named
    assert [name for name in named if f'"title": "{name}"' not in dashboard] == []
