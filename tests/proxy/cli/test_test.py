"""`pointsman test`: verdicts, differences, what no test reaches, further files."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.cli.samples import OLD_PROMPT, ask, child, run, write

Ran = Callable[..., Any]
GOLD = {"headers": {"X-Tier": "gold"}}


def case(expect: dict[str, Any], given: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A test of the sample request with these changes."""
    return {"given": given or {}, "request": ask(**changes), "expect": expect}


def lines(tests: Iterable[dict[str, Any]]) -> str:
    """A file of tests, a line each, named t1, t2 and so on: JSON is YAML."""
    return "".join(
        ["tests:\n", *(f"  - {json.dumps({'name': f't{n}', **test})}\n" for n, test in enumerate(tests, 1))]
    )


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run the command over the sample config and these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)

    def run_it(*tests: dict[str, Any], args: tuple[str, ...] = ()) -> Any:
        write(tmp_path, sample__test__yaml=lines(tests))
        return run("test", *args)

    return run_it


NIGHT = {"key": "night-team", "time": "2026-11-21T23:00:00+01:00"}
SEARCH = {"key": "search-team"}
PASSING = [
    case({"rule": "gold", "policy": "support"}, GOLD),
    case({"rule": "heavy"}, tools=[{"type": "function", "function": {"name": "f"}}]),
    case({"rule": "night", "route": "cheap", "model": "cheap", "prompt": "support@2"}, NIGHT),
    case({"rule": "default"}, {"tenant": "night", "time": "2026-11-21T12:00:00+01:00"}),
    case({"rule": "canary", "prompt": "none", "arm": "none"}, {"headers": {"x-canary-token": "sesame"}}),
    case({"rule": "lucky", "route": "lab"}, {"chance": 0.01}),
    case({"rule": "default"}, {"request_id": "req_1"}),
    case({"rule": "default", "arm": "tuned", "prompt": "none"}, user="dave"),
    case({"route": ["tuned", "strong"], "caller_prompt": "none"}),
    case({"policy": "*"}, model="gpt-4o", pointsman=None),
    case({"error": "model_not_found"}, SEARCH, model="gpt-4o"),
    case({"error": "404"}, SEARCH, model="gpt-4o"),
    case({"error": "empty_array"}, messages=[]),
    case({"error": "invalid_api_key"}, {"headers": {"authorization": "Bearer no"}}),
    case({"caller_prompt": "exact"}, messages=[{"role": "system", "content": OLD_PROMPT}]),
]


def test_all_that_can_be_given_and_expected(ran: Ran) -> None:
    shown = ran(*PASSING)
    assert shown.exit_code == 0, shown.stdout
    assert shown.stdout.splitlines() == [f"ok   t{n} (sample.test.yaml:{n + 1})" for n in range(1, len(PASSING) + 1)]
    assert shown.stderr == f"{len(PASSING)} tests, all passed\n"


def test_a_failure_shows_the_difference_and_the_rules_concerned(ran: Ran) -> None:
    shown = ran(case({"rule": "gold", "route": "strong", "arm": ["tuned", "strong"]}, user="ada"))
    assert shown.exit_code == 1
    assert shown.stdout.startswith(
        """\
FAIL t1 (sample.test.yaml:2)
       rule: expected gold, got default
       ✗ gold  pointsman.yaml:26
           ✗ header.x-tier = gold  got nothing
       ✓ default  pointsman.yaml:31
           split tuned 25%, strong 75%: this caller gets strong (75%)
"""
    )
    assert shown.stderr == "1 test, 1 failed, 6 rules untested\n"


def test_a_rule_that_comes_too_late_is_told(ran: Ran) -> None:
    shown = ran(case({"route": "lab"}, {"headers": {"x-tier": "gold", "x-canary-token": "sesame"}}))
    assert "route: expected lab, got strong" in shown.stdout
    assert "canary was not asked: gold comes first" in shown.stdout
    assert "sesame" not in shown.stdout


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (case({"error": "bad"}), "error: expected bad, got none"),
        (case({"rule": "gold"}, messages=None), "got 400 missing_required_parameter: 'messages' is required"),
        (case({"model": "tund"}), "there is no 'tund'; did you mean 'tuned'?"),
        (case({"arm": "nobody"}), "there is no 'nobody'"),
        (case({}, model="gpt-4o"), "error: expected none, got 400 unknown_variable"),
    ],
)
def test_what_went_wrong_is_said(ran: Ran, test: dict[str, Any], said: str) -> None:
    shown = ran(test)
    assert shown.exit_code == 1
    assert said in shown.stdout


def test_names_that_the_config_does_not_have_are_its_problems(ran: Ran) -> None:
    shown = ran(case({"rule": "golden"}))
    assert shown.exit_code == 1
    assert "sample.test.yaml:2:" in shown.stderr
    assert "did you mean 'gold'?" in shown.stderr


def test_rules_that_no_test_reaches_are_warned_of(ran: Ran) -> None:
    tests = [test for test in PASSING if test["expect"].get("rule") != "lucky" and "policy" not in test["expect"]]
    shown = ran(PASSING[0], *tests)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-2:] == [
        "pointsman.yaml:30: warning[untested-rule]: no test reaches rule 'lucky' of policy 'support'",
        "pointsman.yaml:32: warning[untested-rule]: no test reaches the default of policy '*'",
    ]
    assert ran(PASSING[0], *tests, args=("--strict",)).exit_code == 1


def test_no_tests_are_a_failure(ran: Ran) -> None:
    shown = ran()
    assert shown.exit_code == 1
    assert shown.stderr.startswith("no tests")


def test_programs_read_the_same(ran: Ran) -> None:
    shown = ran(PASSING[0], case({"rule": ["gold", "heavy"]}), args=("--json",))
    found = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert [test["ok"] for test in found["tests"]] == [True, False]
    assert found["tests"][1] == {
        "name": "t2",
        "file": "sample.test.yaml",
        "line": 3,
        "ok": False,
        "differences": [{"field": "rule", "expected": ["gold", "heavy"], "got": "default", "note": None}],
    }
    assert {"policy": "support", "rule": "heavy", "file": "pointsman.yaml", "line": 27} in found["unreached"]


def test_time_does_not_change_a_test(ran: Ran) -> None:
    """Without a time it is noon, by day and by night."""
    shown = ran(case({"rule": "default"}, {"tenant": "night"}))
    assert shown.exit_code == 0, shown.stdout


# --- further files


def more(folder: Path, name: str, *tests: dict[str, Any]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(lines(tests))


def test_further_files_and_folders_are_run_too(ran: Ran, tmp_path: Path) -> None:
    more(tmp_path, "more/deep/a.test.yaml", case({"rule": "default"}))
    more(tmp_path, "more/ignored.yaml", case({"rule": "gold"}))
    more(tmp_path, "extra.yaml", case({"rule": "default"}))
    shown = ran(PASSING[0], args=("more", "extra.yaml", "more/deep/a.test.yaml", "sample.test.yaml"))
    assert shown.exit_code == 0
    assert [line for line in shown.stdout.splitlines() if line.startswith(("ok", "FAIL"))] == [
        "ok   t1 (sample.test.yaml:2)",
        "ok   t1 (more/deep/a.test.yaml:2)",
        "ok   t1 (extra.yaml:2)",
    ]


def test_unknown_names_in_further_files_are_failures_with_suggestions(ran: Ran, tmp_path: Path) -> None:
    more(tmp_path, "extra.yaml", case({"rule": "golden"}))
    more(tmp_path, "key.yaml", case({}, {"key": "serch-team"}), case({"rule": "gold"}, SEARCH, model="suport"))
    shown = ran(PASSING[0], args=("extra.yaml", "key.yaml"))
    assert shown.exit_code == 1
    assert "rule: expected golden, got default; there is no 'golden'; did you mean 'gold'?" in shown.stdout
    assert "key: expected serch-team, got no such key; did you mean 'search-team'?" in shown.stdout
    assert "does not exist or you do not have access to it; did you mean 'support'?" in shown.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: [{name: a, request: {}, expects: {}}]", "did you mean 'expect'?"),
        ("policies: {}\ntests: []", "unknown key 'policies' in a test file"),
        ("[]", "a test file is a map with `tests`, not a list"),
        ("tests: [}", "error[yaml-syntax]"),
    ],
)
def test_what_is_wrong_with_a_further_file_is_told_with_its_place(
    ran: Ran, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "extra.yaml").write_text(text)
    shown = ran(PASSING[0], args=("extra.yaml",))
    assert shown.exit_code == 1
    assert "extra.yaml:1:" in shown.stderr
    assert said in shown.stderr


def test_paths_without_tests_are_usage_errors(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ran(PASSING[0], args=("nowhere",)).exit_code == 2
    shown = ran(PASSING[0], args=("empty",))
    assert shown.exit_code == 2
    assert "no *.test.yaml in empty" in shown.stderr


def test_the_real_command(tmp_path: Path) -> None:
    write(tmp_path)
    more(tmp_path, "a.test.yaml", case({"rule": "gold"}))
    shown = child("test", "-c", str(tmp_path / "pointsman.yaml"))
    assert shown.returncode == 1
    assert "FAIL t1" in shown.stdout
    assert shown.stderr == "1 test, 1 failed, 6 rules untested\n"
