"""`pointsman check` and `schema` as people and CI run them: streams and exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import app

ROOT = Path(__file__).parents[3]
GOOD = """models: {strong: {base_url: http://127.0.0.1:9/v1, price: {input: 1, output: 2}}}
policies: {a: {model: strong}}
"""
WARNS = GOOD.replace(", price: {input: 1, output: 2}", "")
BAD = GOOD.replace("{model: strong}", "{model: stron}")


Run = Callable[..., Result]


@pytest.fixture
def pointsman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)

    def run(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(app, arguments, env=env)

    return run


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
def test_exit_codes(tmp_path: Path, pointsman: Run, text: str, options: list[str], code: int) -> None:
    (tmp_path / "pointsman.yaml").write_text(text)
    assert pointsman("check", *options).exit_code == code


def test_the_place_the_words_and_the_caret(tmp_path: Path, pointsman: Run) -> None:
    (tmp_path / "support.yaml").write_text(BAD)
    ran = pointsman("check", "-c", "support.yaml")
    assert ran.stdout == (
        "support.yaml:2:23: error[unknown-model]: no model 'stron' for route 'stron' of policy 'a';"
        " did you mean 'strong'?\n"
        "    2 | policies: {a: {model: stron}}\n"
        "      |                       ^\n"
    )
    assert ran.stderr == "1 error in 1 file\n"


def test_json_for_programs(tmp_path: Path, pointsman: Run) -> None:
    (tmp_path / "pointsman.yaml").write_text(BAD)
    ran = pointsman("check", "--json")
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
    assert json.loads(pointsman("check", "--json").stdout) == {"problems": []}


def test_where_the_config_comes_from(tmp_path: Path, pointsman: Run) -> None:
    """The option before or after the command, the environment, else pointsman.yaml."""
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert pointsman("check").exit_code == 1
    assert pointsman("check", "--config", "mine.yaml").exit_code == 0
    assert pointsman("-c", "mine.yaml", "check").exit_code == 0
    assert pointsman("check", POINTSMAN_CONFIG="mine.yaml").exit_code == 0


def test_schema_is_json(pointsman: Run) -> None:
    ran = pointsman("schema")
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


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """One real process: `python -m proxy` is what the `pointsman` script runs."""
    (tmp_path / "pointsman.yaml").write_text(BAD)
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "proxy", "check"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (1, "1 error in 1 file\n")
    assert ran.stdout.startswith("pointsman.yaml:2:23: error[unknown-model]")
