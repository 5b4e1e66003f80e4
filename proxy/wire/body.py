"""A request's JSON, read strictly and once: what a parser could understand two ways is refused.

Owns syntax and the types of the fields we use; what the fields mean is not its business. Unknown fields go through.
"""

from typing import Any

import jiter
import orjson

from proxy.errors import BadRequest

TEXT, FLAG, COUNT, NUMBER = (str,), (bool,), (int,), (int, float)
LIST, OBJECT = (list,), (dict,)
NAMES = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}

# The fields whose type we rely on, or whose wrong type would cost a call to find out. Null always passes.
FIELDS: dict[str, tuple[type, ...]] = {
    "model": TEXT,
    "messages": LIST,
    "stream": FLAG,
    "stream_options": OBJECT,
    "tools": LIST,
    "functions": LIST,
    "tool_choice": (str, dict),
    "response_format": OBJECT,
    "metadata": OBJECT,
    "user": TEXT,
    "safety_identifier": TEXT,
    "max_tokens": COUNT,
    "max_completion_tokens": COUNT,
    "n": COUNT,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "logprobs": FLAG,
    "top_logprobs": COUNT,
    "seed": COUNT,
    "stop": (str, list),
    "logit_bias": OBJECT,
    "parallel_tool_calls": FLAG,
    "reasoning_effort": TEXT,
}
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def parse(data: bytes) -> dict[str, Any]:
    """Return the request's JSON object. Raises `BadRequest` for anything but one plain JSON object.

    Two parsers must agree: jiter reports duplicate keys, orjson refuses numbers that overflow to infinity.
    """
    if not data:
        raise BadRequest("the request has no body: send a JSON object", code="invalid_json")
    try:
        orjson.loads(data)
        body: Any = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise BadRequest(f"the request's body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("the request's body must be a JSON object", code="invalid_json")
    return body


def check_fields(body: dict[str, Any]) -> None:
    """Check the types of the fields we know. Raises `BadRequest` naming the field."""
    for field, value in body.items():
        wanted = FIELDS.get(field)
        if wanted is not None and type(value) not in wanted and value is not None:
            raise wrong_type(field, wanted)


def wrong_type(param: str, wanted: tuple[type, ...]) -> BadRequest:
    names = [NAMES[kind] for kind in wanted if not (kind is int and float in wanted)]
    return BadRequest(f"'{param}' must be {' or '.join(names)}", param=param, code="invalid_type")


def check_named(body: dict[str, Any]) -> None:
    """Check what every request needs: known fields of their types, and a model."""
    check_fields(body)
    if not body.get("model"):
        raise BadRequest(
            "'model' is required: the name of a policy", param="model", code="missing_required_parameter"
        )


def check_chat(body: dict[str, Any]) -> bool:
    """Check what a chat completion needs: a model, and messages that are objects with a known role.

    Returns whether it is all text: images and files have tokens, but no characters to count them by.
    """
    plain = True
    check_named(body)
    messages = body.get("messages")
    if messages is None:
        raise BadRequest("'messages' is required", param="messages", code="missing_required_parameter")
    if not messages:
        raise BadRequest("'messages' is empty: send at least one message", param="messages", code="empty_array")
    for position, message in enumerate(messages):
        if type(message) is not dict:
            raise wrong_type(f"messages[{position}]", OBJECT)
        role = message.get("role")
        if type(role) is not str or role not in ROLES:
            roles = ", ".join(sorted(ROLES))
            raise BadRequest(
                f"'messages[{position}].role' must be one of {roles}",
                param=f"messages[{position}].role",
                code="invalid_value",
            )
        content = message.get("content")
        if content is not None and type(content) is not str:
            plain &= check_parts(content, f"messages[{position}].content")
    return plain


def check_parts(content: Any, param: str) -> bool:
    """Check a list of content parts; returns whether all of them are text."""
    if type(content) is not list:
        raise wrong_type(param, (str, list))
    for position, part in enumerate(content):
        if type(part) is not dict:
            raise wrong_type(f"{param}[{position}]", OBJECT)
    return all(part.get("type") == "text" for part in content)


def extras(body: dict[str, Any]) -> dict[str, Any]:
    """Take the `pointsman` object out of the body: it never reaches a model. Raises `BadRequest`."""
    found: Any = body.pop("pointsman", None)
    if found is None:
        return {}
    if type(found) is not dict:
        raise wrong_type("pointsman", OBJECT)
    unknown = found.keys() - {"variables", "session"}
    if unknown:
        name = min(unknown)
        raise BadRequest(
            f"unknown key '{name}' in 'pointsman': it may hold 'variables' and 'session'",
            param=f"pointsman.{name}",
            code="unknown_parameter",
        )
    session, variables = found.get("session"), found.get("variables")
    if session is not None and type(session) is not str:
        raise wrong_type("pointsman.session", TEXT)
    if variables is not None:
        if type(variables) is not dict:
            raise wrong_type("pointsman.variables", OBJECT)
        for name, value in variables.items():
            if isinstance(value, dict | list):
                raise BadRequest(
                    f"variable '{name}' must be a string, a number, true, false or null",
                    param=f"pointsman.variables.{name}",
                    code="invalid_type",
                )
    return found
