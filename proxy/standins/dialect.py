"""OpenAI's wire format: completions, chunks, models and errors as bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import orjson

from proxy.standins.answer import Answer, Choice, ToolCall
from proxy.standins.tokens import count

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all chunks of an answer share."""

    id: str
    created: int
    model: str
    fingerprint: str
    tier: str | None

    def fields(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": self.tier,
            "system_fingerprint": self.fingerprint,
        }


class Event(NamedTuple):
    data: bytes  # a whole SSE event
    tokens: int = 0
    kind: str = "content"  # content, role, finish, usage, done


def completion(envelope: Envelope, answer: Answer, usage: Any) -> bytes:
    """The whole answer as JSON; `usage` None leaves it out."""
    body = envelope.fields("chat.completion")
    body["choices"] = [
        {"index": index, "message": _message(choice), "logprobs": None, "finish_reason": choice.finish}
        for index, choice in enumerate(answer.choices)
    ]
    if usage is not None:
        body["usage"] = usage
    return orjson.dumps(body)


def _message(choice: Choice) -> dict[str, Any]:
    content = None if choice.calls else "".join(choice.content)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if choice.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for call in choice.calls
        ]
    return message


class Chunks:
    """Builds events by putting deltas between two constant halves: a stream costs no JSON object per token."""

    def __init__(self, envelope: Envelope, include_usage: bool) -> None:
        self._fields = envelope.fields("chat.completion.chunk")
        self._start = b"data: " + orjson.dumps(self._fields)[:-1] + b',"choices":['
        self._end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def delta(self, index: int, delta: bytes, finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}%b' % (
            self._start,
            index,
            delta,
            finish,
            self._end,
        )

    def usage(self, usage: Any) -> bytes:
        return b"data: " + orjson.dumps({**self._fields, "choices": [], "usage": usage}) + b"\n\n"


def events(chunks: Chunks, answer: Answer) -> Iterator[Event]:
    """The answer's events in OpenAI's order, up to the finish chunks; several choices take turns."""
    for index, choice in enumerate(answer.choices):
        first = b'{"role":"assistant","content":%b,"refusal":null}' % (b"null" if choice.calls else b'""')
        yield Event(chunks.delta(index, first), kind="role")
    for turn in zip_longest(*(_deltas(choice) for choice in answer.choices)):
        for index, step in enumerate(turn):
            if step is not None:
                yield Event(chunks.delta(index, step[0]), step[1])
    for index, choice in enumerate(answer.choices):
        yield Event(chunks.delta(index, b"{}", b'"%b"' % choice.finish.encode()), kind="finish")


def _deltas(choice: Choice) -> Iterator[tuple[bytes, int]]:
    for piece in choice.content:
        yield b'{"content":%b}' % orjson.dumps(piece), 1
    for index, call in enumerate(choice.calls):
        yield _opening(index, call), count(call.name)
        for piece in call.arguments:
            yield b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, orjson.dumps(piece)), 1


def _opening(index: int, call: ToolCall) -> bytes:
    function = {"name": call.name, "arguments": ""}
    return orjson.dumps({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})


def models(names: list[str], created: int) -> bytes:
    data = [{"id": name, "object": "model", "created": created, "owned_by": "standin"} for name in names]
    return orjson.dumps({"object": "list", "data": data})


def error(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"error": fields}, option=orjson.OPT_INDENT_2)
