"""Errors as callers see them: OpenAI's shape, always, and the statuses of the contract's table."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.errors import PointsmanError, UpstreamError
from proxy.exchange import Exchange, encode
from proxy.upstreams.base import Failed
from routes import failure

if TYPE_CHECKING:
    from proxy.wire.stream import Stream

UPSTREAM: Final = "upstream_error"
# class -> status, type, code
TABLE: Final[Mapping[str, tuple[int, str, str]]] = {
    failure.CONNECT: (502, UPSTREAM, "upstream_connect"),
    failure.TIMEOUT: (504, UPSTREAM, "upstream_timeout"),
    failure.RATE_LIMITED: (429, "rate_limit_error", "upstream_rate_limited"),
    failure.UPSTREAM_5XX: (502, UPSTREAM, "upstream_5xx"),
    failure.BAD_ANSWER: (502, UPSTREAM, "upstream_bad_answer"),
    failure.AUTH: (502, UPSTREAM, "upstream_auth"),
}
CALLERS: Final = frozenset({failure.CONTEXT_LENGTH, failure.CONTENT_FILTER, failure.REQUEST})


def upstream_error(failed: Failed, retry_after: float | None) -> UpstreamError:
    """What the caller is told when our own tries are spent. `retry_after`: the smallest that any attempt was told."""
    if failed.failure in TABLE:
        status, kind, code = TABLE[failed.failure]
        wait = retry_after if failed.failure == failure.RATE_LIMITED else None
        return UpstreamError(failed.message, status=status, type=kind, code=code, retry_after=wait)
    if failed.failure in CALLERS:  # the request itself is at fault: the upstream's own words, secrets removed
        error = failed.error or {}
        return UpstreamError(
            text(error.get("message")) or failed.message,
            status=failed.status or 400,
            type=text(error.get("type")) or "invalid_request_error",
            code=text(error.get("code")) or number(error.get("code")),
            param=text(error.get("param")),
        )
    return UpstreamError(failed.message, status=502, type=UPSTREAM, code="check_failed")  # check:NAME


def text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def number(value: object) -> str | None:
    """A code that is a number (vLLM's are), as the text that OpenAI's clients expect."""
    return str(value) if type(value) is int else None


def reply_error(exchange: Exchange, request_id: str, error: PointsmanError, named: bytes = b"") -> None:
    """Answer with an error. `named`: the header lines of a decided request."""
    lines = encode([(b"content-type", b"application/json"), (b"x-request-id", request_id.encode()), *error.headers()])
    exchange.reply(error.http_status, lines + named, orjson.dumps(error.body()))


def error_event(stream: "Stream | None", error: Mapping[str, Any], request_id: str, asked: str) -> bytes:
    """The last event of a stream that failed once its status was out: no `[DONE]` follows.

    Where no chunk has come before it, it has the request's own id and the model that was asked for.
    """
    event = {
        "id": (stream and stream.id) or request_id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": (stream and stream.model) or asked,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
        "error": error,
    }
    return b"data: " + orjson.dumps(event) + b"\n\n"
