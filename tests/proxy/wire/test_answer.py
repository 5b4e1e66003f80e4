"""What is read of a whole answer: usage, model, size; and what is no answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.base import Failed
from proxy.wire.answer import Answer, ErrorObject, read, size
from routes import failure

CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"id": 7}'}}


def answer(message: Any, **more: Any) -> bytes:
    return json.dumps({"model": "m-1", "choices": [{"index": 0, "message": message}], **more}).encode()


def test_usage_model_and_characters_are_read() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    assert read(answer({"role": "assistant", "content": "héllo"}, usage=usage), "m") == Answer(usage, "m-1", 5)


@pytest.mark.parametrize(
    ("message", "characters"),
    [
        ({"content": "ab"}, 2),
        ({"content": None, "refusal": "no"}, 2),
        ({"content": "ab", "reasoning_content": "cde"}, 5),
        ({"content": "ab", "reasoning": "cde"}, 5),
        ({"tool_calls": [CALL, CALL]}, 26),
        ({"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}]}, 9),
        ({"tool_calls": [{"index": 0, "custom": {"input": " 1"}}]}, 2),
        ({"function_call": {"name": "find", "arguments": "{}"}}, 6),
        ({"content": [{"type": "text", "text": "ab"}]}, 0),
        ({"tool_calls": "none"}, 0),
        ({"tool_calls": [None, {"function": None}, {"function": {"name": 1, "arguments": "{}"}}]}, 2),
        ("text", 0),
        (None, 0),
    ],
)
def test_everything_generated_that_can_be_seen_counts(message: Any, characters: int) -> None:
    assert size(message) == characters
    assert read(answer(message), "m").characters == characters


def test_all_choices_count() -> None:
    choices = [{"message": {"content": "ab"}}, {"message": {"content": "cde"}}, "odd"]
    assert read(json.dumps({"choices": choices}).encode(), "m").characters == 5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html>", "something that is not JSON"),
        (b"", "something that is not JSON"),
        (b"[1]", "JSON that is not an object"),
        (b"{}", "JSON without choices"),
        (b'{"choices": []}', "JSON without choices"),
        (b'{"choices": [1]}', "JSON without choices"),
        (b'{"choices": {"0": 1}}', "JSON without choices"),
    ],
)
def test_what_is_no_answer_is_said_in_words_that_name_our_model(data: bytes, said: str) -> None:
    with pytest.raises(Failed, match=f"model 'tuned' answered {said}") as failed:
        read(data, "tuned")
    assert failed.value.failure == failure.BAD_ANSWER


def test_an_error_in_place_of_an_answer_is_handed_on() -> None:
    with pytest.raises(ErrorObject) as found:
        read(b'{"error": {"message": "overloaded"}, "choices": []}', "m")
    assert (found.value.error, found.value.after_content) == ({"message": "overloaded"}, False)
    assert read(answer({"content": "x"}, error=None), "m").characters == 1  # some servers always send the key


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["choices", "message", "usage", "model", "error", "tool_calls", "function"]),
                        inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_json_is_an_answer_a_failure_or_an_error(body: Any) -> None:
    try:
        found = read(json.dumps(body).encode(), "m")
    except (Failed, ErrorObject):
        return
    assert found.characters >= 0
    assert found.usage is None or isinstance(found.usage, dict)
