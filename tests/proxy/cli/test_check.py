"""`pointsman check` and `schema` as people and CI run them: a process, its streams and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GOOD = """models: {strong: {base_url: http://127.0.0.1:9/v1, price: {input: 1, output: 2}}}
policies: {a: {model: strong}}
"""
WARNS = GOOD.replace(", price: {input: 1, output: 2}", "")
BAD = GOOD.replace("{model: strong}", "{model: stron}")


def pointsman(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (GOOD, [], 0),
        (GOOD, ["--strict"], 0),
        (WARNS, [], 0),
        (WARNS, ["--strict"], 1),
        (BAD, [], 1),
        (GOOD.replace("http://127.0.0.1:9/v1", "'${NOT_SET_ANYWHERE}'"), [], 1),
        (GOOD.replace("http://127.0.0.1:9/v1", "'${NOT_SET_ANYWHERE}'"), ["--no-env"], 0),
        (GOOD, ["--bogus"], 2),
    ],
)
def test_exit_codes(tmp_path: Path, text: str, options: list[str], code: int) -> None:
    (tmp_path / "pointsman.yaml").write_text(text)
    assert pointsman(tmp_path, "check", *options).returncode == code


def test_the_place_the_words_and_the_caret(tmp_path: Path) -> None:
    (tmp_path / "support.yaml").write_text(BAD)
    ran = pointsman(tmp_path, "check", "-c", "support.yaml")
    assert ran.stdout == (
        "support.yaml:2:23: error[unknown-model]: no model 'stron' for route 'stron' of policy 'a';"
        " did you mean 'strong'?\n"
        "    2 | policies: {a: {model: stron}}\n"
        "      |                       ^\n"
    )
    assert ran.stderr == "1 error in 1 file\n"


def test_json_for_programs(tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_text(BAD)
    ran = pointsman(tmp_path, "check", "--json")
    assert json.loads(ran.stdout) == {
        "problems": [
            {
                "file": "pointsman.yaml",
                "line": 2,
                "col": 23,
                "severity": "error",
                "code": "unknown-model",
                "message": "no model 'stron' for route 'stron' of policy 'a'",
                "suggestion": "did you mean 'strong'?",
            }
        ]
    }
    (tmp_path / "pointsman.yaml").write_text(GOOD)
    assert json.loads(pointsman(tmp_path, "check", "--json").stdout) == {"problems": []}


def test_where_the_config_comes_from(tmp_path: Path) -> None:
    """The option before or after the command, the environment, else pointsman.yaml."""
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert pointsman(tmp_path, "check").returncode == 1
    assert pointsman(tmp_path, "check", "--config", "mine.yaml").returncode == 0
    assert pointsman(tmp_path, "-c", "mine.yaml", "check").returncode == 0
    assert pointsman(tmp_path, "check", POINTSMAN_CONFIG="mine.yaml").returncode == 0


def test_schema_is_json(tmp_path: Path) -> None:
    ran = pointsman(tmp_path, "schema")
    assert json.loads(ran.stdout)["properties"]["policies"]["description"]


def test_commands_that_do_not_serve_load_no_server() -> None:
    """Neither the help nor a check imports what only serving needs."""
    code = (
        "import sys\n"
        "from proxy.cli.main import COMMANDS, app\n"
        "from proxy.config.load import load\n"
        "import proxy.cli.check, proxy.cli.schema\n"
        "load('policies/examples/demo.yaml', env={})\n"
        "heavy = {'fastapi', 'uvicorn', 'litellm', 'httpx', 'prometheus_client', 'redis', 'openai', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
