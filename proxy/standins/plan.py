"""From an answer to steps: when what is sent, faults included."""

from dataclasses import dataclass

import orjson

from proxy.standins import dialect, faults
from proxy.standins.answer import Answer
from proxy.standins.behaviour import Behaviour
from proxy.standins.dialect import Chunks, Envelope
from proxy.standins.persona import Latency
from proxy.standins.steps import Head, Headers, Note, Send, Steps, Think, framed

JSON_HEAD: Headers = (("content-type", "application/json"),)
SSE_HEAD: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, drawn for one request."""

    first: float  # to the first token, reasoning not counted
    each: float  # between tokens

    @classmethod
    def of(cls, latency: Latency, u: float, uncached: int, asked: Behaviour) -> "Pace":
        factor = latency.factor(u)
        first = asked.number("ttft", latency.before_first(uncached, factor))
        return cls(first, asked.number("pace", latency.per_token * factor))


def json_answer(
    envelope: Envelope, answer: Answer, usage: object, pace: Pace, asked: Behaviour, headers: Headers
) -> Steps:
    body = dialect.completion(envelope, answer, usage)
    match asked.fault:
        case "error-json" | "error-event":
            body = orjson.dumps(faults.ERRORS[asked.text("dialect", "openai")])
            usage = None
        case "truncated":
            body = body[: len(body) // 2]
        case "malformed":
            body = MALFORMED_BODIES[asked.text("kind", "json")]
    yield Think(pace.first + pace.each * answer.completion, answer.completion)
    yield Head(200, (*JSON_HEAD, *headers), len(body) if asked.fault != "gzip" else None)
    yield Note(usage)
    yield Send(body, content=True)


MALFORMED_BODIES = {
    "json": b'{"id": "chatcmpl-1", "choices": [{"index": 0,',
    "array": b"[1, 2]",
    "empty": b"",
    "utf8": b'{"id": "chatcmpl-1", "choices": "\xff\xfe"}',
    "shape": b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": "none"}',
}


def stream(
    envelope: Envelope,
    answer: Answer,
    usage: object,
    include_usage: bool,
    pace: Pace,
    asked: Behaviour,
    headers: Headers,
) -> Steps:
    yield Think(pace.first + pace.each * answer.reasoning, answer.reasoning)
    if asked.fault == "error-json":
        yield from error_under_200(asked, headers)
        return
    yield Head(200, (*SSE_HEAD, *headers))
    chunks = Chunks(envelope, include_usage)
    each = pace.each
    for event in dialect.events(chunks, answer):
        if event.kind == "finish" and asked.fault == "no-finish":
            continue
        if event.tokens and each:
            yield Think(each * event.tokens)
        yield Send(event.data, event.tokens, event.kind == "content")
    if include_usage and usage is not None:
        yield Note(usage)
        yield Send(chunks.usage(usage))
    if asked.fault != "no-done":
        yield Send(dialect.DONE)


def error_under_200(asked: Behaviour, headers: Headers) -> Steps:
    body = orjson.dumps(faults.ERRORS[asked.text("dialect", "openai")])
    yield Head(200, (*JSON_HEAD, *headers), len(body))
    yield Send(body)


STATUS_BODIES = {
    "html": ("text/html", b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
    "empty": ("", b""),
    "garbage": ("application/json", b'{"error": {"mess\xff'),
    "text": ("text/plain", b"upstream connect error or disconnect/reset before headers"),
    "array": ("application/json", b"[]"),
    "anthropic": ("application/json", orjson.dumps(faults.ERRORS["anthropic"])),
}

# status -> message, type, code: what OpenAI says
STATUS_ERRORS = {
    400: ("Invalid request.", "invalid_request_error", None),
    401: ("Incorrect API key provided: sk-stan****tkey.", "invalid_request_error", "invalid_api_key"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests per min (RPM). Please try again.", "requests", "rate_limit_exceeded"),
    503: ("The engine is currently overloaded, please try again later", "server_error", None),
}


def status_answer(asked: Behaviour, headers: Headers) -> Steps:
    """An HTTP error, or any other status, with a body of the asked kind."""
    status = asked.count("status", 500)
    kind = asked.text("body", "openai")
    if kind == "openai":
        message, type_, code = STATUS_ERRORS.get(status, ("The server had an error.", "server_error", None))
        fields = {
            "message": message,
            "type": asked.text("type", type_),
            "param": None,
            "code": asked.options.get("code", code),
        }
        media, body = "application/json", dialect.error(fields)
    else:
        media, body = STATUS_BODIES[kind]
    found = [("content-type", media)] if media else []
    found += [(name, asked.options[name]) for name in ("retry-after", "retry-after-ms") if name in asked.options]
    yield Head(status, (*found, *headers), len(body))
    yield Send(body)


def plain(status: int, body: bytes, headers: Headers = (), media: str = "application/json") -> Steps:
    yield Head(status, (("content-type", media), *headers), len(body))
    yield Send(body)


def faulty(steps: Steps, asked: Behaviour, streamed: bool, close: bool) -> Steps:
    """Frame the steps for the wire, with the asked fault worked in."""
    fault = asked.fault
    if fault in faults.STEPS and (streamed or fault not in faults.STREAM_ONLY):
        steps = faults.STEPS[fault](steps, asked)
    steps = framed(steps, close)
    if fault in faults.WIRE:
        steps = faults.WIRE[fault](steps, asked)
    return steps
