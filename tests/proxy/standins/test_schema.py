from typing import Any

import jsonschema_rs
import pytest

from proxy.standins.schema import fill

KNOWN = {"intent": "refund", "order_id": None}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"intent": {"type": "string"}, "order_id": {"type": ["string", "null"]}}},
        {
            "type": "object",
            "properties": {"intent": {"enum": ["a", "b"]}, "n": {"type": "integer"}},
            "required": ["n"],
        },
        {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
        {"type": "array", "items": {"type": "number"}, "minItems": 2},
        {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        {"$defs": {"x": {"const": 7}}, "type": "object", "properties": {"y": {"$ref": "#/$defs/x"}}},
    ],
)
def test_what_is_filled_in_is_valid(schema: dict[str, Any]) -> None:
    jsonschema_rs.validate(schema, fill(schema, KNOWN))


def test_known_values_are_used_where_they_fit() -> None:
    schema = {"type": "object", "properties": {"intent": {"type": "string"}, "order_id": {"type": "string"}}}
    assert fill(schema, KNOWN) == {"intent": "refund", "order_id": "text"}
