"""What `docs/openapi.yaml` promises, as a source of requests and as a judge of answers.

A request is made from a `random.Random`: the same seed, the same request, and ten thousands in seconds.
"""

import json
import random
from collections.abc import Callable
from typing import Any, Final

import jsonschema_rs

from tests.test_openapi import DOCUMENT, SCHEMAS

LETTERS: Final = (
    'ab{}[]":\\/%$<>\0\n\r\t\x7f\x85 é\u0301ß中\u2028\ufeff\uffff🙂'  # what parsers, logs and templates care for
)
EDGES: Final = (0, 1, -1, 127, 128, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 2**70, -(2**63) - 1)
FLOATS: Final = (0.0, -0.0, 1.0, 0.1, -1.5, 1e-320, 1e308, -1e308)
ODD: Final = ("\ud800", "x" * 3000, "__proto__", "[[fault", "{{ x }}")
VALIDATORS: Final = {
    name: jsonschema_rs.validator_for({**SCHEMAS[name], "components": DOCUMENT["components"]}) for name in SCHEMAS
}


Make = Callable[[random.Random], Any]


def text(chance: random.Random, least: int = 0, most: int = 20) -> str:
    return "".join(chance.choices(LETTERS, k=chance.randint(least, most)))


def anything(chance: random.Random, depth: int = 2) -> Any:
    """Any JSON value, whatever is asked for."""
    kinds: list[Make] = [
        lambda _: None,
        lambda chance: chance.random() < 0.5,
        lambda chance: chance.choice(EDGES),
        lambda chance: chance.choice(FLOATS),
        text,
        lambda chance: chance.choice(ODD),
    ]
    if depth:
        kinds += [
            lambda chance: [anything(chance, depth - 1) for _ in range(chance.randint(0, 3))],
            lambda chance: {text(chance, 0, 5): anything(chance, depth - 1) for _ in range(chance.randint(0, 3))},
        ]
    return chance.choice(kinds)(chance)


def value(chance: random.Random, schema: dict[str, Any]) -> Any:
    """A value that the schema allows; of its keywords those that the document uses."""
    if "$ref" in schema:
        return value(chance, SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return of_type(chance, chance.choice(kinds), schema)


def of_type(chance: random.Random, kind: str, schema: dict[str, Any]) -> Any:
    match kind:
        case "null":
            return None
        case "boolean":
            return chance.random() < 0.5
        case "integer":
            low, high = schema.get("minimum", min(EDGES)), schema.get("maximum", max(EDGES))
            within = [edge for edge in (low, high, *EDGES) if low <= edge <= high]
            return chance.choice([*within, chance.randint(low, high)])
        case "number":
            return chance.choice([*FLOATS, chance.uniform(-3, 3)])
        case "string":
            return text(chance, schema.get("minLength", 0))
        case "array":
            make = (lambda: value(chance, schema["items"])) if "items" in schema else (lambda: anything(chance))
            return [make() for _ in range(chance.randint(schema.get("minItems", 0), 3))]
    known = {
        name: value(chance, each)
        for name, each in schema.get("properties", {}).items()
        if name in schema.get("required", ()) or chance.random() < 0.5
    }
    if "properties" in schema:
        return known
    more = schema.get("additionalProperties")
    each = (lambda: value(chance, more)) if isinstance(more, dict) else (lambda: anything(chance))
    return {text(chance, 0, 5): each() for _ in range(chance.randint(0, 3))}


def body(chance: random.Random, models: tuple[str, ...]) -> dict[str, Any]:
    """A request: its model of these, its fields as the document says, but for none, one or two of them."""
    properties = SCHEMAS["Request"]["properties"]
    plain = chance.random() < 2 / 3
    messages = [{"role": "user", "content": text(chance)}] if plain else value(chance, properties["messages"])
    made = {"model": chance.choice(models), "messages": messages}
    for field in chance.sample(sorted(properties.keys() - made.keys()), chance.randint(0, 3)):
        made[field] = value(chance, properties[field])
    for _ in range(chance.choice([0, 0, 0, 1, 2])):
        made[chance.choice(sorted(properties)) if chance.random() < 0.7 else text(chance, 0, 5)] = anything(chance)
    return made


def breach(status: int, kind: str, data: bytes) -> str:
    """How an answer to a chat completion breaks the document's word; empty if it does not."""
    responses = DOCUMENT["paths"]["/chat/completions"]["post"]["responses"]
    if str(status) not in responses:
        return f"no answer of status {status} is documented"
    kind = kind.partition(";")[0]
    if status == 200 and kind == "text/event-stream":
        return "" if data.endswith(b"\n\n") else "a stream that ends within an event"
    if kind != "application/json":
        return f"{kind} for {status}"
    errors = VALIDATORS["Completion" if status == 200 else "Error"].iter_errors(json.loads(data))
    return "; ".join(error.message for error in errors)
