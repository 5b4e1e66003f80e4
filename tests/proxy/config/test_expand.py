"""Variables in config: filled in after parsing, so a value can never become YAML; prompts stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.document import Node, Place, parse
from proxy.config.expand import expand
from proxy.config.problems import Problem
from proxy.config.values import Expanded

ENV = {"HOST": "a.test", "EMPTY": "", "YAML": "{a: [1"}


def expanded(text: str, problems: list[Problem] | None = None) -> object:
    return expand(parse(text, "f.yaml"), ENV, problems).plain()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${HOST}", "a.test"),
        ("http://${HOST}:${PORT:-80}/", "http://a.test:80/"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$HOST $5", "$HOST $5"),
        ("${YAML}", "{a: [1"),
    ],
)
def test_what_is_filled_in(written: str, meant: str) -> None:
    problems: list[Problem] = []
    assert expanded(f"a: ['{written}']", problems) == {"a": [meant]}
    assert problems == []


@pytest.mark.parametrize(
    ("written", "code"), [("${NONE}", "missing-variable"), ("${1X}", "bad-variable"), ("${HOST", "bad-variable"),
                          ("${}", "bad-variable")],
)  # fmt: skip
def test_what_cannot_be_is_left_and_told_with_its_place(written: str, code: str) -> None:
    problems: list[Problem] = []
    assert expanded(f"a:\n  b: '{written}'", problems) == {"a": {"b": written}}
    assert [(p.code, p.line, p.col) for p in problems] == [(code, 2, 6)]
    assert expanded(f"a: '{written}'") == {"a": written}  # not asked for: not told


def test_only_text_that_was_wholly_a_variable_may_mean_a_number() -> None:
    found = expand(parse("a: '${HOST}'\nb: 'x${HOST}'\nc: a.test", "f"), ENV, None).plain()
    assert [type(found[key]) for key in "abc"] == [Expanded, str, str]


def test_a_prompts_own_text_is_not_touched() -> None:
    text = "prompts: {s: {1: {messages: [{system: '${HOST}'}]}}, t: '${HOST}/'}"
    assert expanded(text) == {"prompts": {"s": {"1": {"messages": [{"system": "${HOST}"}]}}, "t": "a.test/"}}


@given(st.text(alphabet="${}:-AX\\ ", max_size=30))
def test_any_text_is_expanded_or_told(text: str) -> None:
    problems: list[Problem] = []
    expand(Node({"a": Node(text, Place("f"))}, Place("f")), {"A": "${X}"}, problems)
    if "${" not in text:
        assert problems == []
