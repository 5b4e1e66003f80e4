"""`pointsman explain`: what it prints, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.cli import golden
from tests.proxy.cli.samples import CONFIG, LONG, NEAR_PROMPT, OLD_PROMPT, ask, child, run, write

AT = ("--time", "2026-11-21T12:00:00+01:00", "--request-id", "req_1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)
    return tmp_path


def own_prompt(system: str, **more: Any) -> dict[str, Any]:
    """From a caller who still sends a prompt itself."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Where is my order?"}]
    return {"model": "support", "messages": messages, **more}


CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "rule": (ask(max_tokens=200), ("-H", "x-tier: gold")),
    "split": (ask(user="ada", max_tokens=500), ()),
    "split-tuned": (ask(user="dave", max_tokens=500, n=2), ()),
    "any": (ask(tools=[{"type": "function", "function": {"name": "refund"}}]), ()),
    "time": (ask(), ("--key", "night-team", "--time", "2026-11-21T23:30:00+01:00")),
    "secret": (ask(), ("-H", "X-Canary-Token: sesame", "-H", "x-tier: silver")),
    "exact": (own_prompt(OLD_PROMPT), ("--tenant", "search")),
    "near": (own_prompt(NEAR_PROMPT), ()),
    "forwarded": ({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi\x1b[31m"}]}, ()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("folder")
def test_people_read_exactly_this(name: str) -> None:
    body, args = CASES[name]
    shown = run("explain", "-", *AT, *args, given=json.dumps(body))
    assert shown.exit_code == 0, shown.stderr
    golden.check(f"explain-{name}", shown.stdout)


@pytest.mark.usefixtures("folder")
def test_programs_read_exactly_this() -> None:
    shown = run("explain", "-", *AT, "--json", "-H", "X-Canary-Token: sesame", given=json.dumps(ask(max_tokens=100)))
    found = json.loads(shown.stdout)
    decided = {"policy": "support", "rule": "canary", "route": "lab", "arm": None, "model": "lab", "prompt": "none"}
    assert list(found) == ["facts", *decided, "trace", "estimate", "baseline"]
    assert decided.items() <= found.items()
    assert found["facts"]["header.x-canary-token"] == "***"
    assert found["facts"]["prompt_tokens"] == len("Where is my order?") / 4
    assert "sesame" not in shown.stdout
    assert found["trace"][0] == {
        "rule": "gold",
        "file": "pointsman.yaml",
        "line": 26,
        "matched": False,
        "conditions": [{"fact": "header.x-tier", "op": "eq", "want": "gold", "got": None, "ok": False}],
    }
    assert found["trace"][-1]["conditions"] == [
        {"fact": "header.x-canary-token", "op": "eq", "want": "***", "got": "***", "ok": True}
    ]
    # the model `lab` has no price: never silently free
    assert found["estimate"] == {"tokens": 5, "usd": None, "worst_case_usd": None, "worst_case_attempts": 3}
    assert list(found["baseline"]) == ["route", "usd_cached", "usd_uncached"]


@pytest.mark.usefixtures("folder")
def test_costs_add_up() -> None:
    """One attempt, the dearest chain, and the baseline cached and not, from the sample's prices."""
    body = ask(user="dave", max_tokens=1000)
    found = json.loads(run("explain", "-", *AT, "--json", given=json.dumps(body)).stdout)
    assert found["route"] == "tuned"
    own = len("Where is my order?")
    full = own + len(f"You are the support assistant of ACME. Be friendly.\n{LONG.strip()}")
    full += len("Where is my order?") + len('{"intent": "order_status"}')
    tokens, strong = -(-own // 4), -(-full // 4)
    assert found["estimate"]["tokens"] == tokens
    assert found["estimate"]["usd"] == pytest.approx((tokens * 0.1 + 1000 * 0.4) / 1e6)
    # `strong` takes over, and is called once more
    chain = (tokens * 0.1 + 1000 * 0.4) + 2 * (strong * 2.5 + 1000 * 10)
    assert found["estimate"]["worst_case_usd"] == pytest.approx(chain / 1e6, rel=1e-3)
    assert found["estimate"]["worst_case_attempts"] == 3
    assert found["baseline"]["usd_uncached"] == pytest.approx((strong * 2.5 + 1000 * 10) / 1e6, rel=1e-3)
    saved = found["baseline"]["usd_uncached"] - found["baseline"]["usd_cached"]
    assert 1024 * 1.25e-6 < saved < strong * 1.25e-6


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("body", "args", "code"),
    [
        ("nonsense", (), "400 invalid_json"),
        ('{"model": "support", "model": "x"}', (), "400 invalid_json"),
        ('{"model": "support"}', (), "400 missing_required_parameter"),
        (json.dumps({**ask(), "pointsman": {"variables": {"compny": 1}}}), (), "400 unknown_variable"),
        (json.dumps({**ask(), "pointsman": {}}), (), "400 missing_variable"),
        (json.dumps({**ask(), "pointsman": 5}), (), "400 invalid_type"),
        (json.dumps(ask(model="gpt-4o")), ("--key", "search-team"), "404 model_not_found"),
        (json.dumps(ask()), ("-H", "authorization: Bearer wrong"), "401 invalid_api_key"),
    ],
)
def test_a_bad_request_gets_the_callers_error(body: str, args: tuple[str, ...], code: str) -> None:
    shown = run("explain", "-", *args, given=body)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr.startswith("error: ")
    assert shown.stderr.endswith(f"({code})\n")
    as_json = run("explain", "-", *args, "--json", given=body)
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["error"]["code"] == code.split()[1]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.json",), "cannot read nowhere.json: No such file"),
        (("-", "-H", "x-tier"), "'x-tier' is not a header"),
        (("-", "--key", "serch-team"), "did you mean 'search-team'?"),
        (("-", "--time", "noon"), "'noon' is not a time"),
        (("-", "--time", "2026-11-21T12:00:00"), "lacks its offset"),
    ],
)
def test_wrong_options_are_usage_errors(args: tuple[str, ...], said: str) -> None:
    shown = run("explain", *args, given=json.dumps(ask()))
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_broken_config_is_told_with_its_places(folder: Path) -> None:
    config = write(folder, CONFIG.replace("route: lab}", "route: lap}", 1))
    shown = run("explain", "-", "-c", str(config), given=json.dumps(ask()))
    assert shown.exit_code == 1
    assert "did you mean 'lab'?" in shown.stderr


def test_the_real_command_reads_files(folder: Path) -> None:
    (folder / "request.json").write_text(json.dumps(ask()))
    shown = child("explain", "request.json", "-H", "x-tier: gold", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("support: gold -> strong\n")
    assert shown.stderr == ""
