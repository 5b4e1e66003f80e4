"""SECURITY.md keeps its word: every test that it names is there, and every threat has one or says why not."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "SECURITY.md").read_text()
TABLE = TEXT.partition("### Threats, controls, tests")[2].partition("\n### ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line.startswith("| ")
][2:]
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])})


def defined(path: Path) -> set[str]:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions)}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    file, _, function = name.removeprefix("tests/").partition("::")
    assert function.startswith("test_")
    assert function in defined(TESTS / file)


def test_every_threat_has_a_control_and_a_test() -> None:
    assert len(ROWS) >= 20
    for row in ROWS:
        assert len(row) == 4, row
        assert all(row[1:]), row
        assert "::" in row[3], row


def test_every_threat_is_spoken_of() -> None:
    """T1 to T30, in the table or among those that have nothing to aim at yet."""
    assert {int(number) for number in re.findall(r"\bT(\d+)\b", TEXT)} == set(range(1, 31))


def test_the_tests_of_security_are_all_named() -> None:
    """A test that nobody can find from the threat it answers to would be the first to be deleted."""
    for file in ("test_security", "test_templates", "test_secrets", "test_timing", "test_evil_upstream"):
        path = TESTS / "faults" / f"{file}.py"
        here = {f"faults/{file}.py::{name}" for name in defined(path) if name.startswith("test_")}
        assert here <= set(NAMED), here - set(NAMED)
