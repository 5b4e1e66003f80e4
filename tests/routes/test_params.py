"""Parameters changed for a model or a route, and the dialects of servers."""

from typing import Any

import orjson
import pytest

from routes.params import DIALECTS, PROTECTED, ParamProblems, Params, apply_all, compile_params
from routes.prompt import compile_prompt


def changed(data: Any, **body: Any) -> dict[str, Any]:
    apply_all((compile_params(data),), body)
    return body


def found(data: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(ParamProblems) as caught:
        compile_params(data)
    return [(problem.path, problem.code) for problem in caught.value.problems]


def test_a_default_yields_to_the_caller() -> None:
    assert changed({"default": {"temperature": 0}}) == {"temperature": 0}
    assert changed({"default": {"temperature": 0}}, temperature=1) == {"temperature": 1}
    assert changed({"default": {"stop": "x"}}, stop=None) == {"stop": None}, "null is an answer"


def test_set_and_drop_do_not() -> None:
    assert changed({"set": {"n": 1}, "drop": ["logprobs", "seed"]}, n=2, seed=2) == {"n": 1}


def test_rename_keeps_the_new_name_where_both_are_sent() -> None:
    rename = {"rename": {"max_tokens": "max_completion_tokens"}}
    assert changed(rename, max_tokens=5) == {"max_completion_tokens": 5}
    assert changed(rename, max_tokens=5, max_completion_tokens=9) == {"max_completion_tokens": 9}
    assert changed(rename, n=1) == {"n": 1}


def test_rename_comes_before_default() -> None:
    data = {"rename": {"max_tokens": "limit"}, "default": {"limit": 1}}
    assert changed(data, max_tokens=5) == {"limit": 5}


def test_empty_blocks_do_nothing() -> None:
    assert changed({"default": None, "set": {}, "drop": None, "rename": None}, n=1) == {"n": 1}


@pytest.mark.parametrize(
    ("route", "model", "expected"),
    [
        ({"set": {"n": 1}}, {"set": {"n": 2}}, {"n": 1}),
        ({"default": {"n": 1}}, {"default": {"n": 2}}, {"n": 1}),
        ({"drop": ["n"]}, {"set": {"n": 2}}, {}),
        ({"drop": ["n"]}, {"default": {"n": 2}}, {}),
        ({"set": {"n": 1}}, {"drop": ["n"]}, {"n": 1}),
        ({"default": {"n": 1}}, {"drop": ["n"]}, {}),
        ({"default": {"n": 1}}, {"set": {"n": 2}}, {"n": 2}),
        ({"rename": {"m": "n"}}, {"default": {"n": 2}}, {"n": 5}),
    ],
)
def test_a_routes_own_come_over_its_models(route: Any, model: Any, expected: Any) -> None:
    body = {"m": 5} if "rename" in route else {}
    apply_all((compile_params(route), compile_params(model)), body)
    assert body == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, [((), "type")]),
        ({"sett": {}}, [(("sett",), "unknown-key")]),
        ({"set": []}, [(("set",), "type")]),
        ({"default": 5}, [(("default",), "type")]),
        ({"rename": "a"}, [(("rename",), "type")]),
        ({"drop": {"a": 1}}, [(("drop",), "type")]),
        ({"drop": [5]}, [(("drop", 0), "type")]),
        ({"rename": {"a": 5}}, [(("rename", "a"), "type")]),
        ({"set": {5: 5}}, [(("set", 5), "type")]),
        ({"set": {"a": 2**70}}, [(("set", "a"), "not-json")]),
        ({"set": {"a": 1}, "drop": ["a"]}, [(("drop", 0), "contradiction")]),
        ({"default": {"a": 1}, "drop": ["b", "a"]}, [(("drop", 1), "contradiction")]),
        ({"rename": {"a": "b"}, "drop": ["a"]}, [(("drop", 0), "contradiction")]),
        ({"rename": {"a": "b"}, "drop": ["b"]}, [(("rename", "a"), "contradiction")]),
        ({"rename": {"a": "a"}}, [(("rename", "a"), "contradiction")]),
        ({"rename": {"a": "b", "b": "c"}}, [(("rename", "a"), "contradiction")]),
        ({"rename": {"a": "c", "b": "c"}}, [(("rename", "a"), "contradiction"), (("rename", "b"), "contradiction")]),
        ({"rename": {"a": "b"}, "set": {"a": 1}}, [(("rename", "a"), "contradiction")]),
        ({"rename": {"a": "b"}, "default": {"a": 1}}, [(("rename", "a"), "contradiction")]),
    ],
)
def test_mistakes_are_found_where_they_are(data: Any, expected: list[Any]) -> None:
    assert found(data) == expected


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_what_a_request_is_cannot_be_changed(name: str) -> None:
    data = {"set": {name: 1}, "default": {name: 1}, "drop": [name], "rename": {name: "a", "b": name}}
    assert [code for _, code in found(data)].count("protected-parameter") == 5


def test_a_default_that_is_never_used_is_a_warning() -> None:
    compiled = compile_params({"default": {"n": 1}, "set": {"n": 2}})
    assert [(p.path, p.code, p.severity) for p in compiled.warnings] == [
        (("default", "n"), "unused-default", "warning")
    ]


# Dialects


def test_openai_wants_the_new_name_of_the_limit() -> None:
    body: dict[str, Any] = {"messages": [], "max_tokens": 5}
    apply_all((DIALECTS["openai"],), body)
    assert body == {"messages": [], "max_completion_tokens": 5}


def test_vllm_gets_what_it_knows() -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 5,
        "store": True,
        "service_tier": "auto",
        "top_k": 3,
    }
    apply_all((DIALECTS["vllm"],), body)
    assert body == {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "top_k": 3}


def test_vllm_gets_developers_as_system_whoever_wrote_them() -> None:
    """A prompt's static message as well; what is shared or the caller's stays as it was."""
    prompt = compile_prompt("p", "1", {"messages": [{"developer": "Be kind."}]}, str)
    callers = {"role": "developer", "content": [{"type": "text", "text": "Be brief."}], "name": "me"}
    odd: list[Any] = ["text", {"role": ["developer"]}, {"content": "x"}]
    messages = [*prompt.render({}), callers, *odd]
    body = {"messages": messages}
    apply_all((DIALECTS["vllm"],), body)
    assert orjson.loads(orjson.dumps(body["messages"])) == [
        {"role": "system", "content": "Be kind."},
        {**callers, "role": "system"},
        *odd,
    ]
    assert callers["role"] == "developer"
    assert prompt.render({})[0]["role"] == "developer"
    assert messages[1] is callers


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_for_chat_only(dialect: str) -> None:
    """`max_tokens` is the right name for completions."""
    body = {"prompt": "a", "max_tokens": 5, "max_completion_tokens": 5, "store": True}
    apply_all((DIALECTS[dialect],), body)
    assert body == {"prompt": "a", "max_tokens": 5, "max_completion_tokens": 5, "store": True}


def test_messages_that_are_no_list_are_left_alone() -> None:
    body = {"messages": "hello"}
    apply_all((DIALECTS["vllm"],), body)
    assert body == {"messages": "hello"}


def test_params_alone_do_nothing() -> None:
    body = {"messages": [{"role": "developer"}]}
    apply_all((Params(),), body)
    assert body == {"messages": [{"role": "developer"}]}
