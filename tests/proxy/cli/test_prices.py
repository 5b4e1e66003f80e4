"""`pointsman prices`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli import prices as command
from proxy.meter import prices as table
from tests.proxy.cli.samples import run as whole
from tests.proxy.cli.samples import write
from tests.proxy.meter.samples import model

APP = typer.Typer()
APP.command()(command.prices)


def run(*args: str) -> Any:
    return CliRunner().invoke(APP, list(args))


def test_a_models_price_is_shown_with_its_source() -> None:
    shown = run("gpt-4o", "gemini-2.5-pro")
    assert shown.exit_code == 0
    gpt, gemini = (line.split() for line in shown.stdout.splitlines()[1:3])
    assert gpt == ["gpt-4o", "2.5", "1.25", "2.5", "10", "shipped"]
    assert gemini[:5] == ["gemini-2.5-pro", "1.25", "0.125", "1.25", "10"]
    assert "> 200,000: 2.5 / 0.25 / 2.5 / 15" in shown.stdout
    assert table.source().version in shown.stderr
    assert table.source().date in shown.stderr


def test_a_model_without_a_price_is_a_finding() -> None:
    shown = run("support-lora-7")
    assert shown.exit_code == 1
    assert "no price" in shown.stdout


def test_all_models_are_shown_a_line_each() -> None:
    shown = run()
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 1 + len(list(table.all_shipped()))


def test_json_is_exact() -> None:
    document = json.loads(run("--json", "gpt-4o", "nobody").stdout)
    assert document["source"]["version"] == table.source().version
    assert document["models"]["gpt-4o"] == {
        "origin": "shipped",
        "input": "2.5",
        "cached_input": "1.25",
        "cache_write": "2.5",
        "output": "10",
        "reasoning": "10",
    }
    assert document["models"]["nobody"] == {"origin": "none"}


def test_a_configs_prices_win(capsys: pytest.CaptureFixture[str]) -> None:
    configured = {"gpt-4o": model("lora"), "strong": model("strong"), "free": model("free")}
    assert command.show((), as_json=True, configured=configured) == 1
    models = json.loads(capsys.readouterr().out)["models"]
    assert models["gpt-4o"]["origin"] == "config"
    assert models["gpt-4o"]["input"] == "0.1"
    assert models["free"] == {"origin": "none"}


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A price list of one model, and a copy of the table that may be written."""
    monkeypatch.setattr(table, "TABLE", tmp_path / "prices.json")
    table.TABLE.write_text(
        '{"source": "litellm", "version": "1", "date": "2026-01-01", "license": "MIT", "models": {"openai": '
        '{"old": {"input": "1", "output": "1"}, "new": {"input": "1", "output": "1"}}}}'
    )
    table.read.cache_clear()
    path = tmp_path / "list.json"
    row = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 1e-05,
    }
    path.write_text(json.dumps({"new": row}))
    yield path
    table.read.cache_clear()


def test_update_prints_what_changes_and_writes_nothing(listing: Path) -> None:
    before = table.TABLE.read_bytes()
    shown = run("update", "--from", str(listing))
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        '~ openai/new {"input": "1", "output": "1"} -> {"input": "2", "output": "10"}',
        '- openai/old {"input": "1", "output": "1"}',
    ]
    assert "nothing written" in shown.stderr
    assert table.TABLE.read_bytes() == before


def test_update_writes_when_asked(listing: Path) -> None:
    assert command.update(str(listing), write=True, today="2026-11-21") == 0
    table.read.cache_clear()
    found = table.shipped("new")
    assert found is not None
    assert (found.base.output, found.id) == (10**7, "shipped:2026-11-21")
    assert table.source().version.startswith("sha256:")
    assert run("update", "--from", str(listing)).stdout == ""


def test_update_from_nowhere_is_a_usage_error(tmp_path: Path) -> None:
    shown = run("update", "--from", str(tmp_path / "nowhere.json"))
    assert shown.exit_code == 2
    assert "nowhere.json" in shown.stderr


# --- as a command among the others


def test_the_models_of_a_config_are_shown_with_their_own_prices(tmp_path: Path) -> None:
    config = str(write(tmp_path))
    for shown in (whole("-c", config, "prices", "--json"), whole("prices", "--json", "-c", config)):
        models = json.loads(shown.stdout)["models"]
        assert {name: row["origin"] for name, row in models.items()} == {
            "strong": "config",
            "cheap": "config",
            "tuned": "config",
            "lab": "none",
        }
        assert models["strong"]["cached_input"] == "1.25"
        assert shown.exit_code == 1  # `lab` has no price


def test_without_names_the_config_beside_it_counts_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    everything = json.loads(whole("prices", "--json").stdout)["models"]
    write(tmp_path)
    assert list(json.loads(whole("prices", "--json").stdout)["models"]) == ["strong", "cheap", "tuned", "lab"]
    assert json.loads(whole("prices", "--json", "--shipped").stdout)["models"] == everything
    assert whole("prices", "gpt-4o", "strong").exit_code == 0


def test_a_config_that_is_not_there_or_broken_is_a_failure(tmp_path: Path) -> None:
    shown = whole("prices", "-c", str(tmp_path / "nowhere.yaml"))
    assert shown.exit_code == 1
    assert "nowhere.yaml" in shown.stderr
