"""What must be known of an answer: its usage, model, text size and whether it is an answer at all. No I/O."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.upstreams.base import Failed
from routes import failure
from routes.value import value

# The delta and message fields that hold generated text, by any vendor's name.
TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class ErrorObject(Exception):
    """An error came where an answer should be: under 200, or as an event. What it means is for the caller to say."""

    def __init__(self, error: object, after_content: bool = False) -> None:
        super().__init__("an error object in place of an answer")
        self.error = error
        self.after_content = after_content  # a part of the answer had come, and was paid for


@value
class Answer:
    usage: Mapping[str, Any] | None
    model: str | None
    characters: int  # of everything generated that we can see


def read(data: bytes, model: str) -> Answer:
    """Read a chat completion. Raises `Failed` (`bad_answer`), in words that name `model`; or `ErrorObject`."""
    try:
        answer = orjson.loads(data)
    except ValueError:
        raise Failed(failure.BAD_ANSWER, f"model '{model}' answered something that is not JSON") from None
    if type(answer) is not dict:
        raise Failed(failure.BAD_ANSWER, f"model '{model}' answered JSON that is not an object")
    if answer.get("error"):
        raise ErrorObject(answer["error"])
    choices = answer.get("choices")
    if type(choices) is not list or not choices or type(choices[0]) is not dict:
        raise Failed(failure.BAD_ANSWER, f"model '{model}' answered JSON without choices")
    usage, name = answer.get("usage"), answer.get("model")
    characters = 0
    for choice in choices:
        if type(choice) is dict:
            characters += size(choice.get("message"))
    return Answer(usage if type(usage) is dict else None, name if type(name) is str else None, characters)


def size(message: Any) -> int:
    """Characters generated in a message or delta: text, reasoning, refusal and tool calls."""
    if type(message) is not dict:
        return 0
    count = 0
    for field in TEXTS:
        text = message.get(field)
        if type(text) is str:
            count += len(text)
    if message.get("tool_calls") or message.get("function_call"):
        count += tool_size(message)
    return count


def tool_size(message: Mapping[str, Any]) -> int:
    calls = message.get("tool_calls")
    called = [message.get("function_call")]
    for call in calls if type(calls) is list else ():
        if type(call) is dict:
            called += (call.get("function"), call.get("custom"))
    count = 0
    for tool in called:
        if type(tool) is dict:
            count += sum(len(tool[key]) for key in ("name", "arguments", "input") if type(tool.get(key)) is str)
    return count
