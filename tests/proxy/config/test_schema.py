"""The JSON Schema says of good configs what loading says of them."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from proxy.config.document import parse
from proxy.config.schema import Config, json_schema

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "policies" / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema_rs.validator_for(json_schema())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(validator: Any, example: Path) -> None:
    validator.validate(parse(example.read_text(), example.name).plain())


@pytest.mark.parametrize("case", sorted((ROOT / "tests/golden/config").glob("ok-*.txt")), ids=lambda path: path.stem)
def test_good_golden_configs_are_valid(validator: Any, case: Path) -> None:
    """Shorthands included; sections left empty are the loader's own kindness."""
    text = case.read_text().split("--- pointsman.yaml\n")[1].split("\n--- ")[0].split("\n===\n")[0]
    data = {key: value for key, value in parse(text, "f").plain().items() if value is not None}
    if case.stem not in ("ok-variables", "ok-no-env"):  # `${W}` where a number belongs: editors may complain
        validator.validate(data)


@pytest.mark.parametrize(
    "broken",
    [
        {"polices": {}},
        {"models": {"a": {"att": "x"}}},
        {"policies": {"a": 3}},
        {"server": {"workers": 0}},
        {"version": 2},
    ],
)
def test_broken_ones_are_not(validator: Any, broken: dict[str, Any]) -> None:
    assert not validator.is_valid(broken)


def test_every_key_has_a_description() -> None:
    """Editors show it on hover."""
    schema = json_schema()
    for section in [schema, *schema["$defs"].values()]:
        for key, described in section["properties"].items():
            assert described.get("description"), f"{section['title']}.{key}"
    assert set(schema["properties"]) == set(Config.model_fields)
