"""What a stand-in answers: text or tool calls, token by token, and what they cost. Pure: a function of the request.

The text depends on the persona, the seed and the request alone, so a test can compute it again; only the prompt
cache remembers earlier requests, and waits depend on the order of arrival.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import orjson

from proxy.standins import intents
from proxy.standins.persona import Persona
from proxy.standins.request import ChatRequest, text_of
from proxy.standins.schema import fill
from proxy.standins.tokens import pieces


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: tuple[str, ...]  # tokens of the JSON text; the name costs its own


@dataclass(frozen=True, slots=True)
class Choice:
    content: tuple[str, ...] = ()  # tokens
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"

    @property
    def tokens(self) -> int:
        return len(self.content) + sum(len(pieces(call.name)) + len(call.arguments) for call in self.calls)


@dataclass(frozen=True, slots=True)
class Answer:
    choices: tuple[Choice, ...]
    prompt: int  # tokens, cached ones included
    cached: int = 0
    reasoning: int = 0  # before the first choice's content; a part of `completion`

    @property
    def completion(self) -> int:
        return self.reasoning + sum(choice.tokens for choice in self.choices)

    def usage(self, details: bool = True) -> dict[str, Any]:
        """OpenAI's usage object; without `details`, as servers send it that do not tell kinds apart."""
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
        if not details:
            return {**counts, "prompt_tokens_details": None}
        return {
            **counts,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def draw(seed: int, *of: str) -> float:
    """A number in [0, 1) that depends on nothing else: the stand-ins' only chance."""
    digest = hashlib.blake2b("\0".join((str(seed), *of)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def compose(
    request: ChatRequest, persona: Persona, seed: int, prompt: int, cached: int, length: int | None = None
) -> Answer:
    """Answer a request whose prompt has these token counts; `length` asks for so many tokens of filler instead."""
    text = request.user_text
    reasoning = 0
    if draw(seed, persona.name, "reasons", text) < persona.reasons and length is None:
        reasoning = 64 * (1 + int(3 * draw(seed, persona.name, "reasoning", text)))
    if request.limit is not None:
        reasoning = min(reasoning, request.limit)
    left = None if request.limit is None else request.limit - reasoning
    choice = _choice(request, persona, seed, text, left, length)
    return Answer((choice,) * request.n, prompt, cached, reasoning)


def _choice(
    request: ChatRequest, persona: Persona, seed: int, text: str, limit: int | None, length: int | None
) -> Choice:
    if length is not None:
        return _cut(tuple(islice(_FILLER, length)), limit, "stop")
    if request.tools and (request.must_call or request.messages[-1]["role"] == "user"):
        return Choice(calls=_calls(request, seed, text), finish="tool_calls")
    content = _content(request, persona, seed, text)
    ends = [at for stop in request.stop if stop and (at := content.find(stop)) >= 0]
    return _cut(pieces(content[: min(ends)] if ends else content), limit, "stop")


def _cut(content: tuple[str, ...], limit: int | None, finish: str) -> Choice:
    if limit is not None and len(content) > limit:
        return Choice(content[:limit], finish="length")
    return Choice(content, finish=finish)


def _content(request: ChatRequest, persona: Persona, seed: int, text: str) -> str:
    found = intents.classify(text)
    if draw(seed, persona.name, "slips", text) < persona.slips:
        found["intent"] = intents.slip(str(found["intent"]))
    if request.format == "json_schema":
        return orjson.dumps(fill(request.schema or {}, found)).decode()
    if request.format == "text" and persona.needs_prompt and not asks_for_json(request.messages):
        return intents.prose(found)
    return orjson.dumps(found).decode()


def asks_for_json(messages: list[dict[str, Any]]) -> bool:
    """Whether a system message names the task: JSON and intents."""
    for message in messages:
        if message["role"] in ("system", "developer"):
            text = text_of(message).lower()
            if "json" in text and "intent" in text:
                return True
    return False


def _calls(request: ChatRequest, seed: int, text: str) -> tuple[ToolCall, ...]:
    """The first tool, once for each order the message names (at most three), else once."""
    tool = request.tools[0]
    orders: list[str | None] = [*intents.orders(text)[:3]] or [None]
    if request.body.get("parallel_tool_calls") is False:
        orders = orders[:1]
    return tuple(
        _call(tool, {**intents.classify(text), "order_id": order}, f"{seed}/{text}/{n}")
        for n, order in enumerate(orders)
    )


def _call(tool: Mapping[str, Any], known: Mapping[str, Any], of: str) -> ToolCall:
    arguments = orjson.dumps(fill(tool.get("parameters") or {}, known)).decode()
    digest = hashlib.blake2b(of.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return ToolCall(f"call_{digest}", tool["name"], pieces(arguments))


_FILLER = tuple(
    islice((word for _ in repeat(None) for word in (" the", " parcel", " is", " on", " its", " way")), 100_000)
)
