"""A prompt version: mistakes found at load with their place, rendering, size, and whether it is recognisable."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routes.problem import Problem
from routes.prompt import (
    MissingVariable,
    Prompt,
    PromptProblems,
    Ref,
    RenderError,
    Variable,
    compile_prompt,
)
from routes.template import MAX_OUTPUT

SUPPORT: dict[str, Any] = {
    "variables": {"company": {"required": True}, "tone": {"default": "friendly"}},
    "messages": [
        {"system": "You are the support assistant of {{ company }}. Be {{ tone }}.\n"},
        {"user": "Where is my order?"},
        {"assistant": '{"intent": "order_status"}'},
        "input",
    ],
}


def no_files(_name: str) -> str:
    raise AssertionError("nothing to read")


def prompt(data: Any) -> Prompt:
    return compile_prompt("support", "3", data, no_files)


def problems(data: Any) -> list[Problem]:
    with pytest.raises(PromptProblems) as caught:
        prompt(data)
    return list(caught.value.problems)


def found(data: Any) -> list[tuple[Any, ...]]:
    return [(problem.path, problem.code) for problem in problems(data)]


def system(text: Any, **variables: Any) -> dict[str, Any]:
    return {"variables": variables, "messages": [{"system": text}]}


def wire(prompt: Prompt, **variables: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = orjson.loads(orjson.dumps(prompt.render(variables)))
    return messages


def test_a_prompt_version() -> None:
    compiled = prompt(SUPPORT)
    assert compiled.id == "support@3"
    assert (compiled.name, compiled.version) == ("support", "3")
    assert compiled.known == {"company", "tone"}
    assert compiled.required == {"company"}
    assert compiled.variables["tone"] == Variable(required=False, default="friendly", has_default=True)
    assert compiled.input_at == 3
    assert compiled.warnings == ()
    assert wire(compiled, company="ACME") == [
        {"role": "system", "content": "You are the support assistant of ACME. Be friendly."},
        {"role": "user", "content": "Where is my order?"},
        {"role": "assistant", "content": '{"intent": "order_status"}'},
    ]


def test_static_messages_are_encoded_once_and_shared() -> None:
    compiled = prompt(SUPPORT)
    first, second = compiled.render({"company": "a"}), compiled.render({"company": "b"})
    assert first[0] != second[0]
    assert first[1] is second[1]
    assert isinstance(first[1]["content"], orjson.Fragment)


def test_given_values_come_over_defaults_and_foreign_names_are_ignored() -> None:
    assert wire(prompt(SUPPORT), company="A", tone="curt", other=[1])[0]["content"].endswith("of A. Be curt.")


def test_a_default_may_be_null_and_a_variable_without_one_is_required() -> None:
    compiled = prompt(system("{{ a }}{{ b }}", a={"default": None}, b=None))
    assert compiled.required == {"b"}
    assert wire(compiled, b=1)[0]["content"] == "None1"


def test_a_missing_variable_is_named() -> None:
    compiled = prompt(system("{{ a }}", a=None))
    for act in (compiled.render, compiled.characters):
        with pytest.raises(MissingVariable, match="`a`"):
            act({})


def test_only_scalars_can_be_given() -> None:
    with pytest.raises(RenderError):
        prompt(SUPPORT).render({"company": {"name": "ACME"}})


def test_the_callers_place_is_the_end_where_nothing_is_said() -> None:
    assert prompt(system("a")).input_at == 1
    assert prompt({"messages": [{"system": "a"}, "input", {"user": "b"}]}).input_at == 1


def test_files_are_read_by_the_one_who_may() -> None:
    compiled = compile_prompt(
        "p", "1", system({"file": "3.system.md"}), {"3.system.md": "From a file.\r\n"}.__getitem__
    )
    assert wire(compiled) == [{"role": "system", "content": "From a file."}]


@pytest.mark.parametrize(
    ("text", "sent"),
    [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("a", "a"), ("", "")],
)
def test_one_last_line_break_is_dropped(text: str, sent: str) -> None:
    """It ends a file or a YAML block; Jinja drops it too."""
    assert wire(prompt(system(text)))[0]["content"] == sent


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "{" not in text), st.text("ab")
)
def test_characters_are_those_of_the_rendered_texts(literal: str, value: str) -> None:
    data = {
        "variables": {"x": None, "y": {"default": 1.5}},
        "messages": [{"system": literal}, {"user": literal + "{{ x }}{{ y }}"}, {"user": "{{ x|upper }}" + literal}],
    }
    compiled = prompt(data)
    assert compiled.characters({"x": value}) == sum(len(message["content"]) for message in wire(compiled, x=value))


def test_the_hash_is_of_what_is_rendered() -> None:
    def hashed(**changes: Any) -> str:
        return compile_prompt("any", "any", {**SUPPORT, **changes}, no_files).hash

    same = hashed()
    assert len(same) == 12
    assert hashed(description="words") == same
    assert hashed(variables={"company": {"required": True}, "tone": {"default": "curt"}}) != same
    assert hashed(messages=[*SUPPORT["messages"], {"user": "x"}]) != same
    assert hashed(messages=["input", *SUPPORT["messages"][:3]]) != same


# Mistakes


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], [((), "type")]),
        ({"messages": [{"system": "a"}], "mesages": 1}, [(("mesages",), "unknown-key")]),
        ({}, [(("messages",), "type")]),
        ({"messages": "a"}, [(("messages",), "type")]),
        ({"messages": []}, [(("messages",), "no-messages")]),
        ({"messages": ["input"]}, [(("messages",), "no-messages")]),
        ({"messages": [{"system": "a"}, "input", "input"]}, [(("messages", 2), "repeated-input")]),
        ({"messages": ["inputs"]}, [(("messages", 0), "type")]),
        ({"messages": [{"role": "system", "content": "a"}]}, [(("messages", 0), "type")]),
        ({"messages": [{"tool": "a"}]}, [(("messages", 0, "tool"), "unknown-role")]),
        ({"messages": [{"system": 5}]}, [(("messages", 0, "system"), "type")]),
        ({"messages": [{"system": {"file": 5}}]}, [(("messages", 0, "system"), "type")]),
        ({"messages": [{"system": {"file": "a", "b": "c"}}]}, [(("messages", 0, "system"), "type")]),
        (system("a" * (MAX_OUTPUT + 1)), [(("messages", 0, "system"), "too-long")]),
        ({"variables": [], "messages": [{"system": "a"}]}, [(("variables",), "type")]),
        (system("a", **{"a-b": {}}), [(("variables", "a-b"), "variable-name")]),
        (system("a", none={}), [(("variables", "none"), "variable-name")]),
        ({"variables": {5: {}}, "messages": [{"system": "a"}]}, [(("variables", 5), "variable-name")]),
        (system("{{ x }}", x="friendly"), [(("variables", "x"), "type")]),
        (system("{{ x }}", x={"defualt": 1}), [(("variables", "x", "defualt"), "unknown-key")]),
        (system("{{ x }}", x={"required": "yes"}), [(("variables", "x", "required"), "type")]),
        (system("{{ x }}", x={"default": [1]}), [(("variables", "x", "default"), "type")]),
    ],
)
def test_mistakes_are_found_where_they_are(data: Any, expected: list[Any]) -> None:
    assert found(data) == expected


def test_all_mistakes_come_at_once_with_lines_and_suggestions() -> None:
    data = {
        "variables": {"company": {"requird": True}, "unused": None},
        "messages": [{"system": "Of {{ company }}\nand {{ compnay }}\n{{ company|uper }}"}, {"sytem": "{{ x"}],
    }
    assert [(p.path, p.code, p.suggestion, p.line, p.severity) for p in problems(data)] == [
        (("variables", "company", "requird"), "unknown-key", "required", None, "error"),
        (("messages", 0, "system"), "unknown-filter", "upper", 3, "error"),
        (("messages", 0, "system"), "unknown-variable", "company", 2, "error"),
        (("messages", 1, "sytem"), "unknown-role", "system", None, "error"),
        (("messages", 1, "sytem"), "template-syntax", None, 1, "error"),
    ]


def test_a_mistake_in_a_file_names_the_file() -> None:
    with pytest.raises(PromptProblems) as caught:
        compile_prompt("p", "1", system({"file": "a.md"}), {"a.md": "one\n{{ x }}\n{{ 'a' * 9 }}"}.__getitem__)
    assert [(p.path, p.code, p.file, p.line) for p in caught.value.problems] == [
        (("messages", 0, "system", "file"), "operator", "a.md", 3),
        (("messages", 0, "system", "file"), "unknown-variable", "a.md", 2),
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file"),
        (OSError("disk on fire"), "disk on fire"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(error: Exception, reason: str) -> None:
    def fail(_name: str) -> str:
        raise error

    with pytest.raises(PromptProblems, match=f"cannot read `a.md`: .*{reason}"):
        compile_prompt("p", "1", system({"file": "a.md"}), fail)


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("{{ x }}", True),
        ("{{ x|upper }}", True),
        ("{% if x %}{{ x }}{% endif %}", True),
        ("{{ n|round }}{{ x }}", False),  # a try with texts tells nothing of numbers
        ("{% if x is defined %}{{ x }}{% endif %}", False),
        ("{{ y }}", False),
    ],
)
def test_what_may_be_left_out_must_not_be_missed(text: str, is_told: bool) -> None:
    variables = {"x": {"required": False}, "y": {"default": "z"}, "n": None}
    if not is_told:
        prompt(system(text, **variables))
        return
    with pytest.raises(PromptProblems, match="`x` may be left out") as found:
        prompt(system("first\n" + text, **variables))
    (problem,) = [problem for problem in found.value.problems if problem.severity == "error"]
    assert (problem.code, problem.line) == ("missing-default", 2)


def test_what_is_only_odd_is_a_warning() -> None:
    compiled = prompt(system("{{ x }}", x={"required": True, "default": 1}, y=None, description=None))
    assert [(p.path, p.code, p.severity) for p in compiled.warnings] == [
        (("variables", "x", "default"), "unused-default", "warning"),
        (("variables", "description"), "unused-variable", "warning"),
        (("variables", "y"), "unused-variable", "warning"),
    ]


# Recognisable


def test_segments_are_roles_and_parts() -> None:
    assert prompt(SUPPORT).segments() == (
        ("system", ("You are the support assistant of ", Ref("company"), ". Be ", Ref("tone"), ".")),
        ("user", ("Where is my order?",)),
        ("assistant", ('{"intent": "order_status"}',)),
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"messages": [{"system": "a"}, "input", {"user": "b"}]}, "follow `input`"),
        (system("a {{ x|upper }}", x=None), "more than texts and plain"),
        (system("a {{ x }}{{ y }}", x=None, y=None), "`x` and `y` are adjacent"),
        (system(" {{ x }}\n ", x=None), "would match anything"),
    ],
)
def test_why_a_prompt_cannot_be_recognised(data: Any, reason: str) -> None:
    why = prompt(data).segments()
    assert isinstance(why, str)
    assert reason in why


def test_what_requests_share_of_a_prompt() -> None:
    """Without variables all of it; with them the messages before the first that a variable changes."""
    data = {
        "variables": {"tone": {"default": "kind"}},
        "messages": [{"system": "12345"}, {"user": "Be {{ tone }}."}, {"assistant": "ok"}, "input"],
    }
    prompt = compile_prompt("p", "1", data, no_files)
    assert prompt.beginning({}) == prompt.characters({}) == len("12345Be kind.ok")
    assert prompt.beginning({"tone": "cold"}) == 5
    fixed = compile_prompt("p", "2", {"messages": [{"system": "12345"}, "input", {"user": "after"}]}, no_files)
    assert fixed.beginning({"other": 1}) == 5
    required = compile_prompt("p", "3", {"messages": [{"system": "{{ a }}"}], "variables": {"a": {}}}, no_files)
    assert required.beginning({"a": "x"}) == 0
