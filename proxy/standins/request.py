"""A chat request read as strictly as OpenAI reads it: whatever is unknown or wrong is refused in OpenAI's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.standins.persona import Persona

ROLES = ("system", "assistant", "user", "function", "tool", "developer")

# Every parameter of chat completions; the stand-ins act on a part of them and accept the rest.
PARAMETERS = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip


class Refused(Exception):
    """The request cannot be served; becomes an HTTP error in OpenAI's shape."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type, "param": param, "code": code}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str  # without `?...`
    messages: list[dict[str, Any]]
    body: Mapping[str, Any]
    limit: int | None  # of completion tokens
    n: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    format: str  # text, json_object, json_schema
    schema: Mapping[str, Any] | None
    tools: tuple[Mapping[str, Any], ...]  # the callable ones: none with tool_choice none
    must_call: bool

    @property
    def user_text(self) -> str:
        """The last user message's text."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                return text_of(message)
        return ""


def text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part.get("type") == "text")


def parse(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refused(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
            "library correctly. The API expects a JSON payload, but what was sent was not valid JSON.)"
        ) from None
    if not isinstance(body, dict):
        raise Refused("Invalid body: expected an object.", code="invalid_type")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("you must provide a model parameter")
    return body


def read(body: Mapping[str, Any], persona: Persona) -> ChatRequest:
    """Check a parsed body against what the persona's model accepts. Raises `Refused`."""
    for name in body:
        if name not in PARAMETERS:
            raise Refused(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    messages = _messages(body)
    stream = _boolean(body, "stream")
    format_, schema = _format(body, messages, persona)
    tools, must_call = _tools(body)
    return ChatRequest(
        model=body["model"].partition("?")[0],
        messages=messages,
        body=body,
        limit=_limit(body, persona),
        n=_integer(body, "n", 1, 128) or 1,
        stop=_stop(body),
        stream=stream,
        include_usage=_include_usage(body, stream),
        format=format_,
        schema=schema,
        tools=tools,
        must_call=must_call,
    )


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        raise Refused("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise Refused(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
            "instead.",
            param="messages",
            code="empty_array",
        )
    called: set[str] = set()
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message, called)
    return messages


def _check_message(where: str, message: Any, called: set[str]) -> None:
    if not isinstance(message, dict):
        raise _wrong_type(where, "an object", message)
    role = message.get("role")
    if role is None:
        raise Refused(
            f"Missing required parameter: '{where}.role'.", param=f"{where}.role", code="missing_required_parameter"
        )
    if role not in ROLES:
        raise Refused(
            f"Invalid value: '{role}'. Supported values are: {', '.join(map(repr, ROLES))}.",
            param=f"{where}.role",
            code="invalid_value",
        )
    _check_content(f"{where}.content", message)
    if role == "assistant":
        called |= {call["id"] for call in message.get("tool_calls") or ()}
    elif role == "tool" and message.get("tool_call_id") not in called:
        raise Refused(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
            param=f"{where}.role",
        )


def _check_content(where: str, message: Mapping[str, Any]) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if message["role"] == "assistant" and (message.get("tool_calls") or message.get("refusal")):
            return
        raise Refused("Invalid value for 'content': expected a string, got null.", param=where)
    if not isinstance(content, list) or not content:
        raise _wrong_type(where, "one of a string or array of objects", content)
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            continue
        if kind in ("image_url", "input_audio", "file", "refusal"):
            continue
        raise Refused(f"Invalid value: '{kind}'.", param=f"{where}[0].type", code="invalid_value")


def _limit(body: Mapping[str, Any], persona: Persona) -> int | None:
    if body.get("max_tokens") is not None and not persona.max_tokens:
        raise Refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    return _integer(body, "max_completion_tokens", 1) or _integer(body, "max_tokens", 1)


def _format(
    body: Mapping[str, Any], messages: list[dict[str, Any]], persona: Persona
) -> tuple[str, Mapping[str, Any] | None]:
    wanted = body.get("response_format") or {"type": "text"}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise Refused(f"Invalid value: '{kind}'.", param="response_format.type", code="invalid_value")
    if kind == "json_object" and persona.json_word and not any("json" in text_of(m).lower() for m in messages):
        raise Refused(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    if kind != "json_schema":
        return kind, None
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or not described.get("name"):
        raise Refused(
            "Missing required parameter: 'response_format.json_schema.name'.",
            param="response_format.json_schema.name",
            code="missing_required_parameter",
        )
    return kind, described.get("schema") or {}


def _tools(body: Mapping[str, Any]) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools is None:
        if choice not in (None, "none"):
            raise Refused("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
        return (), False
    if not isinstance(tools, list) or not tools:
        raise Refused("Invalid 'tools': empty array.", param="tools", code="empty_array")
    functions: list[Any] = [
        tool.get("function") for tool in tools if isinstance(tool, dict) and tool.get("type") == "function"
    ]
    if len(functions) != len(tools) or not all(isinstance(f, dict) and f.get("name") for f in functions):
        raise Refused("Missing required parameter: 'tools[0].function.name'.", param="tools[0].function.name",
                      code="missing_required_parameter")  # fmt: skip
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        functions = [f for f in functions if f["name"] == name]
        if not functions:
            raise Refused(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
        return tuple(functions), True
    if choice not in (None, "auto", "none", "required"):
        raise Refused(f"Invalid value: '{choice}'.", param="tool_choice", code="invalid_value")
    return () if choice == "none" else tuple(functions), choice == "required"


def _stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    if stop is None:
        return ()
    found = [stop] if isinstance(stop, str) else stop
    if not isinstance(found, list) or len(found) > 4 or not all(isinstance(each, str) for each in found):
        raise _wrong_type("stop", "a string or an array of up to 4 strings", stop)
    return tuple(found)


def _include_usage(body: Mapping[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise Refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return _boolean(options, "include_usage")


def _boolean(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(name, "a boolean", value)
    return bool(value)


def _integer(body: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(name, "an integer", value)
    if value < least:
        raise Refused(
            f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead.",
            param=name,
            code="integer_below_min_value",
        )
    if most is not None and value > most:
        raise Refused(
            f"Invalid '{name}': integer above maximum value. Expected a value <= {most}, but got {value} instead.",
            param=name,
            code="integer_above_max_value",
        )
    return value


def _wrong_type(param: str, wanted: str, got: Any) -> Refused:
    names = {
        str: "a string",
        int: "an integer",
        float: "a decimal",
        bool: "a boolean",
        list: "an array",
        dict: "an object",
    }
    return Refused(
        f"Invalid type for '{param}': expected {wanted}, but got {names.get(type(got), 'null')} instead.",
        param=param,
        code="invalid_type",
    )
