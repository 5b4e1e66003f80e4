"""The rig of a module, its invariants after every scenario, and the figures of the run."""

import gc
import os
from collections.abc import Iterator
from typing import Literal

import pytest

pytest.register_assert_rewrite("tests.faults.scenarios", "tests.faults.invariants")

from tests.faults.rig import Rig  # noqa: E402
from tests.faults.rows import RESULTS, Rows, as_before, known, product, written  # noqa: E402

LONG = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROWS = pytest.StashKey[Rows]()
FAILED = RESULTS.with_name("failed.log")
BEFORE = pytest.StashKey[dict[str, str]]()  # the lines that this run has replaced in the results file
PRODUCT = pytest.StashKey[str]()  # and what is measured

Form = Literal["short", "long"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", action="store_true", help="write tests/faults/RESULTS.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = Rows()
    config.stash[BEFORE] = {}
    config.stash[PRODUCT] = product() if config.getoption("--results", default=False) else ""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Write what is known after each scenario: a run that is broken off has not measured in vain. Of other rows the
    file is left as it is, for other runs may write theirs meanwhile."""
    rows = item.config.stash[ROWS].found
    if item.config.getoption("--results", default=False) and rows:
        now = RESULTS.read_text() if RESULTS.exists() else ""
        before, of = as_before(now, rows, item.config.stash[BEFORE]), item.config.stash[PRODUCT]
        RESULTS.write_text(written(rows, before, os.cpu_count() or 1, of=of, live=known()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The whole words of each failure once more, at the end, and with `--results` in a file: a run takes hours."""
    failed = [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]
    told = [f"{each.nodeid}, {each.when}:\n{each.longreprtext}\n" for each in failed]
    if told and config.getoption("--results", default=False):
        FAILED.write_text("\n".join(told))
        terminalreporter.write_line(f"all of it is in {FAILED}")
    for each in failed:
        if crash := getattr(each.longrepr, "reprcrash", None):
            terminalreporter.write_line(f"{each.nodeid}, {each.when}: {crash.message}")


@pytest.fixture(params=["short", pytest.param("long", marks=LONG)])
def form(request: pytest.FixtureRequest) -> Form:
    """Each scenario has a short form and a long one."""
    chosen: Form = request.param
    return chosen


@pytest.fixture(autouse=True)
def unpaused() -> Iterator[None]:
    """Without the collector: in a process as large as this one it holds up clients and model servers for a fifth of a
    second at a time, and that would look like the proxy."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> Rows:
    return pytestconfig.stash[ROWS]


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.fixture
def rig(running: Rig) -> Iterator[Rig]:
    """The module's rig; when the scenario is over, the invariants must hold."""
    running.forget()
    yield running
    running.check()
