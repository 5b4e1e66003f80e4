"""The faults: each changes an answer's steps, or the bytes of a JSON body, or the usage it reports."""

import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import orjson

from proxy.standins.behaviour import Behaviour
from proxy.standins.steps import Cut, Head, Headers, Raw, Send, Stall, Step, Steps, Think


def reached(steps: Steps, after: str) -> Iterator[Step]:
    """Yield the steps up to the place `after` names: `request`, `head`, or a number of content events.

    A body in one piece gives its first half after the head. Leaves the rest in `steps`, for the caller to go on with
    or to drop.
    """
    if after == "request":
        return
    content = 0
    wanted = 0 if after == "head" else int(after)
    for step in steps:
        if type(step) is Send and step.content:
            content += 1
            if step.data[:1] == b"{":  # a JSON answer
                yield Send(step.data[: len(step.data) // 2], step.tokens)
                return
        yield step
        if type(step) is Head and after == "head":
            return
        if type(step) is Send and after != "head" and _last_before(step, content, wanted):
            return


def _last_before(step: Send, content: int, wanted: int) -> bool:
    return content >= wanted and (step.content or wanted == 0)


def reset(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "request"))
    yield Cut("rst")


def cut(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "0"))
    how = asked.text("how", "fin")
    if how != "end":
        yield Cut(how)


def stall(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "0"))
    while True:  # whatever wakes the connection, it goes on stalling
        yield Stall()


MALFORMED = {
    "json": b'data: {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": \n\n',
    "array": b"data: [1, 2]\n\n",
    "empty": b"data:\n\n",
    "utf8": b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}\n\n',
    "shape": b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":"none"}\n\n',
}


def malformed(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "1"))
    for _ in range(asked.count("count", 1)):
        yield Send(MALFORMED[asked.text("kind", "json")])
        yield from reached(steps, asked.text("every", "1"))
    yield from steps


ERRORS = {
    "openai": {"error": {"message": "The server had an error while processing your request. Sorry about that!",
                         "type": "server_error", "param": None, "code": None}},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
}  # fmt: skip


def error_event(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "head"))
    dialect = asked.text("dialect", "openai")
    yield Send(
        (b"event: error\n" if dialect == "anthropic" else b"") + b"data: " + orjson.dumps(ERRORS[dialect]) + b"\n\n"
    )


def wrong_type(steps: Steps, asked: Behaviour) -> Steps:
    return _with_headers(steps, lambda old: _replaced(old, "content-type", asked.text("type", "text/html")))


def huge_header(steps: Steps, asked: Behaviour) -> Steps:
    return _with_headers(steps, lambda old: (*old, ("x-huge", "h" * asked.count("size", 100_000))))


def _with_headers(steps: Steps, change: Callable[[Headers], Headers]) -> Steps:
    for step in steps:
        yield Head(step.status, change(step.headers), step.length) if type(step) is Head else step


def _replaced(headers: Headers, name: str, value: str) -> Headers:
    return (*((n, v) for n, v in headers if n != name), (name, value))


def compressed(steps: Steps, asked: Behaviour) -> Steps:
    pack = zlib.compressobj(wbits=31)
    for step in steps:
        if type(step) is Head:
            yield Head(step.status, (*step.headers, ("content-encoding", "gzip")), None)
        elif type(step) is Send:
            yield Send(pack.compress(step.data) + pack.flush(zlib.Z_SYNC_FLUSH), step.tokens, step.content)
        else:
            yield step
    yield Send(pack.flush())


def pings(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "head"))
    left = asked.count("count", -1)
    while left:
        yield Think(asked.number("every", 0.05))
        yield Send(b": ping\n\n")
        left -= 1
    yield from steps


def crlf(steps: Steps, asked: Behaviour) -> Steps:
    for step in steps:
        yield Send(step.data.replace(b"\n", b"\r\n"), step.tokens, step.content) if type(step) is Send else step


def joined(steps: Steps, asked: Behaviour) -> Steps:
    body: list[Send] = []
    for step in steps:
        if type(step) is Send:
            body.append(step)
        else:
            yield step
    yield Send(b"".join(step.data for step in body), sum(step.tokens for step in body), True)


_HUGE = (
    b'{"id":"chatcmpl-huge","object":"chat.completion.chunk","created":0,"model":"huge","choices":'
    b'[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]}'
)


def huge_line(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, "0")
    filler = b"x" * asked.count("size", 2_000_000)
    yield Send(b"data: " + _HUGE % filler + b"\n\n", 1, True)
    yield from steps


def bad_chunk(steps: Steps, asked: Behaviour) -> Steps:
    yield from reached(steps, asked.text("after", "1"))
    yield Raw(b"zz\r\nnot a chunk\r\n")
    yield Cut("fin")


def extra_bytes(steps: Steps, asked: Behaviour) -> Steps:
    return chain(steps, [Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra")])


def bytewise(steps: Steps, asked: Behaviour) -> Steps:
    return _trickled(steps, 1, lambda size: 1e-6)


def slow(steps: Steps, asked: Behaviour) -> Steps:
    rate = asked.number("rate", 200)
    return _trickled(steps, max(1, round(rate / 20)), lambda size: size / rate)


def _trickled(steps: Steps, most: int, wait: Callable[[int], float]) -> Steps:
    """Write at most so many bytes at a time, each piece in a segment of its own, and wait after it."""
    for step in steps:
        if not isinstance(step, Send | Raw):
            yield step
            continue
        for at in range(0, len(step.data), most):
            piece = step.data[at : at + most]
            yield Raw(piece, step.status if isinstance(step, Raw) else None)
            yield Think(wait(len(piece)))
        if isinstance(step, Send):
            yield Send(b"", step.tokens, step.content)


Fault = Callable[[Steps, Behaviour], Steps]

# On the answer's steps, before framing.
STEPS: dict[str, Fault] = {
    "reset": reset,
    "cut": cut,
    "stall": stall,
    "malformed": malformed,
    "error-event": error_event,
    "wrong-type": wrong_type,
    "huge-header": huge_header,
    "gzip": compressed,
    "pings": pings,
    "crlf": crlf,
    "joined": joined,
    "huge-line": huge_line,
    "bad-chunk": bad_chunk,
}

# Those that mean nothing for an answer in one piece; `plan.json_answer` has its own `malformed` and `error-event`.
STREAM_ONLY = frozenset({"malformed", "error-event", "pings", "joined", "huge-line", "crlf"})

# On the bytes of the wire.
WIRE: dict[str, Fault] = {"bytewise": bytewise, "slow": slow, "extra-bytes": extra_bytes}


def reported(usage: dict[str, Any], asked: Behaviour) -> Any:
    """The usage object as a faulty server reports it; None: not at all."""
    if asked.fault == "no-usage":
        return None
    if asked.fault != "usage":
        return usage
    kind = asked.text("kind", "negative")
    if kind == "null":
        return {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
    if kind == "cached":
        return {**usage, "prompt_tokens_details": {"cached_tokens": usage["prompt_tokens"] + 100, "audio_tokens": 0}}
    odd = {"negative": -7, "huge": 10**15, "text": "12", "float": 12.5}[kind]
    return {**usage, "prompt_tokens": odd, "completion_tokens": odd, "total_tokens": odd}
