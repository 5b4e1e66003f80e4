"""Bounds: at each of them a request passes, one more is refused, with field, value, limit and key."""

import dataclasses
from typing import Any

import pytest

from proxy.errors import BadRequest
from proxy.wire.body import check_chat
from proxy.wire.bounds import Bounds

SMALL = Bounds(
    messages=3, images=2, tools=2, n=4, max_tokens=100, top_logprobs=5, stop=2, logit_bias=2, schema_depth=6,
    schema_values=40, schema_pattern=10,
)  # fmt: skip
USER = {"role": "user", "content": "x"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"a": 1}
    for _ in range(depth - 1):
        schema = {"a": schema}
    return schema


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("n", {"n": 4}, {"n": 5}, "n"),
    ("n", {"n": 0}, {"n": -1}, "n"),
    ("n", {"best_of": 4}, {"best_of": 5}, "best_of"),
    ("max_tokens", {"max_tokens": 100}, {"max_tokens": 101}, "max_tokens"),
    ("max_tokens", {"max_tokens": 0}, {"max_tokens": -1}, "max_tokens"),
    ("max_tokens", {"max_completion_tokens": 100}, {"max_completion_tokens": 101}, "max_completion_tokens"),
    ("top_logprobs", {"top_logprobs": 5}, {"top_logprobs": 6}, "top_logprobs"),
    ("stop", {"stop": ["a", "b"]}, {"stop": ["a", "b", "c"]}, "stop"),
    ("logit_bias", {"logit_bias": {"1": 1, "2": 2}}, {"logit_bias": {"1": 1, "2": 2, "3": 3}}, "logit_bias"),
    ("tools", {"tools": [{}, {}]}, {"tools": [{}, {}, {}]}, "tools"),
    ("tools", {"functions": [{}, {}]}, {"functions": [{}, {}, {}]}, "functions"),
    ("messages", {"messages": [USER] * 3}, {"messages": [USER] * 4}, "messages"),
    (
        "images",
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "x"}, IMAGE]}]},
        {"messages": [{"role": "user", "content": [IMAGE, IMAGE]}, {"role": "user", "content": [IMAGE]}]},
        "messages",
    ),
    ("schema_depth", {"response_format": nested(6)}, {"response_format": nested(7)}, "response_format"),
    ("schema_depth", {"tools": [nested(5)]}, {"tools": [nested(6)]}, "tools"),
    ("schema_values", {"tools": [{"enum": [1] * 30}]}, {"tools": [{"enum": [1] * 50}]}, "tools"),
    (
        "schema_pattern",
        {"response_format": {"pattern": "a" * 10, "type": "string"}},
        {"response_format": {"pattern": "a" * 11, "type": "string"}},
        "response_format",
    ),
    (
        "schema_pattern",
        {"structured_outputs": {"regex": '\\"' * 5}},
        {"structured_outputs": {"regex": '\\"\n' * 5}},
        "structured_outputs",
    ),
    ("schema_pattern", {"guided_regex": "a" * 10}, {"guided_regex": "a" * 11}, "guided_regex"),
    ("schema_depth", {"guided_json": "a" * 5000}, {"guided_json": nested(7)}, "guided_json"),
]


def body(more: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **more}


@pytest.mark.parametrize(("bound", "fine", "wrong", "param"), CASES)
def test_at_the_bound_and_above(bound: str, fine: dict[str, Any], wrong: dict[str, Any], param: str) -> None:
    check_chat(body(fine), SMALL)
    with pytest.raises(
        BadRequest, match=rf"'{param}' .* {getattr(SMALL, bound)} are taken .*limits\.{bound}`"
    ) as found:
        check_chat(body(wrong), SMALL)
    assert (found.value.code, found.value.param) == ("above_limit", param)


def test_every_bound_of_a_request_has_a_case() -> None:
    elsewhere = {"keys", "values"}  # test_weight.py
    assert {field.name for field in dataclasses.fields(Bounds)} == {case[0] for case in CASES} | elsewhere


def test_null_is_no_value() -> None:
    check_chat(body(dict.fromkeys(("n", "max_tokens", "stop", "tools", "response_format", "logit_bias"))), SMALL)
