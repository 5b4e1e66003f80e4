"""`pointsman init`: what it writes is sound, tested and never in the way."""

import json
from pathlib import Path

import pytest

from proxy.cli.init import starter
from proxy.meter.prices import shipped
from tests.proxy.cli.samples import child, run


def test_the_starter_passes_its_own_checks_and_tests(tmp_path: Path) -> None:
    """As a person would go on: init, check without secrets, test, explain."""
    made = child("init", "gateway", cwd=tmp_path)
    assert made.returncode == 0
    folder = tmp_path / "gateway"
    for args in (("check", "--no-env", "--strict"), ("test", "--strict")):
        shown = child(*args, cwd=folder)
        assert shown.returncode == 0, shown.stdout + shown.stderr
    body = {"model": "support", "messages": [{"role": "user", "content": "hi"}], "user": "sam", "max_tokens": 100}
    found = json.loads(child("explain", "-", "--json", given=json.dumps(body), cwd=folder).stdout)
    assert (found["route"], found["estimate"]["worst_case_attempts"]) == ("tuned", 3)
    assert found["baseline"]["usd_uncached"] > found["estimate"]["usd"] > 0


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run("init")
    assert shown.stderr.splitlines() == [
        "wrote pointsman.test.yaml",
        "wrote pointsman.yaml",
        "wrote prompts/support/1.yaml",
    ]
    assert "pointsman schema > pointsman.schema.json" in shown.stdout
    assert "  cd " not in shown.stdout
    assert "  cd there\n" in run("init", "there").stdout


@pytest.mark.parametrize("name", starter())
def test_nothing_is_ever_overwritten(name: str, tmp_path: Path) -> None:
    """One file there already: it is named, and no other is written."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    shown = run("init", str(tmp_path))
    assert shown.exit_code == 1
    assert str(tmp_path / name) in shown.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = run("init", str(tmp_path / "file" / "below"))
    assert shown.exit_code == 1
    assert "cannot write" in shown.stderr


def test_the_config_names_the_schema_and_models_with_a_price() -> None:
    text = starter()["pointsman.yaml"]
    assert text.startswith("# yaml-language-server: $schema=pointsman.schema.json\n")
    assert "pointsman schema > pointsman.schema.json" in text
    assert "model: gpt-5.2 " in text
    assert shipped("gpt-5.2", "openai") is not None
