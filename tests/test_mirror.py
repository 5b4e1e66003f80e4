"""Every source file has its test, of the same path; those that are tested elsewhere say where."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GOLDEN = "proxy/config/test_golden.py"  # the exact words for each mistake, and the compiled form of what is right

ELSEWHERE = {
    # values and names: their users' tests
    "policies/decision.py": "policies/test_engine.py",
    "policies/policy.py": "policies/test_engine.py",
    "routes/effects.py": "routes/test_route.py",
    "routes/failure.py": "proxy/upstreams/test_classify.py",
    "routes/value.py": "routes/test_route.py",
    "proxy/settled.py": "proxy/test_account.py",
    "proxy/upstreams/base.py": "proxy/upstreams/test_contract.py",
    "proxy/meter/families.py": "proxy/meter/test_exposition.py",
    # the request path: real requests
    "proxy/app.py": "proxy/test_server.py",
    "proxy/exchange.py": "proxy/test_server.py",
    "proxy/means.py": "proxy/test_server.py",
    "proxy/upstreams/stream.py": "proxy/upstreams/test_contract.py",
    # processes: real ones
    "proxy/__main__.py": "proxy/cli/test_main.py",
    "proxy/cli/serve.py": "proxy/test_start.py",
    "proxy/crew.py": "proxy/test_workers.py",
    "proxy/hands.py": "proxy/test_workers.py",
    "proxy/process.py": "proxy/test_start.py",
    "proxy/supervisor.py": "proxy/test_reload.py",
    # the command line: golden files of what it says
    "proxy/cli/explanation.py": "proxy/cli/test_explain.py",
    "proxy/cli/offline.py": "proxy/cli/test_explain.py",
    "proxy/cli/options.py": "proxy/cli/test_main.py",
    "proxy/cli/schema.py": "proxy/cli/test_main.py",
    "proxy/cli/testfiles.py": "proxy/cli/test_test.py",
    # config: golden files
    "proxy/config/checks/callers.py": GOLDEN,
    "proxy/config/checks/policies.py": GOLDEN,
    "proxy/config/checks/policy_tests.py": GOLDEN,
    "proxy/config/checks/servers.py": GOLDEN,
    "proxy/config/checks/unused.py": GOLDEN,
    "proxy/config/compile.py": GOLDEN,
    "proxy/config/draft.py": GOLDEN,
    "proxy/config/files.py": GOLDEN,
    "proxy/config/parts.py": GOLDEN,
    "proxy/config/prompts.py": GOLDEN,
    "proxy/config/schema/calls.py": "proxy/config/test_schema.py",
    "proxy/config/schema/model.py": "proxy/config/test_schema.py",
    "proxy/config/schema/policy.py": "proxy/config/test_schema.py",
    "proxy/config/schema/section.py": "proxy/config/test_schema.py",
    "proxy/config/schema/server.py": "proxy/config/test_schema.py",
    "proxy/config/schema/test.py": "proxy/config/test_schema.py",
    "proxy/config/secrets.py": GOLDEN,
    "proxy/config/validate.py": GOLDEN,
    # the stand-ins: a real client
    "proxy/standins/__main__.py": "proxy/standins/test_main.py",
    "proxy/standins/connection.py": "proxy/standins/test_standin.py",
    "proxy/standins/dialect.py": "proxy/standins/test_standin.py",
    "proxy/standins/plan.py": "proxy/standins/test_answer.py",
}

SOURCES = sorted(
    str(path.relative_to(ROOT))
    for package in ("policies", "routes", "proxy")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)


def own_test(source: str) -> Path:
    path = ROOT / "tests" / source
    return path.with_name(f"test_{path.name}")


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_file_has_its_test(source: str) -> None:
    elsewhere = ELSEWHERE.get(source)
    if elsewhere is None:
        missing = own_test(source).relative_to(ROOT)
        assert own_test(source).is_file(), f"write {missing}, or say in ELSEWHERE what tests it"
    else:
        assert (ROOT / "tests" / elsewhere).is_file()
        assert not own_test(source).is_file(), "it has a test of its own by now: take it out of ELSEWHERE"


def test_nothing_is_said_of_files_that_are_gone() -> None:
    assert ELSEWHERE.keys() <= set(SOURCES)
