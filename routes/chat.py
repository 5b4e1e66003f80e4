"""What a route does to a chat request: its prompt around the caller's messages, its parameters over the caller's.

Pure: what comes in is never changed. Values may be shared between the result and the caller's body or the prompt, so
whoever changes a body later replaces values instead of changing them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from routes.params import apply_all
from routes.prompt import SYSTEM, Message, Prompt

if TYPE_CHECKING:
    from routes.route import Ask, Route


class Unencodable(ValueError):
    """A body cannot be written as JSON: integers over 64 bits, lone surrogates, over 250 levels."""


def compose(ask: "Ask", route: "Route") -> dict[str, Any]:
    """Return the body to send: a fresh dict without `model`, which is the endpoint's.

    `stream_options` are still the caller's (`with_stream_usage` changes them). A message's `content` may be an
    `orjson.Fragment`. Requests without `messages` (completions, embeddings) get parameters but no prompt.
    Raises `routes.prompt.RenderError`, or `Unencodable` for a lone surrogate in the caller's system text.
    """
    body = dict(ask.body)
    body.pop("model", None)
    if "messages" in body:
        body["messages"] = ask.messages
        if route.prompt is not None and not ask.untouched:
            body["messages"] = _around(route.prompt, ask, route.caller_system)
    if route.params:
        apply_all(route.params, body)
    return body


def _around(prompt: Prompt, ask: "Ask", caller_system: str) -> list[Any]:
    """Return the prompt's messages with the caller's where `input` stands."""
    own = list(prompt.render(ask.variables))
    callers = ask.messages
    if caller_system != "keep" and (count := _leading_system(callers)):
        if caller_system == "drop":
            callers = callers[count:]
        else:
            at = next((at for at, message in enumerate(prompt.messages) if message.role in SYSTEM), None)
            if at is not None:
                message = prompt.messages[at]
                content = _merged(prompt, message, ask.variables, callers[:count])
                own[at] = {"role": message.role, "content": content}
                callers = callers[count:]
    at = prompt.input_at
    return [*own[:at], *callers, *own[at:]]


def _leading_system(messages: list[Any]) -> int:
    """Return how many system messages the caller begins with; the model may refuse a malformed one."""
    count = 0
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in SYSTEM:
            break
        if not isinstance(message.get("content"), str | list):
            break
        count += 1
    return count


def _merged(prompt: Prompt, message: Message, variables: Mapping[str, Any], callers: list[Any]) -> Any:
    """Return the content of the prompt's message with the callers' text appended, a blank line between.

    Parts that are not text follow it. A static text is not encoded again.
    """
    texts, others = _texts(callers)
    if message.encoded is not None and not others:
        return orjson.Fragment(message.encoded[:-1] + encode("".join("\n\n" + text for text in texts))[1:])
    text = "\n\n".join([prompt.text(message, variables), *texts])
    return [{"type": "text", "text": text}, *others] if others else text


def _texts(messages: list[dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """Return the messages' texts that are not blank, and their parts of other kinds."""
    texts, others = [], []
    for message in messages:
        content = message["content"]
        for part in [content] if isinstance(content, str) else content:
            text = part if isinstance(part, str) else part_text(part)
            if text is None:
                others.append(part)
            elif text.strip():
                texts.append(text)
    return texts, others


def part_text(part: Any) -> str | None:
    """Return the text of a content part, None for any other kind."""
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    return text if isinstance(text, str) else None


def with_stream_usage(body: dict[str, Any]) -> bool:
    """Have a stream report its usage; return whether the caller had asked for that.

    Changes `body`, which must be the attempt's own. Bodies that do not stream stay as they are.
    """
    if body.get("stream") is not True:
        return False
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    asked = options.get("include_usage") is True
    if not asked:
        body["stream_options"] = {**options, "include_usage": True}
    return asked


def encode(body: Any) -> bytes:
    """Return a body as JSON bytes. Raises `Unencodable`."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise Unencodable(f"the request cannot be written as JSON: {error}") from error
