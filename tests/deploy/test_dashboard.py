"""The dashboard's file: made by its script, complete in what a reader needs, nothing on top of anything else."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.panels import DASHBOARD, load
from tests.deploy.prometheus import DEPLOY

GRAFANA = DEPLOY / "grafana"
PANELS: list[dict[str, Any]] = load()["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] not in ("row", "text")]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))


def test_file_is_what_the_script_writes(tmp_path: Path) -> None:
    written = tmp_path / "pointsman.json"
    subprocess.run([sys.executable, str(GRAFANA / "dashboard.py"), str(written)], check=True, timeout=30)
    assert DASHBOARD.read_text() == written.read_text(), "run deploy/grafana/dashboard.py"


def test_panels_fill_the_grid_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert not cells(panel) & taken, f"{panel['title']} lies on another"
        taken |= cells(panel)
    height = max(y for _, y in taken) + 1
    assert taken == set(itertools.product(range(24), range(height))), "a hole in the grid"


def test_ids_and_titles_are_unique() -> None:
    for field in ("id", "title"):
        values = [panel[field] for panel in PANELS]
        assert len(values) == len(set(values))


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith("."), "a sentence"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"]["uid"] == "${datasource}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))


def test_overview_is_one_line_of_figures() -> None:
    top = [panel for panel in PANELS if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in top} == {"stat"}
    assert [panel["title"] for panel in top] == [
        "Requests",
        "Errors",
        "Duration p95",
        "First token p95",
        "Cost per hour",
        "Saved per hour",
        "Saved",
        "In flight",
    ]


def test_variables_and_annotations() -> None:
    dashboard = load()
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "tenant", "policy", "route", "model"]
    assert all(variables[name]["allValue"] == ".*" for name in list(variables)[1:])
    assert [each["name"] for each in dashboard["annotations"]["list"]] == ["Config reloads"]


def test_provisioning_fits_the_dashboard() -> None:
    """The data source has the uid that the dashboard starts with, and the files are where the provider looks."""
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    chosen = load()["templating"]["list"][0]["current"]
    assert (source["uid"], source["name"]) == (chosen["value"], chosen["text"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/pointsman.yml").read_text())["providers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts
