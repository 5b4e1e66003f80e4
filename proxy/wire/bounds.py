"""Upper bounds of what one request may ask for: what is cheap to say and dear to read, to compile or to answer.

Each is generous: above what any vendor takes, or what anybody has a use for. They are `limits:` in the config.
"""

from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import BadRequest

CODE: Final = "above_limit"
NESTS: Final = (dict, list)
REGEX: Final = ("pattern", "regex")  # JSON Schema's and vLLM's


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest values that are taken; the names are the config's."""

    keys: int = 50_000  # of all objects of a body
    values: int = 200_000  # of a body: texts, numbers, lists, objects
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
        """Raises `BadRequest` where `found` is more than the bound of that name."""
        most: int = getattr(self, bound)
        if found > most:
            raise above(param, f"{found} {what or bound}", most, bound)


def above(param: str, found: str, most: int, bound: str) -> BadRequest:
    where = param if " " in param else f"'{param}'"
    return BadRequest(
        f"{where} has {found}; at most {most} are taken (`limits.{bound}` in the config of the proxy)",
        param=None if " " in param else param,
        code=CODE,
    )


def check_number(bounds: Bounds, bound: str, param: str, value: int) -> None:
    """A field that is a count. Raises `BadRequest`; also below 0, which means "without end" to some servers."""
    most: int = getattr(bounds, bound)
    if 0 <= value <= most:
        return
    raise BadRequest(
        f"'{param}' is {value}; it may be 0 to {most} (`limits.{bound}` in the config of the proxy)",
        param=param,
        code=CODE,
    )


def check_schema(bounds: Bounds, param: str, value: Any) -> None:
    """A field with JSON Schemas in it, which servers compile: depth, size, regular expressions. Raises `BadRequest`."""
    depth = size = 0
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for each in level:
            size += len(each)
            if type(each) is dict:
                for name in REGEX:
                    if name in each and type(each[name]) is str:
                        bounds.check("schema_pattern", param, len(each[name]), "characters in a pattern")
                each = each.values()
            below += [item for item in each if type(item) in NESTS]
        depth += 1
        bounds.check("schema_depth", param, depth, "levels")
        bounds.check("schema_values", param, size, "values")
        level = below
