"""Vendors' errors, as they send them, and the classes they mean."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.classify import DEFAULT_WAIT, LONGEST_WAIT, classify, from_error_object, retry_after
from routes import failure


def openai(message: str, type: str | None = None, param: str | None = None, code: Any = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": type, "param": param, "code": code}}).encode()


def anthropic(type: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": type, "message": message}}).encode()


AZURE_FILTER = json.dumps(
    {
        "error": {
            "message": "The response was filtered due to the prompt triggering our policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
        }
    }
).encode()
AZURE_INNER = json.dumps(
    {"error": {"message": "Refused.", "code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
).encode()
MAXIMUM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
INPUT_LIMIT = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"
SERVER_CONTEXT = "The request exceeds the available context size (4096 tokens)"
GEMINI = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, openai("Rate limit reached", "requests", code="rate_limit_exceeded"), "rate_limited"),
        (429, openai("You exceeded your quota", "insufficient_quota", code="insufficient_quota"), "rate_limited"),
        (429, b"", "rate_limited"),
        (401, openai("Incorrect API key provided: sk-abcdef123", code="invalid_api_key"), "auth"),
        (403, anthropic("permission_error", "Your key may not use this model"), "auth"),
        (408, b"", "timeout"),
        (500, openai("The server had an error", "server_error"), "upstream_5xx"),
        (502, b"<html><body>Bad gateway</body></html>", "upstream_5xx"),
        (529, anthropic("overloaded_error", "Overloaded"), "upstream_5xx"),
        (400, openai("Overloaded", code="server_is_overloaded"), "upstream_5xx"),
        (400, openai(MAXIMUM, "invalid_request_error", "messages", "context_length_exceeded"), "context_length"),
        (400, json.dumps({"object": "error", "message": MAXIMUM, "type": "BadRequestError", "code": 400}).encode(),
         "context_length"),
        (400, anthropic("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
         "context_length"),
        (400, anthropic("invalid_request_error", INPUT_LIMIT), "context_length"),
        (400, openai(SERVER_CONTEXT, "exceed_context_size_error", code=400), "context_length"),
        (400, json.dumps([{"error": {"code": 400, "message": GEMINI, "status": "INVALID_ARGUMENT"}}]).encode(),
         "context_length"),
        (422, json.dumps({"error": "Input error: `inputs` tokens + `max_new_tokens` must be <= 4096"}).encode(),
         "context_length"),
        (413, anthropic("request_too_large", "Request exceeds the maximum size"), "request"),
        (400, AZURE_FILTER, "content_filter"),
        (400, AZURE_INNER, "content_filter"),
        (400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), "content_filter"),
        (400, openai("bad", code="content_policy_violation"), "content_filter"),
        (404, openai("The model `x` does not exist", "invalid_request_error", code="model_not_found"), "request"),
        (400, openai("max_tokens is too large", "invalid_request_error", "max_tokens"), "request"),
        (422, b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "request"),
        (409, b"", "request"),
        (400, b"[" * 100_000, "request"),
        (302, b"", "bad_answer"),
        (200, b"not json", "bad_answer"),
    ],
)  # fmt: skip
def test_a_status_and_a_body_mean_a_class(status: int, body: bytes, kind: str) -> None:
    failed = classify(status, {}, body, model="strong")
    assert (failed.failure, failed.status) == (kind, status)
    assert failed.message
    assert "sk-abcdef123" not in failed.message


def test_a_callers_mistake_keeps_the_four_fields_less_secrets() -> None:
    body = openai("no tool 'x' for key hunter2-hunter2", "invalid_request_error", "tools", "unknown_tool")
    failed = classify(400, {}, body, model="strong", secrets=["hunter2-hunter2"])
    assert failed.error == {
        "message": "no tool 'x' for key ***",
        "type": "invalid_request_error",
        "param": "tools",
        "code": "unknown_tool",
    }
    assert failed.message == "no tool 'x' for key ***"


def test_other_classes_name_model_and_status() -> None:
    failed = classify(503, {b"retry-after": b"7"}, openai("try later"), model="strong")
    assert failed.message == "model 'strong' answered 503: try later"
    assert (failed.retry_after, failed.error) == (7.0, None)


def test_a_page_becomes_a_short_line() -> None:
    page = b"<html><head><style>p {}</style></head><body><h1>502\x00 Bad\nGateway</h1>" + b"<p>x" * 9999
    message = classify(502, {}, page, model="strong").message
    assert message.startswith("model 'strong' answered 502: 502 Bad Gateway x x")
    assert len(message) < 400
    assert message.isprintable()


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "upstream_5xx", 503),
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limited", 429),
        ({"code": "insufficient_quota", "message": "broke"}, "rate_limited", 429),
        ({"type": "authentication_error", "message": "who"}, "auth", 401),
        ({"code": 502, "message": "Provider returned error"}, "upstream_5xx", 502),
        ({"code": "429", "message": "Provider returned error"}, "rate_limited", 429),
        ({"code": "context_length_exceeded", "message": "long"}, "context_length", 400),
        ({"code": "content_filter", "message": "no"}, "content_filter", 400),
        ({"type": "invalid_request_error", "message": MAXIMUM}, "context_length", 400),
        ({"message": "something"}, "upstream_5xx", 500),
        ("just text", "upstream_5xx", 500),
        (None, "upstream_5xx", 500),
    ],
)
def test_an_error_under_200_is_judged_by_its_words(error: object, kind: str, status: int) -> None:
    failed = from_error_object(error, model="strong")
    assert (failed.failure, failed.status) == (kind, status)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "innererror", "detail", "param"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(st.integers(100, 999), json_values)
def test_any_json_is_some_class(status: int, value: object) -> None:
    for failed in (
        classify(status, {}, json.dumps(value).encode(), model="m"),
        from_error_object(value, model="m"),
    ):
        assert failed.failure in failure.CLASSES
        assert (failed.error is not None) == (failed.failure in ("context_length", "content_filter", "request"))


@given(st.integers(100, 999), st.binary(max_size=500))
def test_any_bytes_are_some_class(status: int, body: bytes) -> None:
    assert classify(status, {}, body, model="m").failure in failure.CLASSES


NOW = 1_795_262_400.0  # Sat, 21 Nov 2026 12:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b" 1.5 "}, 1.5),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after": b"-1"}, 0.0),
        ({b"retry-after": b"1e9"}, LONGEST_WAIT),
        ({b"retry-after": b"inf"}, LONGEST_WAIT),
        ({b"retry-after": b"nan"}, DEFAULT_WAIT),
        ({b"retry-after": b"abc"}, DEFAULT_WAIT),
        ({b"retry-after": b""}, DEFAULT_WAIT),
        ({b"retry-after": b"\xff"}, DEFAULT_WAIT),
        ({b"retry-after-ms": b"x"}, DEFAULT_WAIT),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({b"retry-after": b"Sat, 21 Nov 2099 11:00:00 GMT"}, LONGEST_WAIT),
        ({b"retry-after": b"Sat, 99 Nov 9999 99:00:00 GMT"}, DEFAULT_WAIT),
    ],
)
def test_how_long_to_wait(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds
