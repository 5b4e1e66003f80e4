"""What goes over the wire: a 325-byte chat request, an 844-byte answer, a stream of 203 events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

REQUEST_BYTES = 325
ANSWER_BYTES = 844
BURST_WORDS = 199  # with the role, the finish, the usage and [DONE]: 203 events
AROUND_WORDS = 4  # the events of a stream that carry no word
PACED_WORDS = 150
PACE_S = 0.020

TEXT = (
    "Your order left our warehouse this morning and should arrive within two working days. "
    "The tracking link in your account shows each stop on the way. If nobody is home, the courier "
    "leaves a card and tries again on the next day. "
)
LAST_WORDS = "Anything else?"  # closes every answer, so that a cut one is noticed
DONE = b"data: [DONE]\n\n"


def _words(count: int) -> Iterator[str]:
    return islice(cycle(TEXT.split()), count)


def _usage(completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 61,
        "completion_tokens": completion,
        "total_tokens": 61 + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def request(model: str, *, stream: bool = False) -> bytes:
    """A chat request of `REQUEST_BYTES`, whatever the length of the model's name."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": ""}]}
    body |= {"temperature": 0.2, "max_tokens": 256, "user": "customer-4711"}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    room = REQUEST_BYTES - len(json.dumps(body))
    body["messages"][0]["content"] = "Where is my order? I have been waiting for it since Monday. ".ljust(room, "x")[
        :room
    ]
    return json.dumps(body).encode()


def answer() -> bytes:
    """A chat completion of `ANSWER_BYTES`, with usage."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    body = {
        "id": "chatcmpl-CfPq2hZx8Jm0VbW1nT5rK7sY3dL9a",
        "object": "chat.completion",
        "created": 1795297200,
        "model": "stand-in-2026-11-01",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(64),
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }
    room = ANSWER_BYTES - len(json.dumps(body)) - len(LAST_WORDS)
    message["content"] = " ".join(_words(200))[:room].ljust(room) + LAST_WORDS
    return json.dumps(body).encode()


def events(words: int) -> list[bytes]:
    """The events of one streamed answer of so many words: role, words, finish, usage, [DONE]."""
    head = {
        "id": "chatcmpl-CfPq2hZx8Jm0VbW1nT5rK7sY3dL9a",
        "object": "chat.completion.chunk",
        "created": 1795297200,
        "model": "stand-in-2026-11-01",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(head | {"choices": [choice], "usage": None})

    spoken = [*(f"{word} " for word in _words(words - 1)), LAST_WORDS]
    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chunk({"content": word}) for word in spoken),
        chunk({}, "stop"),
        _event(head | {"choices": [], "usage": _usage(words)}),
        DONE,
    ]


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


@dataclass(frozen=True)
class Expect:
    """How an answer is known to be whole and right."""

    words: int | None  # of a stream; None for the JSON answer
    rewritten: bool = False  # this proxy rebuilds answers: sizes and counts of events are its own

    def fault(self, status: int, body: bytes) -> str | None:
        """Why this answer is wrong, or None. Cheap: done on every answer."""
        if status != 200:
            return f"status {status}: {body[:200].decode(errors='replace')}"
        ending = b"}" if self.words is None else DONE.rstrip()
        if not body.rstrip().endswith(ending):
            return f"cut short: it ends with {body[-40:].decode(errors='replace')!r}"
        if LAST_WORDS.encode() not in body:
            return "its last words are missing"
        if self.rewritten:
            return None
        if self.words is None:
            return None if len(body) == ANSWER_BYTES else f"{len(body)} bytes where {ANSWER_BYTES} were sent"
        sent, seen = self.words + AROUND_WORDS, body.count(b"data: ")
        return None if seen == sent else f"{seen} events where {sent} were sent"

    def deep_fault(self, body: bytes) -> str | None:
        """As `fault`, from the text that a client would show: done on one answer of each connection pool."""
        if self.words is None:
            said, sent = text_of_answer(body), text_of_answer(answer())
        else:
            said, sent = text_of_stream(body), text_of_stream(b"".join(events(self.words)))
        return None if said == sent else f"it says {said[-60:]!r} where {sent[-60:]!r} was sent"


def text_of_answer(body: bytes) -> str:
    content: str = json.loads(body)["choices"][0]["message"]["content"]
    return content


def text_of_stream(body: bytes) -> str:
    """What a client would show: the content deltas, joined."""
    text = ""
    for line in body.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                text += choice["delta"].get("content") or ""
    return text
