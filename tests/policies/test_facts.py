"""Each fact of a request, whatever its API, and whatever strangers put where it should be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Facts
from policies.facts import Once


def facts(body: dict[str, Any] | None = None, /, **given: Any) -> Facts:
    return Facts(body=body or {}, headers=given.pop("headers", {}), **given)


def said(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


FUNCTION = {"type": "function", "function": {"name": "find", "parameters": {"a": "bc"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PARTS = [{"type": "text", "text": "one"}, IMAGE, {"type": "text", "text": "two"}]


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        ({}, "user", None),
        ({"user": "ann"}, "user", "ann"),
        ({"user": "ann", "safety_identifier": "hash"}, "user", "hash"),
        ({"user": "ann", "safety_identifier": 7}, "user", "ann"),
        ({"user": ""}, "user", None),
        ({"model": "support"}, "model", "support"),
        ({"model": ["support"]}, "model", None),
        ({}, "response_format", "text"),
        ({"response_format": None}, "response_format", "text"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
        ({"response_format": "json"}, "response_format", None),
        ({"response_format": {"type": 1}}, "response_format", None),
        ({}, "stream", False),
        ({"stream": None}, "stream", False),
        ({"stream": True}, "stream", True),
        ({"stream": "true"}, "stream", None),
        ({}, "tools", False),
        ({"tools": []}, "tools", False),
        ({"tools": None, "functions": []}, "tools", False),
        ({"tools": [FUNCTION]}, "tools", True),
        ({"functions": [{"name": "find"}]}, "tools", True),
        ({"tools": "all"}, "tools", None),
        ({"tools": {}, "functions": [{}]}, "tools", True),
        ({}, "tool_names", None),
        ({"tools": []}, "tool_names", None),
        ({"tools": [FUNCTION], "functions": [{"name": "old"}]}, "tool_names", ("find", "old")),
        ({"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "tool_names", ("sql",)),
        ({"tools": [{"type": "web_search"}, {"type": "function", "name": "a"}]}, "tool_names", ("web_search", "a")),
        ({"tools": ["find", {}, {"name": 3}, {"function": "find"}]}, "tool_names", None),
        ({}, "images", False),
        (said(("user", "hi")), "images", False),
        (said(("user", PARTS)), "images", True),
        (said(("user", [{"type": "input_image"}])), "images", True),
        ({"messages": [None, "image_url", {"content": {"type": "image_url"}}]}, "images", False),
        ({}, "messages", None),
        ({"messages": "hi"}, "messages", None),
        ({"messages": []}, "messages", 0),
        (said(("system", "a"), ("user", "b")), "messages", 2),
        ({}, "max_tokens", None),
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, "max_tokens", 5),
        ({"max_tokens": True}, "max_tokens", None),
        ({"max_tokens": "5"}, "max_tokens", None),
        ({"max_output_tokens": 7}, "max_tokens", 7),
        ({}, "text", None),
        (said(("user", "first"), ("assistant", "x"), ("user", "last"), ("assistant", "y")), "text", "last"),
        (said(("user", PARTS)), "text", "one\ntwo"),
        (said(("user", [IMAGE])), "text", None),
        (said(("user", ["plain", 3, {"text": 4}])), "text", "plain"),
        (said(("user", 3)), "text", None),
        (said(("assistant", "only")), "text", None),
        ({}, "system", None),
        (said(("system", "a"), ("user", "b"), ("developer", [{"text": "c"}]), ("system", "")), "system", "a\nc"),
        ({"messages": [None, 3, "system", {"role": "system"}]}, "system", None),
    ],
)  # fmt: skip
def test_a_fact_of_a_chat_body(body: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(facts(body), name) == value


@pytest.mark.parametrize(
    ("body", "characters"),
    [
        ({}, 0),
        ({"messages": 3}, 0),
        (said(("system", "abc"), ("user", "d")), 4),
        (said(("user", PARTS)), 6),
        ({"messages": [{"content": "abc", "name": "de"}]}, 5),
        ({"messages": ["loose", None, 3]}, 9),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}]}]}, 11),
        ({"messages": [{"role": "tool", "tool_call_id": "call_1", "content": "result"}]}, 6),
        ({"tools": [FUNCTION]}, len("typefunctionfunctionnamefindparametersabc")),
        ({"functions": [{"name": "f", "strict": True, "default": None}]}, len("namefstrictdefault") + 4),
    ],
)  # fmt: skip
def test_prompt_tokens_are_a_quarter_of_the_characters_a_model_reads(body: dict[str, Any], characters: int) -> None:
    assert facts(body).prompt_tokens == characters / 4


def test_messages_without_the_caller_prompt_stand_for_the_bodys() -> None:
    cut = facts(said(("system", "long"), ("user", "b")), messages=[{"role": "user", "content": "b"}])
    assert (cut.system, cut.messages, cut.prompt_tokens, cut.text) == (None, 1, 0.25, "b")


def test_responses_have_input_and_instructions() -> None:
    asked = facts({"input": "hello", "instructions": "Be kind."}, api="responses")
    assert (asked.text, asked.system, asked.messages, asked.prompt_tokens) == ("hello", "Be kind.", 2, 13 / 4)
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "ask"}, {"type": "input_image", "image_url": "x"}],
        },
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]
    listed = facts({"input": items, "max_output_tokens": 9}, api="responses")
    assert (listed.text, listed.system, listed.images, listed.messages) == ("ask", "rules", True, 3)
    assert (listed.prompt_tokens, listed.max_tokens) == (12 / 4, 9)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, "text"),
        ({}, "text"),
        ({"format": {"type": "json_schema"}}, "json_schema"),
        ({"format": 3}, None),
        ("json", None),
    ],
)
def test_responses_keep_the_response_format_under_text(text: Any, value: str | None) -> None:
    assert facts({"text": text}, api="responses").response_format == value


def test_bare_prompts_are_one_user_message() -> None:
    completion = facts({"prompt": "Once upon"}, api="completions")
    assert (completion.text, completion.messages, completion.response_format) == ("Once upon", 1, "text")
    tokens = facts({"input": [11, 12, 13]}, api="embeddings")
    assert (tokens.text, tokens.prompt_tokens, tokens.response_format) == (None, 3, None)
    assert facts({"input": ["ab", "cd"]}, api="embeddings").prompt_tokens == 1
    assert facts({"input": 3}, api="embeddings").turns is None


def test_session_is_the_bodys_else_the_headers() -> None:
    headers = {b"x-session-id": b"h"}
    assert facts(extras={"session": "b"}, headers=headers).session == "b"
    assert facts(extras={"session": 3}, headers=headers).session == "h"
    assert facts(headers={b"x-session-id": b""}).session is None
    assert facts().session is None


def test_chance_is_a_fixed_number_for_a_request_and_even_over_many() -> None:
    assert facts(request_id="req-1").chance == 0.6459658838161421
    assert facts().chance is None
    draws = [facts(request_id=f"req-{number}").chance or 0.0 for number in range(4000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert all(350 < sum(low <= draw * 10 < low + 1 for draw in draws) < 450 for low in range(10))


def test_conversation_stays_while_the_talk_grows() -> None:
    begun = [("system", "be kind"), ("user", PARTS)]
    grown = [*begun, ("assistant", "hello"), ("user", "more")]
    assert facts(said(*begun)).conversation == facts(said(*grown)).conversation
    assert (
        facts(said(("system", "ab"), ("user", "c"))).conversation
        != facts(said(("system", "a"), ("user", "bc"))).conversation
    )
    other = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB"}}]
    assert facts(said(("user", [IMAGE]))).conversation != facts(said(("user", other))).conversation
    assert facts(said(("user", ["a", 7, None, {"n": 1}, "b"]))).conversation == "0:ab"  # what is no text says nothing
    assert facts().conversation == "0:"


def test_as_dict_has_every_present_fact_and_no_secret() -> None:
    whole = facts(
        {**said(("user", "hi")), "model": "m", "tools": [FUNCTION], "metadata": {"team": "a", "n": 3}},
        headers={b"authorization": b"Bearer sk-1", b"x-tier": b"gold", b"cookie": b"s=1", b"api-key": b"k"},
        tenant="search",
        now=60.0,
    ).as_dict()
    assert json.loads(json.dumps(whole)) == {
        "header.authorization": "***", "header.x-tier": "gold", "header.cookie": "***", "header.api-key": "***",
        "metadata.team": "a", "tenant": "search", "key": "none", "model": "m", "api": "chat",
        "response_format": "text", "stream": False, "tools": True, "images": False, "tool_names": ["find"],
        "messages": 1, "prompt_tokens": whole["prompt_tokens"], "text": "hi", "caller_prompt": "none",
        "time": "1970-01-01T00:01:00+00:00",
    }  # fmt: skip


def test_a_fact_is_computed_once() -> None:
    body: dict[str, Any] = {"user": "ann"}
    seen = facts(body)
    assert seen.user == "ann"
    body["user"] = "bob"
    assert seen.user == "ann"
    assert isinstance(Facts.user, Once)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["user", "system", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "name", "function", "format", "session", "custom"]),
            inner,
        )
    ),
    max_leaves=12,
)
FIELDS = ["model", "messages", "input", "prompt", "instructions", "tools", "functions", "metadata", "user", "stream"]
FIELDS += ["safety_identifier", "max_tokens", "max_completion_tokens", "response_format", "text"]
APIS = ["chat", "completions", "responses", "embeddings", "images"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.sampled_from(APIS), json_values)
def test_no_body_makes_reading_fail(body: dict[str, Any], api: str, session: Any) -> None:
    """Every fact is of its type or missing, and the key of the conversation is always there."""
    seen = facts(body, api=api, extras={"session": session}, request_id="r")
    types: dict[str, type] = dict.fromkeys(("user", "session", "model", "text", "system", "response_format"), str)
    types |= {"stream": bool, "tools": bool, "images": bool, "messages": int}
    for name, value in seen.as_dict().items():
        assert isinstance(value, types.get(name, object))
    assert isinstance(seen.conversation, str)


def test_depth_does_not_exhaust_the_stack() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    seen = facts({**said(("user", deep)), "tools": [deep]})
    assert seen.prompt_tokens == 0.5
    assert seen.conversation == "0:x"
    while isinstance(deep, list):  # taken apart by hand: freeing it recursively is slow
        deep = deep.pop()
