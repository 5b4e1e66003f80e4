"""A value that fits a JSON Schema: what a model with structured output would answer. The common subset only."""

from collections.abc import Mapping
from typing import Any


def fill(schema: Mapping[str, Any], known: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Build a value for the schema, taking properties whose names are in `known` from there where they fit."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fill(_resolve(schema["$ref"], root), known, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return fill(schema[union][0], known, root)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {name: _property(name, part, known, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [fill(schema.get("items", {"type": "string"}), known, root)] * int(schema.get("minItems", 1))
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}.get(str(kind))


def _property(name: str, schema: Mapping[str, Any], known: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if name in known and _allows(schema, known[name]):
        return known[name]
    return fill(schema, known, root)


def _allows(schema: Mapping[str, Any], value: Any) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(_allows(part, value) for part in schema["anyOf"])
    kinds = schema.get("type", "object")
    wanted = "null" if value is None else "string"
    return wanted in (kinds if isinstance(kinds, list) else [kinds])


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part] if part != "#" else found
    resolved: Mapping[str, Any] = found
    return resolved
