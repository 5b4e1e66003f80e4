"""A request's JSON, read strictly and once: what a parser could understand two ways is refused.

Owns syntax and the types of the fields we use; what the fields mean is not its business. Unknown fields go through.
"""

from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn

import jiter
import orjson

from proxy.errors import BadRequest
from proxy.wire.bounds import Bounds, check_schema, off_bounds
from proxy.wire.weight import LIGHT, Scale

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
    "best_of": COUNT,
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
    "guided_json": (str, dict),
    "guided_regex": TEXT,
    "structured_outputs": OBJECT,
}
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


DEFAULT: Final = Bounds()


def _stop(bounds: Bounds, field: str, value: Any) -> None:
    if type(value) is list:
        bounds.check("stop", field, len(value), "sequences")


def _logit_bias(bounds: Bounds, field: str, value: dict[str, Any]) -> None:
    bounds.check("logit_bias", field, len(value), "tokens")


def _tools(bounds: Bounds, field: str, value: list[Any]) -> None:
    bounds.check("tools", field, len(value))
    check_schema(bounds, field, value)


def _schema(bounds: Bounds, field: str, value: Any) -> None:
    if type(value) is dict:
        check_schema(bounds, field, value)


def _regex(bounds: Bounds, field: str, value: str) -> None:
    bounds.check("schema_pattern", field, len(value), "characters")


# The fields that have a bound beside their type: counts by the bound's name, others by what looks at them.
COUNTS: Final = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "n": "n",
    "best_of": "n",
    "top_logprobs": "top_logprobs",
}
OTHERS: Final[dict[str, Callable[[Bounds, str, Any], None]]] = {
    "stop": _stop,
    "logit_bias": _logit_bias,
    "tools": _tools,
    "functions": _tools,
    "response_format": _schema,
    "guided_json": _schema,
    "structured_outputs": _schema,
    "guided_regex": _regex,
}
# The types with which a field needs no further look.
_FINE: Final = {field: () if field in COUNTS or field in OTHERS else types for field, types in FIELDS.items()}


def parse(data: bytes, bounds: Bounds = DEFAULT) -> dict[str, Any]:
    """Return the request's JSON object. Raises `BadRequest` for anything but one plain JSON object.

    Two parsers must agree: jiter reports duplicate keys, orjson refuses numbers that overflow to infinity.
    """
    if len(data) > LIGHT:
        for _ in Scale(bounds).rest(data):
            pass
    try:
        orjson.loads(data)
        body: Any = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _invalid(data, error) from None
    return body if type(body) is dict else _no_object()


def parse_in_steps(pieces: list[bytes], scale: Scale) -> Generator[None, None, dict[str, Any]]:
    """`parse` for large bodies: none of its steps holds up an event loop for longer than some 20 ms.

    `pieces` are the text, and empty afterwards; `scale` has seen its beginning, or nothing.
    """
    data = b"".join(pieces)
    pieces.clear()
    yield
    yield from scale.rest(data)
    try:
        orjson.loads(data)
        yield
        body: Any = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _invalid(data, error) from None
    yield
    return body if type(body) is dict else _no_object()


def _invalid(data: bytes, error: ValueError) -> BadRequest:
    why = "is not valid JSON: " + str(error) if data else "is missing: send a JSON object"
    return BadRequest(f"the request's body {why}", code="invalid_json")


def _no_object() -> NoReturn:
    raise BadRequest("the request's body must be a JSON object", code="invalid_json")


def check_fields(body: dict[str, Any], bounds: Bounds = DEFAULT) -> None:
    """Check the types of the fields we know, and their bounds. Raises `BadRequest` naming the field."""
    for field, value in body.items():
        fine = _FINE.get(field)
        if fine is not None and type(value) not in fine and value is not None:
            _check_field(field, value, bounds)


def _check_field(field: str, value: Any, bounds: Bounds) -> None:
    bound = COUNTS.get(field)
    if bound is not None and type(value) is int:
        if not 0 <= value <= getattr(bounds, bound):
            raise off_bounds(bounds, bound, field, value)
        return
    wanted = FIELDS[field]
    if type(value) not in wanted:
        raise wrong_type(field, wanted)
    OTHERS[field](bounds, field, value)


def wrong_type(param: str, wanted: tuple[type, ...]) -> BadRequest:
    names = [NAMES[kind] for kind in wanted if not (kind is int and float in wanted)]
    return BadRequest(f"'{param}' must be {' or '.join(names)}", param=param, code="invalid_type")


def check_named(body: dict[str, Any], bounds: Bounds = DEFAULT) -> None:
    """Check what every request needs: known fields of their types, and a model."""
    check_fields(body, bounds)
    if not body.get("model"):
        raise BadRequest(
            "'model' is required: the name of a policy", param="model", code="missing_required_parameter"
        )


def check_chat(body: dict[str, Any], bounds: Bounds = DEFAULT) -> bool:
    """Check what a chat completion needs: a model, and messages that are objects with a known role.

    Returns whether it is all text: images and files have tokens, but no characters to count them by.
    """
    images = 0
    check_named(body, bounds)
    messages = body.get("messages")
    if messages is None:
        raise BadRequest("'messages' is required", param="messages", code="missing_required_parameter")
    if not messages:
        raise BadRequest("'messages' is empty: send at least one message", param="messages", code="empty_array")
    if len(messages) > bounds.messages:
        bounds.check("messages", "messages", len(messages))
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
            images += check_parts(content, f"messages[{position}].content")
    if images:
        bounds.check("images", "messages", images, "parts that are no text")
    return not images


def check_parts(content: Any, param: str) -> int:
    """Check a list of content parts; returns how many of them are no text."""
    if type(content) is not list:
        raise wrong_type(param, (str, list))
    for position, part in enumerate(content):
        if type(part) is not dict:
            raise wrong_type(f"{param}[{position}]", OBJECT)
    return sum(part.get("type") != "text" for part in content)


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
