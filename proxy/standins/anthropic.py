"""Anthropic's Messages API, small: requests become chat requests, answers are rendered in Anthropic's words.

The same stand-in serves it at `/v1/messages`, so personas, faults and the journal are the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from proxy.standins import faults
from proxy.standins.answer import Answer
from proxy.standins.behaviour import Behaviour
from proxy.standins.dialect import Envelope
from proxy.standins.persona import Persona
from proxy.standins.plan import JSON_HEAD, SSE_HEAD, Pace
from proxy.standins.request import ChatRequest, Refused
from proxy.standins.request import read as read_chat
from proxy.standins.steps import Head, Headers, Note, Send, Steps, Think

PARAMETERS = frozenset({
    "cache_control", "container", "context_management", "max_tokens", "messages", "metadata", "model",
    "output_config", "output_format", "service_tier", "stop_sequences", "stream", "system", "temperature", "thinking",
    "tool_choice", "tools", "top_k", "top_p",
})  # fmt: skip

_FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}  # fmt: skip


def error(status: int, message: str) -> bytes:
    kind = _TYPES.get(status, "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def read(body: Mapping[str, Any], persona: Persona) -> ChatRequest:
    """Check the body and translate it. Raises `Refused`."""
    for name in body:
        if name not in PARAMETERS:
            raise Refused(f"{name}: Extra inputs are not permitted")
    for name in ("max_tokens", "messages"):
        if name not in body:
            raise Refused(f"{name}: Field required")
    chat: dict[str, Any] = {
        "model": body["model"],
        "messages": list(_messages(body)),
        "max_completion_tokens": body["max_tokens"],
        "stream": body.get("stream"),
        "stop": body.get("stop_sequences"),
    }
    if body.get("tools"):
        chat["tools"] = [_tool(tool) for tool in body["tools"]]
        chat["tool_choice"] = {"any": "required", "none": "none"}.get(
            (body.get("tool_choice") or {}).get("type", "auto")
        )
    return read_chat(chat, persona)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {}}
    return {"type": "function", "function": function}


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if body.get("system"):
        yield {"role": "system", "content": _text(body["system"])}
    for index, message in enumerate(body["messages"]):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise Refused(f'messages.{index}.role: Input should be "user" or "assistant"')
        yield from _turn(message)


def _turn(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One turn; results of tools become messages of their own."""
    blocks = message.get("content")
    if isinstance(blocks, str):
        yield {"role": message["role"], "content": blocks}
        return
    calls = [
        {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": "{}"}}
        for block in blocks or ()
        if block["type"] == "tool_use"
    ]
    for block in blocks or ():
        if block["type"] == "tool_result":
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _text(block.get("content") or "")}
    text = _text([block for block in blocks or () if block["type"] == "text"])
    if calls:
        yield {"role": message["role"], "content": text, "tool_calls": calls}
    elif text:
        yield {"role": message["role"], "content": text}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(block["text"] for block in content if block.get("type") == "text")


def usage(answer: Answer) -> dict[str, Any]:
    """Anthropic counts cached tokens beside `input_tokens`, not inside them."""
    return {
        "input_tokens": answer.prompt - answer.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached,
        "output_tokens": answer.completion,
        "service_tier": "standard",
    }


def _blocks(answer: Answer) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each content block as it starts, and its deltas."""
    choice = answer.choices[0]
    if choice.content:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in choice.content]
    for call in choice.calls:
        start = {"type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": {}}
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in call.arguments]


def _message(envelope: Envelope, content: list[Any], stop: str | None, used: Any) -> dict[str, Any]:
    return {
        "id": envelope.id.replace("chatcmpl-", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": used,
    }


def json_answer(envelope: Envelope, answer: Answer, pace: Pace, asked: Behaviour, headers: Headers) -> Steps:
    content = []
    for block, deltas in _blocks(answer):
        if block["type"] == "text":
            content.append({**block, "text": "".join(delta["text"] for delta in deltas)})
        else:
            arguments = "".join(delta["partial_json"] for delta in deltas)
            content.append({**block, "input": orjson.loads(arguments or "{}")})
    used = None if asked.fault == "no-usage" else usage(answer)
    body = orjson.dumps(_message(envelope, content, _FINISH[answer.choices[0].finish], used))
    if asked.fault in ("error-json", "error-event"):
        body = orjson.dumps(faults.ERRORS["anthropic"])
    elif asked.fault == "truncated":
        body = body[: len(body) // 2]
    yield Think(pace.first + pace.each * answer.completion, answer.completion)
    yield Head(200, (*JSON_HEAD, *headers), len(body) if asked.fault != "gzip" else None)
    yield Note(used)
    yield Send(body, content=True)


def stream(envelope: Envelope, answer: Answer, pace: Pace, asked: Behaviour, headers: Headers) -> Steps:
    used = usage(answer)
    yield Think(pace.first + pace.each * answer.reasoning, answer.reasoning)
    yield Head(200, (*SSE_HEAD, *headers))
    yield _event("message_start", message=_message(envelope, [], None, {**used, "output_tokens": 1}))
    for index, (block, deltas) in enumerate(_blocks(answer)):
        yield _event("content_block_start", index=index, content_block=block)
        yield _event("ping")
        for delta in deltas:
            if pace.each:
                yield Think(pace.each)
            yield _event("content_block_delta", 1, index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    yield Note(used)
    stop = {"stop_reason": _FINISH[answer.choices[0].finish], "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": answer.completion})
    yield _event("message_stop")


def _event(kind: str, tokens: int = 0, **fields: Any) -> Send:
    data = orjson.dumps({"type": kind, **fields})
    return Send(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens, kind == "content_block_delta")
