"""The lock files hold nothing that is known to be bad; and the check would notice."""

import datetime
import importlib.util
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"
SNAPSHOT = tomllib.loads((LOCKS / "advisories.toml").read_text())

spec = importlib.util.spec_from_file_location("audit", LOCKS / "audit.py")
assert spec is not None
assert spec.loader is not None
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)
findings: Callable[[str, list[dict[str, Any]]], Any] = audit.findings

GOOD = "litellm==1.106.2 \\\n    --hash=sha256:00\nh11==0.16.0 ; python_version > '3' \\\n    --hash=sha256:00\n"


@pytest.mark.parametrize("name", audit.LOCKS)
def test_a_lock_has_no_known_flaw_and_a_hash_for_everything(name: str) -> None:
    text = (LOCKS / name).read_text()
    assert len(list(audit.pins(text))) == sum("==" in line.partition(";")[0] for line in text.splitlines())
    assert list(findings(text, SNAPSHOT["advisory"])) == []


def test_what_is_good_passes() -> None:
    assert list(findings(GOOD, SNAPSHOT["advisory"])) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.106.2", "1.82.7", "litellm 1.82.7: 1.82.7 and"),
        ("1.106.2", "1.82.8", "litellm 1.82.8: 1.82.7 and"),
        ("1.106.2", "1.83.10", "litellm 1.83.10: "),
        ("0.16.0", "0.14.0", "h11 0.14.0: chunk"),
        ("h11", "H_11", None),
        ("litellm", "lite.LLM", "lite-llm 1.106.2: not LiteLLM"),
        (" \\\n    --hash=sha256:00\nh11", "\nh11", "litellm 1.106.2 has no hash"),
        ("litellm", "--index-url https://example.com\nlitellm", "line 1 names a place"),
        ("litellm", "-e .\nlitellm", "line 1 names a place"),
    ],
)
def test_what_is_bad_is_noticed(old: str, new: str, said: str | None) -> None:
    found = list(findings(GOOD.replace(old, new, 1), SNAPSHOT["advisory"]))
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])


def test_the_malware_is_refused_where_dependencies_are_chosen() -> None:
    assert "!=1.82.7,!=1.82.8" in (ROOT / "pyproject.toml").read_text()


def test_advisories_say_why_and_are_dated() -> None:
    assert isinstance(SNAPSHOT["date"], datetime.date)
    for advisory in SNAPSHOT["advisory"]:
        assert advisory.keys() <= {"package", "refuse", "least", "why"}
        assert len(advisory["why"]) > 5


def test_a_service_that_does_not_answer_is_said_and_is_no_finding(tmp_path: Path, capsys: Any) -> None:
    assert audit.main(str(tmp_path / "no-such-program")) == 0
    assert capsys.readouterr().out.count("no vulnerability service answered") == len(audit.LOCKS)


def test_what_the_service_finds_counts(tmp_path: Path, capsys: Any) -> None:
    program = tmp_path / "pip-audit"
    clean, skipped = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    flawed = {"name": "c", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
    (tmp_path / "serve.json").write_text(json.dumps({"dependencies": [clean, skipped, flawed]}))
    (tmp_path / "other.json").write_text(json.dumps({"dependencies": [clean]}))
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *serve.txt) cat {tmp_path}/serve.json;; *) cat {tmp_path}/other.json;; esac\n'
    )
    program.chmod(0o755)
    assert audit.main(str(program)) == 1
    said = capsys.readouterr().out
    assert "  c 1: PYSEC-1, fixed in 2\n" in said
    assert "demo.txt: 0 findings" in said
    assert "no vulnerability service" not in said
