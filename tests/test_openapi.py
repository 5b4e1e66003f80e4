"""`docs/openapi.yaml` says what the code does: the same paths, fields, types and limits."""

from pathlib import Path
from typing import Any, Final, cast

import jsonschema_rs
import pytest
import yaml

from proxy.app import App
from proxy.life import Life
from proxy.outbox import Outbox
from proxy.wire.body import COUNTS, FIELDS, ROLES
from proxy.wire.bounds import Bounds

DOCUMENT: Final[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / "docs/openapi.yaml").read_text())
SCHEMAS: Final = DOCUMENT["components"]["schemas"]
NAMES: Final = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}


def test_paths() -> None:
    app = App(cast(Any, None), cast(Any, None), Life(), Outbox())
    served = {path: method.decode().lower() for path, (method, _) in app.table.items()}
    assert {path: next(iter(methods)) for path, methods in DOCUMENT["paths"].items()} == {
        **served,
        "/models/{id}": "get",
    }


def test_fields() -> None:
    properties = SCHEMAS["Request"]["properties"]
    assert properties.keys() == FIELDS.keys() | {"pointsman"}
    for field, types in FIELDS.items():
        said = properties[field].get("type", "array")
        wanted = {"number"} if float in types else {NAMES[kind] for kind in types}
        assert set([said] if isinstance(said, str) else said) - {"null"} == wanted, field
    assert set(SCHEMAS["Message"]["properties"]["role"]["enum"]) == ROLES


BOUNDED_BY: Final = {
    **COUNTS,
    "messages": "messages",
    "tools": "tools",
    "functions": "tools",
    "stop": "stop",
    "logit_bias": "logit_bias",
    "guided_regex": "schema_pattern",
}


@pytest.mark.parametrize("field", BOUNDED_BY)
def test_limits(field: str) -> None:
    """Where a limit can be said in JSON Schema."""
    most = getattr(Bounds(), BOUNDED_BY[field])
    found = SCHEMAS["Request"]["properties"][field]
    assert most in {found.get(key) for key in ("maximum", "maxItems", "maxProperties", "maxLength")}


def test_every_schema_is_one() -> None:
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate(schema)
