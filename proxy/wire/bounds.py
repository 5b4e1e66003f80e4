"""Upper bounds of what one request may ask for: what is cheap to say and dear to read, to compile or to answer.

Each is generous: above what any vendor takes, or what anybody has a use for. They are `limits:` in the config.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.errors import BadRequest

PATTERN: Final = re.compile(rb'\n *"(?:pattern|regex)": ("[^\n]*")')  # JSON Schema's regular expressions, and vLLM's


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest values that are taken; the names are the config's."""

    keys: int = 50_000  # of all objects of a body that is not light
    values: int = 200_000  # of such a body: texts, numbers, lists, objects
    messages: int = 10_000
    images: int = 1_000  # and files, sounds: parts of messages that are no text
    tools: int = 1_024
    n: int = 128  # answers to one request; also `best_of`
    max_tokens: int = 1_000_000
    top_logprobs: int = 100
    stop: int = 64  # sequences
    logit_bias: int = 10_000  # tokens
    schema_depth: int = 64  # of all tools, or of an answer's format
    schema_values: int = 50_000
    schema_pattern: int = 4_096  # characters of a regular expression in a schema

    def check(self, bound: str, param: str, found: int, what: str = "") -> None:
        """Raises `BadRequest` where `found` is more than the bound of that name. `param`: a field, or empty."""
        most: int = getattr(self, bound)
        if found > most:
            where = f"'{param}'" if param else "the request's body"
            raise BadRequest(
                f"{where} has {found} {what or bound}; {_allowed(bound, f'at most {most}')}",
                param=param or None,
                code="above_limit",
            )


def _allowed(bound: str, range_: str) -> str:
    return f"{range_} are taken (`limits.{bound}` in the proxy's config)"


def off_bounds(bounds: Bounds, bound: str, param: str, value: int) -> BadRequest:
    """A count that is too large, or below 0, which means "without end" to some servers."""
    range_ = f"0 to {getattr(bounds, bound)}"
    return BadRequest(f"'{param}' is {value}; {_allowed(bound, range_)}", param=param, code="above_limit")


def check_schema(bounds: Bounds, param: str, value: Any) -> None:
    """A field with JSON Schemas in it, which servers compile: depth, size, patterns. Raises `BadRequest`.

    Written with a line for each value and a step to the right for each level, all of it can be counted at C's speed.
    """
    try:
        lines = b"\n" + orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except TypeError as error:  # an integer over 64 bits
        raise BadRequest(f"'{param}' cannot be sent on as JSON: {error}", param=param, code="invalid_json") from None
    if len(lines) > bounds.schema_values:
        bounds.check("schema_values", param, lines.count(b"\n"), "values")  # the end of a list is one, too
    if lines.find(b"\n" + b"  " * bounds.schema_depth + b" ") >= 0:
        depth = max(len(line) - len(line.lstrip(b" ")) for line in lines.split(b"\n")) // 2
        bounds.check("schema_depth", param, depth, "levels")
    if b"pattern" in lines or b"regex" in lines:
        for pattern in PATTERN.findall(lines):
            bounds.check("schema_pattern", param, len(orjson.loads(pattern)), "characters in a pattern")
