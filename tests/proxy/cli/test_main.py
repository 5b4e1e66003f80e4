"""The command line as a whole: help, suggestions, exit codes, colours, and that nothing heavy is loaded."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli.main import COMMANDS
from tests.proxy.cli import golden
from tests.proxy.cli.samples import CONFIG, ROOT, ask, child, run, write

HEAVY = ("fastapi", "uvicorn", "litellm", "httpx", "openai", "prometheus_client", "httptools", "redis")
SERVING = ("serve", "demo")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_exactly_this(command: str) -> None:
    shown = run(*filter(None, (command, "--help")), env={"COLUMNS": "80", "POINTSMAN_CONFIG": None})
    assert shown.exit_code == 0
    golden.check(f"help-{command or 'pointsman'}", shown.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_an_example(command: str) -> None:
    """After the usage and one sentence, before anything else."""
    usage, sentence, examples, *_ = run(command, "-h").stdout.split("\n\n")
    assert usage.startswith("Usage: pointsman")
    assert sentence.endswith(".")
    assert examples.startswith(f"    pointsman {command}")


def test_examples_can_be_parsed() -> None:
    """Every option in an example exists."""
    for name, command in COMMANDS.items():
        options = run(name, "-h").stdout
        for example in command.examples:
            assert example.split()[:2] == ["pointsman", name]
            for word in example.split():
                if word.startswith("-") and word != "-":
                    assert f"{word} " in options, f"{example}: no {word}"


def test_alone_it_prints_its_help() -> None:
    shown = child()
    assert shown.returncode == 2
    assert shown.stderr.startswith("Usage: pointsman [OPTIONS] COMMAND")
    assert "explain" in shown.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("serv", "did you mean 'serve'?"),
        ("exlpain", "did you mean 'explain'?"),
        ("xyzzy", "there are serve, demo, init"),
    ],
)
def test_an_unknown_command_is_a_usage_error_with_a_suggestion(typed: str, meant: str) -> None:
    shown = run(typed)
    assert shown.exit_code == 2
    assert meant in shown.stderr


@pytest.mark.parametrize(
    "args", [("check", "--strickt"), ("explain",), ("test", "--json=1"), ("init", "a", "b"), ("--nope",)]
)
def test_usage_errors_exit_with_2(args: tuple[str, ...]) -> None:
    shown = run(*args)
    assert shown.exit_code == 2
    assert shown.stdout == ""


def test_a_config_before_the_command_wins_over_the_environment(tmp_path: Path) -> None:
    config = write(tmp_path)
    shown = child("-c", str(config), "check", "--no-env", env={"POINTSMAN_CONFIG": "nowhere.yaml"})
    assert "nowhere" not in shown.stdout + shown.stderr
    shown = child("check", "--no-env", env={"POINTSMAN_CONFIG": "nowhere.yaml"})
    assert shown.returncode == 1
    assert "nowhere.yaml" in shown.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("--version",),
        ("check", "--no-env"),
        ("schema",),
        ("explain", "request.json"),
        ("test",),
        ("prices",),
        ("init", "new"),
    ],
    ids=lambda args: args[0],
)
def test_commands_that_do_not_serve_load_nothing_heavy(args: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "request.json").write_text(json.dumps(ask()))
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('LOADED', [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))\n"
        "from proxy.__main__ import main\n"
        "main()\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert shown.stderr.splitlines()[-1] == "LOADED []"
    assert "Traceback" not in shown.stderr


COLOUR = b"\x1b["


def test_pipes_get_no_colours(tmp_path: Path) -> None:
    write(tmp_path, surprise__test__yaml=FAILING)
    for args in (("test",), ("explain", "-"), ("check",), ("prices",)):
        shown = child(*args, given=json.dumps(ask()), cwd=tmp_path)
        assert "\x1b" not in shown.stdout + shown.stderr


@pytest.mark.parametrize("no_colour", [False, True])
def test_terminals_get_colours_unless_told_not_to(no_colour: bool, tmp_path: Path) -> None:
    write(tmp_path, surprise__test__yaml=FAILING)
    env = {"NO_COLOR": "1"} if no_colour else {}
    said = on_a_terminal(("test",), tmp_path, env)
    assert b"FAIL" in said
    assert (COLOUR in said) is not no_colour


FAILING = """\
tests:
  - name: fails
    request: {model: support, messages: [{role: user, content: hi}], pointsman: {variables: {company: A}}}
    expect: {rule: gold}
"""


def on_a_terminal(args: tuple[str, ...], cwd: Path, env: dict[str, str]) -> bytes:
    """What the command writes when its standard output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", *args],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "TERM": "xterm", "LC_ALL": "C.UTF-8", **env},
    ):
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # Linux: the other end is closed
            pass
        finally:
            os.close(ours)
    return said


def test_a_terminal_without_the_characters_gets_others(tmp_path: Path) -> None:
    """Neither ticks nor a caller's own words end in a traceback."""
    write(tmp_path)
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    shown = child("explain", "-", given=json.dumps(ask(user="Zoë", tools=[])), cwd=tmp_path, env=env)
    assert shown.returncode == 0
    assert "- gold" in shown.stdout
    assert shown.stdout.isascii()


RESULTS = [("schema",), ("prices", "--shipped"), ("prices", "--shipped", "--json"), ("check",)]


def redirected(to: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The real command, started by a shell."""
    return subprocess.run(
        ["bash", "-c", f'exec "$@" {to}', "bash", sys.executable, "-m", "proxy", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("args", RESULTS, ids=" ".join)
def test_a_result_that_cannot_be_written_is_one_sentence(args: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, CONFIG.replace("baseline: strong", "baseline: strnog"))  # `check` has something to say
    done = redirected(">/dev/full", *args, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: the result cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("args", RESULTS, ids=" ".join)
def test_closed_streams_are_no_defect(args: tuple[str, ...], closed: str, tmp_path: Path) -> None:
    """Whoever closes them wants the exit code."""
    write(tmp_path)
    done = redirected(closed, *args, cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("explain", "request.json"), ("test",), ("prices",), ("check",)], ids=" ".join)
def test_a_broken_config_is_told_to_programs_as_json(args: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_text("version: 1\nnonsense: 1\n")
    (tmp_path / "request.json").write_text("{}")
    done = child(*args, "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert "unknown-key" in [problem["code"] for problem in json.loads(done.stdout)["problems"]]


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pointsman.yaml")
    done = child("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "it is a pipe, not a file" in done.stdout


def test_a_terminal_is_not_waited_for(tmp_path: Path) -> None:
    terminal, end = os.openpty()
    done = child("check", "-c", os.ttyname(end), cwd=tmp_path)
    os.close(terminal)
    os.close(end)
    assert done.returncode == 1
    assert "it is a terminal, not a file" in done.stdout
    assert "Traceback" not in done.stderr


def test_what_a_shell_substitutes_is_read(tmp_path: Path) -> None:
    (tmp_path / "mistaken.yaml").write_text("version: 1\nnonsense: 1\n")
    done = redirected("-c <(cat mistaken.yaml)", "check", cwd=tmp_path)
    assert "unknown-key" in done.stdout
