"""How commands look: colours only for people, values on one line, nothing that a terminal would obey."""

import io
from typing import Any

import pytest

from proxy.cli.terminal import count, is_coloured, painter, problem_painter, value


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_coloured(Screen())
    assert not is_coloured(io.StringIO())
    assert painter(Screen())("x", "red") == "\x1b[31mx\x1b[0m"
    assert painter(io.StringIO())("x", "red") == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert not is_coloured(Screen())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_coloured(Screen())


@pytest.mark.parametrize(("severity", "code"), [("error", "31"), ("warning", "33")])
def test_a_problems_place_is_bold_and_the_rest_has_its_severitys_colour(severity: str, code: str) -> None:
    text = f"a.yaml:1:2: {severity}[x]: why"
    assert (
        problem_painter(Screen())(text, severity)
        == f"\x1b[1ma.yaml:1:2:\x1b[0m\x1b[{code}m {severity}[x]: why\x1b[0m"
    )
    assert problem_painter(io.StringIO())(text, severity) == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "nothing"), ("nothing", '"nothing"'), ("", '""'), (" a", '" a"'), ("gold", "gold"), ("größe", "größe"),
        ("\x1b[31m", '"\\u001b[31m"'), ("x" * 61, "x" * 57 + "..."), (True, "true"), (3, "3"), (6000.0, "6,000"),
        (["a", 1], "[a, 1]"),
    ],
)  # fmt: skip
def test_a_value_is_one_short_line(given: Any, shown: str) -> None:
    assert value(given) == shown


def test_counts_agree_with_their_noun() -> None:
    assert [count(n, "rule") for n in (0, 1, 2, 1200)] == ["0 rules", "1 rule", "2 rules", "1,200 rules"]
