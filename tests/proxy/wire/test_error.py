"""What the caller is told of a failure, class by class, and how a stream ends that failed in its middle."""

import json
from typing import Any

import pytest

from proxy.upstreams.base import Failed
from proxy.wire.error import CALLERS, TABLE, error_event, upstream_error
from proxy.wire.stream import Stream
from routes import failure

# The contract's table, written once more.
TOLD = {
    "connect": (502, "upstream_error", "upstream_connect"),
    "timeout": (504, "upstream_error", "upstream_timeout"),
    "rate_limited": (429, "rate_limit_error", "upstream_rate_limited"),
    "upstream_5xx": (502, "upstream_error", "upstream_5xx"),
    "bad_answer": (502, "upstream_error", "upstream_bad_answer"),
    "auth": (502, "upstream_error", "upstream_auth"),
    "check:json": (502, "upstream_error", "check_failed"),
}


def told(failed: Failed, retry_after: float | None = None) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    error = upstream_error(failed, retry_after)
    return error.http_status, error.body()["error"], dict(error.headers())


@pytest.mark.parametrize("kind", TOLD)
def test_each_class_has_its_status_type_and_code(kind: str) -> None:
    status, error, headers = told(Failed(kind, "why"))
    assert (status, error["type"], error["code"]) == TOLD[kind]
    assert (error["message"], error["param"]) == ("why", None)
    assert headers == {b"x-should-retry": b"false"}


def test_every_class_of_failure_is_in_one_of_the_two_tables() -> None:
    assert TABLE.keys() | CALLERS == set(failure.CLASSES)
    assert not TABLE.keys() & CALLERS


def test_only_a_rate_limit_says_when_to_come_back() -> None:
    assert told(Failed(failure.RATE_LIMITED, "why"), 7.0)[2][b"retry-after"] == b"7"
    assert b"retry-after" not in told(Failed(failure.UPSTREAM_5XX, "why"), 7.0)[2]


@pytest.mark.parametrize("kind", sorted(CALLERS))
def test_the_requests_own_fault_is_told_in_the_upstreams_words(kind: str) -> None:
    said = {"message": "too long", "type": "t", "param": "messages", "code": "context_length_exceeded"}
    status, error, _ = told(Failed(kind, "why", status=413, error=said))
    assert (status, error) == (413, said)


def test_what_the_upstream_did_not_say_is_filled_in() -> None:
    status, error, _ = told(Failed(failure.REQUEST, "why", error={"message": 7, "code": 400}))
    assert status == 400
    assert error == {"message": "why", "type": "invalid_request_error", "param": None, "code": "400"}


def test_the_last_event_of_a_broken_stream_is_a_chunk_with_an_error_and_no_done() -> None:
    stream = Stream("strong", usage_asked=False)
    stream.feed(b'data: {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n')
    error = upstream_error(Failed(failure.TIMEOUT, "why"), None).body()["error"]
    event = error_event(stream, error, "req_1", "support")
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    chunk = json.loads(event[6:])
    assert (chunk["id"], chunk["model"], chunk["object"]) == ("c-1", "m-1", "chat.completion.chunk")
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert chunk["error"]["code"] == "upstream_timeout"


def test_where_no_chunk_came_before_it_has_the_requests_own_id_and_model() -> None:
    for stream in (None, Stream("strong", usage_asked=False)):
        chunk = json.loads(error_event(stream, {"message": "why"}, "req_1", "support")[6:])
        assert (chunk["id"], chunk["model"], chunk["error"]) == ("req_1", "support", {"message": "why"})
