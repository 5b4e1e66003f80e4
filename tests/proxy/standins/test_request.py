from typing import Any

import pytest

from proxy.standins.persona import STRONG, TUNED
from proxy.standins.request import Refused, parse, read

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look_up"}}


def refused(**body: Any) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        read({"model": "m", **body}, STRONG)
    assert caught.value.status == 400
    assert caught.value.error["type"] == "invalid_request_error"
    return caught.value.error


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", None),
        ({"messages": [*HI, {"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages[1].role", None),
        ({"messages": HI, "pointsman": {}}, "pointsman", "unknown_parameter"),
        ({"messages": HI, "max_tokens": 5}, "max_tokens", "unsupported_parameter"),
        ({"messages": HI, "max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"messages": HI, "n": 129}, "n", "integer_above_max_value"),
        ({"messages": HI, "n": "2"}, "n", "invalid_type"),
        ({"messages": HI, "stream": "yes"}, "stream", "invalid_type"),
        ({"messages": HI, "stream_options": {"include_usage": True}}, "stream_options", None),
        ({"messages": HI, "response_format": {"type": "json_object"}}, "messages", None),
        ({"messages": HI, "response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"messages": HI, "stop": ["a"] * 5}, "stop", "invalid_type"),
        ({"messages": HI, "tools": []}, "tools", "empty_array"),
        ({"messages": HI, "tools": [{"type": "function"}]}, "tools[0].function.name", "missing_required_parameter"),
        ({"messages": HI, "tool_choice": "auto"}, "tool_choice", None),
    ],
)
def test_refused_as_openai_refuses(body: dict[str, Any], param: str, code: str | None) -> None:
    error = refused(**body)
    assert (error["param"], error["code"]) == (param, code)


def test_the_tuned_model_takes_the_older_name_for_its_limit() -> None:
    assert read({"model": "m", "messages": HI, "max_tokens": 5}, TUNED).limit == 5


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"model": ""}', b'{"model": 1}', b"{"])
def test_a_body_without_a_model_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        parse(raw)


def test_a_tool_answer_may_follow_its_call() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]}
    answer = {"role": "tool", "tool_call_id": "x", "content": "arrived"}
    assert len(read({"model": "m", "messages": [*HI, call, answer]}, STRONG).messages) == 3


def test_a_named_tool_is_the_only_one_callable() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    choice = {"type": "function", "function": {"name": "other"}}
    request = read({"model": "m", "messages": HI, "tools": [TOOL, other], "tool_choice": choice}, STRONG)
    assert [tool["name"] for tool in request.tools] == ["other"]
    assert request.must_call


def test_the_model_is_named_without_its_behaviour() -> None:
    assert read({"model": "strong?cut&after=3", "messages": HI}, STRONG).model == "strong"


def test_the_user_text_is_the_last_user_message() -> None:
    messages = [
        *HI,
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": [{"type": "text", "text": "bye"}]},
    ]
    assert read({"model": "m", "messages": messages}, STRONG).user_text == "bye"
