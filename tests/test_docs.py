"""The documents are true: their configs load, their commands exist, and every name a user meets is explained.

A fenced block is checked by its language. `yaml` is a config: whole if it begins with `version:`, else sections laid
over `FIXTURE`. An HTML comment before the fence says that it is something smaller: `<!-- policy -->` the inside of a
policy, `<!-- route -->`, `<!-- model -->`, `<!-- when -->`, `<!-- params -->`, `<!-- price -->`, `<!-- prompt -->` one of
these, `<!-- broken: CODE -->` a config refused with that code, `<!-- other -->` no config at all. `python` compiles; after `<!-- run -->`
it runs against a real proxy. `sh` lines that call pointsman use options that exist.

The tables of docs/config.md are made from the schema: after a change of it, `POINTSMAN_GOLDEN=write pytest
tests/test_docs.py`, then read the diff.
"""

import io
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import click
import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import proxy
from policies import split
from policies.comparison import OPERATORS
from policies.vocabulary import FACTS
from proxy.cli.main import COMMANDS, app
from proxy.config import schema
from proxy.config.document import parse
from proxy.config.load import Loaded, load
from proxy.config.problems import has_errors
from proxy.meter.families import FAMILIES, OUTCOMES
from proxy.meter.usage import KINDS
from proxy.runtime import Timeouts
from proxy.standins.standin import StandIn
from proxy.wire.error import TABLE
from routes.failure import CLASSES, DEFAULT_FALLBACK
from routes.params import DIALECTS
from routes.syntax import FILTERS, TESTS
from tests.harness import Proxy

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "policies/examples"
PAGES: Final = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("deploy/*.md"))]
DOCS: Final = [page for page in PAGES if page.name not in ("LICENSE.md",)]
CONFIG_MD: Final = ROOT / "docs/config.md"

# What fragments may name.
FIXTURE: Final = """
upstreams:
  openai: {base_url: https://api.openai.com/v1, api_key: "${OPENAI_API_KEY}"}
  azure: {base_url: https://acme.openai.azure.com/openai/v1, auth: api-key, api_key: "${AZURE_API_KEY}"}
  vllm: {base_url: http://vllm:8000/v1, dialect: vllm}
models:
  strong: {at: openai, model: gpt-5.1}
  tuned: {at: vllm, model: support-lora-7, price: {input: 0.10, output: 0.40}}
prompts:
  support: prompts/support/
policies:
  support:
    baseline: strong
    routes:
      strong: {model: strong, prompt: support@3}
      tuned: {model: tuned, fallback: strong}
    default: strong
"""


@dataclass(frozen=True)
class Block:
    """A fenced block, where it stands, and what the comment before it says."""

    page: str
    line: int
    language: str
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in DOCS:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("fence")) + 1
            block = Block(str(page.relative_to(ROOT)), line, match["language"], match["note"] or "", match["text"])
            found += [block] if block.language in languages else []
    return found


FENCE: Final = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^(?P<fence>```)(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def everything() -> str:
    return "\n".join(page.read_text() for page in DOCS)


def page(name: str) -> str:
    return (ROOT / name).read_text()


# --- configs


def loaded(block: Block, folder: Path) -> Loaded:
    """Load a block as a config of its own, or laid over the fixture."""
    (folder / "prompts").symlink_to(EXAMPLES / "prompts")
    (folder / "teams").mkdir()
    (folder / "teams/search.yaml").write_text("policies: {search: {model: strong}}")
    config = folder / "pointsman.yaml"
    if block.text.startswith("version:"):
        config.write_text(block.text)
    else:
        given = parse(block.text, str(block)).plain()
        merged = overlaid(parse(FIXTURE, "fixture").plain(), wrapped(block.note.partition(":")[0], given))
        config.write_text(json.dumps(merged))
    return load(config, env={}, strict_env=False)


def wrapped(kind: str, given: Any) -> dict[str, Any]:
    """A fragment as the sections it belongs to."""
    match kind:
        case "policy":
            return {"policies": {"support": given}}
        case "route":
            return {"policies": {"support": {"routes": {"tuned": given}}}}
        case "when":
            return {"policies": {"support": {"rules": [{"when": given, "route": "strong"}]}}}
        case "params":
            return {"policies": {"support": {"routes": {"tuned": {"model": "tuned", "params": given}}}}}
        case "model":
            return {"models": {"strong": given}}
        case "price":
            return {"models": {"strong": {"at": "openai", "price": given}}}
        case "prompt":
            return {"prompts": {"support": {"1": {"messages": [{"system": "x"}]}, "3": given}}}
        case _:
            assert isinstance(given, dict)
            return given


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections and policies are joined name by name; any other thing is replaced."""
    joined = {**below, **above}
    for section in ("upstreams", "models", "prompts", "policies"):
        names = {**below.get(section, {}), **above.get(section, {})}
        joined[section] = names
    for name, policy in above.get("policies", {}).items():
        old = below["policies"].get(name)
        if isinstance(policy, dict) and old is not None and "model" not in policy:
            routes = {**old["routes"], **policy.get("routes", {})}
            joined["policies"][name] = {**old, **policy, "routes": routes}
    return joined


YAML: Final = [block for block in blocks("yaml") if block.note != "other"]


@pytest.mark.parametrize("block", YAML, ids=str)
def test_configs_load(block: Block, tmp_path: Path) -> None:
    """What the documents tell people to write is accepted, and what they call wrong is refused as they say."""
    result = loaded(block, tmp_path)
    if block.note.startswith("broken: "):
        assert block.note.removeprefix("broken: ") in {problem.code for problem in result.problems}
    else:
        assert not has_errors(result.problems), "\n".join(map(str, result.problems))
        assert result.snapshot is not None


def test_whole_configs_have_no_warnings(tmp_path: Path) -> None:
    whole = [block for block in YAML if block.text.startswith("version:")]
    assert whole
    for number, block in enumerate(whole):
        (tmp_path / str(number)).mkdir()
        assert loaded(block, tmp_path / str(number)).problems == [], str(block)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


# --- the reference of the config, made from the schema


SECTIONS: Final = {
    "Config": schema.Config,
    "Server": schema.Server,
    "Timeouts": schema.Timeouts,
    "Key": schema.Key,
    "Upstream": schema.Upstream,
    "TLS": schema.TLS,
    "Model": schema.Model,
    "Endpoint": schema.Endpoint,
    "Price": schema.PriceTable,
    "Route": schema.Route,
    "Fallback": schema.Fallback,
    "Policy": schema.Policy,
    "Rule": schema.Rule,
    "Outcome": schema.Outcome,
    "Test": schema.Test,
    "Given": schema.Given,
    "Expect": schema.Expect,
}
SHOWN_ELSEWHERE: Final = {"Model": schema.Connection, "Rule": schema.Outcome}  # their keys are in that one's table
TABLE_OF: Final = re.compile(r"<!-- keys: (\w+) -->\n(.*?)\n\n", re.DOTALL)


def table(name: str) -> str:
    """The keys of one section as a Markdown table."""
    section = SECTIONS[name]
    elsewhere = SHOWN_ELSEWHERE[name].model_fields if name in SHOWN_ELSEWHERE else {}
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in section.model_fields.items():
        if key not in elsewhere:
            cells = (f"`{field.alias or key}`", kind(field), default(section, key, field), field.description or "")
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


WORDS: Final = {
    schema.Duration: "duration",
    schema.Timeout: "duration",
    schema.Size: "size",
    schema.SecretText: "secret",
    schema.Address: "HOST:PORT",
    schema.Flag: "true or false",
    schema.Moment: "time",
    schema.Failures: "text or list",
    schema.Fallbacks: "text, map or list",
    schema.Default: "text or map",
    str: "text",
    int: "number",
    float: "number",
    Any: "anything",
}


def kind(field: FieldInfo) -> str:
    """What may stand there, in words."""
    marks = [mark for mark in field.metadata if mark is not schema.WHOLE]
    annotation = Annotated[field.annotation, *marks] if marks else field.annotation
    return " or ".join(dict.fromkeys(words(annotation)))


def words(annotation: Any) -> Iterator[str]:
    if annotation in WORDS:
        yield WORDS[annotation]
        return
    origin, inner = get_origin(annotation), [arg for arg in get_args(annotation) if arg is not type(None)]
    if origin is Literal:
        yield from (f"`{choice}`" for choice in inner)
    elif origin is Annotated:
        yield from words(inner[0])
    elif origin in (list, dict):
        yield "list" if origin is list else "map"
    elif inner:
        for arg in inner:
            yield from words(arg)
    else:
        yield "map"  # a section


def default(section: type[BaseModel], key: str, field: FieldInfo) -> str:
    value = getattr(Timeouts(), key) if section is schema.Timeouts else field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ([], {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    word = kind(field)
    if word.startswith("duration"):
        return f"`{value / 60:g}m`" if value >= 60 and value % 60 == 0 else f"`{value:g}s`"
    return f"`{value / 2**20:g}MiB`" if word == "size" else f"`{value}`"


def test_the_config_reference_has_every_key() -> None:
    """With its kind, default and meaning, as the schema has them."""
    text = CONFIG_MD.read_text()
    made = TABLE_OF.sub(lambda found: f"<!-- keys: {found[1]} -->\n{table(found[1])}\n\n", text)
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        CONFIG_MD.write_text(made)
        return
    assert text == made
    assert {found[1] for found in TABLE_OF.finditer(text)} == set(SECTIONS)


def test_the_reference_knows_every_section() -> None:
    known = {section.__name__ for section in SECTIONS.values()} | {"Section", "Connection", "Rates"}
    classes = {thing.__name__ for thing in vars(schema).values() if isinstance(thing, type) and issubclass(thing, schema.Section)}
    assert classes == known
    assert set(schema.json_schema()["properties"]) == set(schema.Config.model_fields)
