"""What `docs/openapi.yaml` promises, as a source of requests and as a judge of answers."""

import json
from typing import Any, Final

import jsonschema_rs
from hypothesis import strategies as st

from tests.test_openapi import DOCUMENT, SCHEMAS

ANYTHING: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.sampled_from(["\ud800", "x" * 3000, 1e308, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
VALIDATORS: Final = {
    name: jsonschema_rs.validator_for({**SCHEMAS[name], "components": DOCUMENT["components"]}) for name in SCHEMAS
}


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema allows; of its keywords those that the document uses."""
    if "$ref" in schema:
        return values(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([of_type(kind, schema) for kind in types])


def of_type(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=20)
        case "array":
            items = values(schema["items"]) if "items" in schema else ANYTHING
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=3)
    known = {name: values(each) for name, each in schema.get("properties", {}).items()}
    needed = {name: known.pop(name) for name in schema.get("required", ())}
    if known:
        return st.fixed_dictionaries(needed, optional=known)
    more = schema.get("additionalProperties")
    return st.dictionaries(st.text(max_size=5), values(more) if isinstance(more, dict) else ANYTHING, max_size=3)


@st.composite
def bodies(draw: st.DrawFn, models: tuple[str, ...]) -> Any:
    """A request: its model of these, its fields as the document says, but for none, one or two of them."""
    properties = SCHEMAS["Request"]["properties"]
    plain = st.text().map(lambda text: [{"role": "user", "content": text}])
    body = {"model": draw(st.sampled_from(models)), "messages": draw(plain | plain | values(properties["messages"]))}
    for field in draw(st.lists(st.sampled_from(sorted(properties.keys() - body.keys())), max_size=3)):
        body[field] = draw(values(properties[field]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        body[draw(st.sampled_from(sorted(properties)) | st.text(max_size=5))] = draw(ANYTHING)
    return body


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
