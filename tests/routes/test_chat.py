"""Composing a chat body: the prompt's messages around the caller's, and nothing of the caller's changed."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routes.chat import Unencodable, compose, encode, part_text, with_stream_usage
from routes.params import compile_params
from routes.prompt import MissingVariable, Prompt, compile_prompt
from routes.route import Ask, Route

USER = {"role": "user", "content": "hi"}
OWN = {"role": "system", "content": "Be brief."}
TEXT = {"type": "text", "text": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


def prompt(*messages: Any) -> Prompt:
    return compile_prompt("p", "1", {"variables": {"x": {"default": "X"}}, "messages": list(messages)}, str)


STATIC = prompt({"system": "Be kind."}, {"user": "a?"}, {"assistant": "b!"})
DYNAMIC = prompt({"developer": "Be {{ x }}."})


def sent(route: Route, messages: list[Any], **more: Any) -> Any:
    """Return the messages as the model gets them."""
    variables = more.pop("variables", {})
    body = {"model": "support", "messages": [], **more}
    ask = Ask(body=body, messages=messages, variables=variables)
    return orjson.loads(encode(compose(ask, route)))["messages"]


def route(prompt: Prompt | None = None, **more: Any) -> Route:
    return Route("r", "m", prompt, **more)


def test_without_a_prompt_only_the_model_goes() -> None:
    ask = Ask(body={"model": "support", "messages": [1], "unknown": {"a": [1]}}, messages=[USER])
    assert compose(ask, route()) == {"messages": [USER], "unknown": {"a": [1]}}


def test_the_prompt_goes_around_the_callers_messages() -> None:
    around = prompt({"system": "first"}, "input", {"user": "last"})
    assert [m["content"] for m in sent(route(around), [USER])] == ["first", "hi", "last"]
    assert [m["content"] for m in sent(route(STATIC), [USER])] == ["Be kind.", "a?", "b!", "hi"]


def test_variables_are_filled_in() -> None:
    assert sent(route(DYNAMIC), [USER], variables={"x": "curt"}) == [
        {"role": "developer", "content": "Be curt."},
        USER,
    ]
    bare = compile_prompt("p", "1", {"variables": {"x": None}, "messages": [{"system": "{{ x }}"}]}, str)
    with pytest.raises(MissingVariable):
        sent(route(bare), [USER])


def test_an_untouched_ask_gets_no_prompt() -> None:
    ask = Ask(body={"messages": []}, messages=[OWN, USER], untouched=True)
    assert compose(ask, route(STATIC)) == {"messages": [OWN, USER]}


def test_requests_without_messages_get_parameters_only() -> None:
    ask = Ask(body={"model": "m", "input": "text"}, messages=[])
    params = compile_params({"set": {"dimensions": 8}})
    assert compose(ask, route(STATIC, params=(params,))) == {"input": "text", "dimensions": 8}


def test_a_routes_parameters_come_over_its_models() -> None:
    own, models = compile_params({"set": {"n": 1}}), compile_params({"set": {"n": 2, "m": 2}})
    ask = Ask(body={"messages": []}, messages=[])
    assert compose(ask, route(params=(own, models))) == {"messages": [], "n": 1, "m": 2}


# The caller's own system text


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ([OWN], "Be kind.\n\nBe brief."),
        ([{"role": "developer", "content": "Be brief."}], "Be kind.\n\nBe brief."),
        ([OWN, {"role": "developer", "content": "And quick."}], "Be kind.\n\nBe brief.\n\nAnd quick."),
        (
            [{"role": "system", "content": [TEXT, TEXT]}],
            "Be kind.\n\na\n\na",
        ),
        ([{"role": "system", "content": ["a"]}], "Be kind.\n\na"),
        ([{"role": "system", "content": " \n"}], "Be kind."),
        (
            [{"role": "system", "content": [TEXT, IMAGE]}],
            [{"type": "text", "text": "Be kind.\n\na"}, IMAGE],
        ),
    ],
)
def test_merge_appends_it_to_the_prompts(mine: list[Any], expected: Any) -> None:
    assert sent(route(STATIC), [*mine, USER]) == [
        {"role": "system", "content": expected},
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "b!"},
        USER,
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text('a\n"ü\\ '), max_size=3))
def test_a_static_text_merges_as_a_rendered_one(text: str, mine: list[str]) -> None:
    raw = "{% raw %}" + text.replace("{", "(").removesuffix("\n") + "{% endraw %}"
    own = [{"role": "system", "content": each} for each in mine]
    static, dynamic = route(prompt({"system": raw})), route(prompt({"system": raw + "{{ x }}"}))
    assert sent(static, own) == sent(dynamic, own, variables={"x": ""})


def test_a_callers_text_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(Unencodable):
        sent(route(STATIC), [{"role": "system", "content": "\ud800"}])


def test_merge_keeps_the_prompts_role_and_fills_it_in() -> None:
    assert sent(route(DYNAMIC), [OWN, USER])[0] == {"role": "developer", "content": "Be X.\n\nBe brief."}


def test_merge_without_a_system_message_in_the_prompt_leaves_it() -> None:
    assert sent(route(prompt({"user": "a?"})), [OWN, USER]) == [{"role": "user", "content": "a?"}, OWN, USER]


@pytest.mark.parametrize("odd", ["text", {"role": "system"}, {"role": "system", "content": None}, {"content": "x"}])
def test_what_is_malformed_is_the_models_to_refuse(odd: Any) -> None:
    assert sent(route(STATIC), [odd, OWN, USER])[3:] == [odd, OWN, USER]


def test_only_what_leads_is_system_text() -> None:
    assert sent(route(STATIC, caller_system="drop"), [OWN, USER, OWN])[3:] == [USER, OWN]


def test_keep_leaves_a_second_message() -> None:
    assert sent(route(STATIC, caller_system="keep"), [OWN, USER])[3:] == [OWN, USER]


def test_drop_removes_it() -> None:
    assert sent(route(STATIC, caller_system="drop"), [OWN, OWN, USER])[3:] == [USER]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
CONTENT = st.one_of(st.text(max_size=5), st.lists(st.one_of(JSON, st.sampled_from([TEXT, IMAGE])), max_size=3))
MESSAGES = st.lists(
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "developer", "user"])},
            optional={
                "content": st.one_of(
                    st.text(max_size=5), st.lists(st.one_of(JSON, st.sampled_from([TEXT, IMAGE])), max_size=3)
                )
            },
        ),
    ),
    max_size=4,
)


@given(MESSAGES, st.dictionaries(st.sampled_from(["n", "stop", "messages", "model", "stream_options"]), JSON))
@pytest.mark.parametrize("caller_system", ["merge", "keep", "drop"])
def test_nothing_of_the_callers_is_changed(caller_system: Any, messages: list[Any], more: dict[str, Any]) -> None:
    body = {"messages": messages, "stream": True, **more}
    before = copy.deepcopy((body, messages))
    params = compile_params({"set": {"n": 1}, "drop": ["stop"], "rename": {"m": "k"}})
    for each in (STATIC, DYNAMIC, None):
        result = compose(
            Ask(body=body, messages=messages), route(each, caller_system=caller_system, params=(params,))
        )
        with_stream_usage(result)
        encode(result)
    assert (body, messages) == before


# Streams and encoding


@pytest.mark.parametrize(
    ("body", "asked", "options"),
    [
        ({}, False, None),
        ({"stream": False}, False, None),
        ({"stream": True}, False, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, False, {"include_usage": True}),
        (
            {"stream": True, "stream_options": {"include_usage": False, "a": 1}},
            False,
            {"include_usage": True, "a": 1},
        ),
        ({"stream": True, "stream_options": {"a": 1}}, False, {"include_usage": True, "a": 1}),
        ({"stream": True, "stream_options": {"include_usage": True, "a": 1}}, True, {"include_usage": True, "a": 1}),
    ],
)
def test_streams_report_their_usage(body: dict[str, Any], asked: bool, options: Any) -> None:
    assert with_stream_usage(body) is asked
    assert body.get("stream_options") == options


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {1: 2}, object()])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(Unencodable):
        encode({"n": value})


def test_depth_is_limited() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(Unencodable):
        encode({"deep": deep})


def test_encoding_is_compact_json() -> None:
    assert (
        encode({"a": [1, 2.5, None, "ü"], "b": orjson.Fragment(b'"x"')}) == '{"a":[1,2.5,null,"ü"],"b":"x"}'.encode()
    )


def test_only_text_parts_have_text() -> None:
    assert part_text({"type": "text", "text": "a"}) == "a"
    for other in (IMAGE, {"type": "text", "text": 5}, {"text": "a"}, 5):
        assert part_text(other) is None
