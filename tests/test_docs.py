"""The documents are true: their configs load, their commands exist, and every name a user meets is explained.

A fenced block is checked by its language, and by an HTML comment on the line before the fence, if there is one.

- `yaml` is a config: a whole one if it begins with `version:`, else sections laid over `FIXTURE`. `<!-- policy -->`,
  `<!-- when -->`, `<!-- params -->` or `<!-- prompt -->` says that it is the inside of one of these,
  `<!-- broken: CODE -->` that it is refused with that code.
- `python` compiles. After `<!-- run -->` it runs, and may talk to a proxy at http://127.0.0.1:8080; after
  `<!-- run: TEXT -->` it prints that.
- `sh`, or no language: pointsman's and make's commands exist, with their options. So do those in code spans.

The tables of docs/config.md are made from the schema: after a change of it, `POINTSMAN_GOLDEN=write pytest
tests/test_docs.py`, then read the diff.
"""

import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import promql_parser
import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import proxy
from policies.comparison import OPERATORS
from policies.split import encode, score
from policies.vocabulary import FACTS
from proxy import hands, pressure, server
from proxy.cli.main import COMMANDS, app
from proxy.config import schema, values
from proxy.config.document import parse
from proxy.config.load import Loaded, load
from proxy.config.problems import has_errors
from proxy.meter import log
from proxy.meter.families import FAMILIES, OUTCOMES
from proxy.meter.usage import KINDS
from proxy.runtime import Limits, Timeouts
from proxy.standins.persona import INSTANT
from proxy.standins.standin import StandIn
from proxy.wire.error import TABLE
from routes.failure import CLASSES, DEFAULT_FALLBACK
from routes.params import DIALECTS
from routes.route import MAX_ATTEMPTS
from routes.syntax import FILTERS, TESTS
from routes.template import MAX_OUTPUT
from tests.harness import Proxy

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "policies/examples"
PAGES: Final = [page for folder in ("", "docs/", "deploy/") for page in sorted(ROOT.glob(f"{folder}*.md"))]
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
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("fence")) + 1
            block = Block(str(page.relative_to(ROOT)), line, match["language"], match["note"] or "", match["text"])
            found += [block] if block.language in languages else []
    return found


FENCE: Final = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^(?P<fence>```)(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


SPAN: Final = re.compile(r"`([^`\n]+)`")


def everything() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without their heads."""
    text = re.split(rf"^#+ {heading}$", (ROOT / page).read_text(), flags=re.MULTILINE)[1]
    lines = re.split(r"^#+ ", text, flags=re.MULTILINE)[0].split("\n")
    tables = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("|")]
    heads = {number for number, row in enumerate(tables) if set("".join(row)) == {"-"}}
    return [row for number, row in enumerate(tables) if number not in heads and number + 1 not in heads]


def named(cell: str) -> list[str]:
    """The code spans of a cell."""
    return SPAN.findall(cell)


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
        case "when":
            return {"policies": {"support": {"rules": [{"when": given, "route": "strong"}]}}}
        case "params":
            return {"policies": {"support": {"routes": {"tuned": {"model": "tuned", "params": given}}}}}
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


YAML: Final = blocks("yaml")


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


SECTIONS: Final[Mapping[str, type[schema.Section]]] = {
    "Config": schema.Config,
    "Server": schema.Server,
    "Timeouts": schema.Timeouts,
    "Retries": schema.Retries,
    "Ejection": schema.Ejection,
    "Limits": schema.Limits,
    "Hedge": schema.Hedge,
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
SHOWN_ELSEWHERE: Final[Mapping[str, type[schema.Section]]] = {
    "Model": schema.Connection,
    "Rule": schema.Outcome,
}  # their keys are in that one's table
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
    values.Duration: "duration",
    values.Timeout: "duration",
    values.Interval: "duration",
    values.Patience: "duration",
    values.Size: "size",
    values.Share: "share",
    values.SecretText: "secret",
    values.Address: "HOST:PORT",
    values.Flag: "true or false",
    values.Moment: "time",
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
    marks = [mark for mark in field.metadata if mark is not values.WHOLE]
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
    if word == "share":
        return f"`{value:.0%}`"
    if word == "size":
        return f"`{value / 2**20:g}MiB`" if value >= 2**20 else f"`{value / 2**10:g}KiB`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_the_config_reference_has_every_key() -> None:
    """With its kind, default and meaning, as the schema has them."""
    text = CONFIG_MD.read_text()
    made = TABLE_OF.sub(lambda found: f"<!-- keys: {found[1]} -->\n{table(found[1])}\n\n", text)
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        CONFIG_MD.write_text(made)
        return
    assert text == made
    assert {found[1] for found in TABLE_OF.finditer(text)} == set(SECTIONS)


def below(section: type[schema.Section]) -> Iterator[type[schema.Section]]:
    for each in section.__subclasses__():
        yield each
        yield from below(each)


def test_the_reference_knows_every_section() -> None:
    known = {section.__name__ for section in SECTIONS.values()} | {"Connection", "Rates"}
    assert {section.__name__ for section in below(schema.Section)} == known
    assert set(schema.json_schema()["properties"]) == set(schema.Config.model_fields)


# --- programs


@pytest.fixture(scope="module")
def running() -> Iterator[Proxy]:
    """The demo's config in front of two stand-ins."""
    prompts = {str(file.relative_to(EXAMPLES)): file.read_text() for file in EXAMPLES.glob("prompts/support/*")}
    with StandIn("strong", latency=INSTANT) as strong, StandIn("tuned", latency=INSTANT) as tuned:
        env = {"STRONG_URL": strong.base_url, "TUNED_URL": tuned.base_url}
        with Proxy((EXAMPLES / "demo.yaml").read_text(), prompts, env=env) as proxy:
            yield proxy


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", [each for each in blocks("python") if each.note.startswith("run")], ids=str)
def test_python_runs(block: Block, running: Proxy) -> None:
    """Against a real proxy, with the official client."""
    text = block.text.replace("http://127.0.0.1:8080", running.url)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    wanted = block.note.removeprefix("run").removeprefix(": ")
    assert wanted in ("", done.stdout.strip())


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line in the documents, as words, with its place."""
    for block in blocks("sh", ""):
        for line in block.text.replace("\\\n", " ").split("\n"):
            for command in line.split(" && "):
                yield str(block), shlex.split(command, comments=True)
    for page in PAGES:
        for span in SPAN.findall(FENCE.sub("", page.read_text())):
            if span.startswith(("pointsman ", ".venv/bin/pointsman ", "make ")):
                yield f"{page.relative_to(ROOT)}: {span}", shlex.split(span)


def test_commands_exist_with_their_options() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group)
    makefile = (ROOT / "Makefile").read_text()
    seen = set()
    for where, words in commands():
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), where
        if not words or Path(words[0]).name != "pointsman":
            continue
        command = group.get_command(context, words[1])  # type: ignore[attr-defined]
        assert command is not None, f"{where}: no command {words[1]}"
        seen.add(words[1])
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words[2:]:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options, f"{where}: {words[1]} has no {word}"
    assert seen == set(COMMANDS), "commands that no document shows"


@pytest.mark.parametrize("block", blocks("promql"), ids=str)
def test_promql_parses(block: Block) -> None:
    for query in block.text.split("\n\n"):
        promql_parser.parse(re.sub(r"^#.*$", "", query, flags=re.MULTILINE))


# --- names: what exists is explained, what is explained exists


def test_metrics() -> None:
    documented = [
        (named(name)[0], kind, labels) for name, kind, labels, _ in rows("docs/metrics.md", "Series")[: len(FAMILIES)]
    ]
    assert documented == [(family.name, family.kind, ", ".join(family.labels)) for family in FAMILIES.values()]
    mentioned = set(re.findall(r"(?<![\w:])pointsman_[a-z_]+[a-z]", everything()))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in mentioned} <= set(FAMILIES)


def test_label_values() -> None:
    values = {named(cells[0])[0]: cells[1] for cells in rows("docs/metrics.md", "Series") if len(cells) == 2}
    assert set(named(values["outcome"])) == set(OUTCOMES)
    assert named(values["kind"]) == list(KINDS)


def test_headers() -> None:
    sent = set()
    for file in (ROOT / "proxy").rglob("*.py"):
        sent |= set(re.findall(r"x-pointsman(?:-[a-z]+)+", file.read_text()))
    documented = {named(cells[0])[0] for cells in rows("docs/http.md", "Headers of answers")}
    assert {name for name in documented if name.startswith("x-pointsman")} == sent
    assert set(re.findall(r"x-pointsman(?:-[a-z]+)+", everything())) == sent


KIND_WORDS: Final = {
    "text": "text", "texts": "list of text", "number": "number", "flag": "flag", "time": "time window"
}  # fmt: skip


def test_facts() -> None:
    documented = {name: kind for names, kind, _ in rows("docs/policies.md", "Facts") for name in named(names)}
    families = {"header.NAME": "text", "metadata.KEY": "text"}
    assert documented == families | {fact.name: KIND_WORDS[fact.kind] for fact in FACTS.values()}


def test_operators() -> None:
    documented = {name for cells in rows("docs/policies.md", "Conditions") for name in named(cells[0])}
    assert documented == {operator for operators in OPERATORS.values() for operator in operators}


def test_failure_classes() -> None:
    classes = [cells for cells in rows("docs/http.md", "Errors") if len(cells) == 5]
    assert [named(cells[0])[0] for cells in classes] == list(CLASSES)
    for name, _, status, kind, code in classes:
        if found := TABLE.get(named(name)[0]):
            assert (int(status[:3]), named(kind)[0], named(code)[0]) == found
    default = re.search(r"Without it these count: (.*?)\.", (ROOT / "docs/policies.md").read_text(), re.DOTALL)
    assert default is not None
    assert set(named(default[1])) == DEFAULT_FALLBACK


def test_error_codes() -> None:
    codes: set[str] = {code for _, _, code in TABLE.values()}
    for file in [*(ROOT / "proxy").glob("*.py"), *(ROOT / "proxy/wire").glob("*.py")]:
        codes |= set(re.findall(r"(?:\bcode|^ +error) ?= ?\"(\w+)\"", file.read_text(), re.MULTILINE))
    cells = rows("docs/http.md", "Errors")
    documented = {code for row in cells for code in named(row[1] if len(row) == 3 else row[-1])}
    assert documented == codes - {"check_failed"}  # no check can be configured yet


def test_prompt_language() -> None:
    language = {cells[0]: set(named(cells[1])) for cells in rows("docs/prompts.md", "Templates")}
    assert language["filters"] == FILTERS
    assert language["tests"] == TESTS


def test_dialects() -> None:
    assert {named(cells[0])[0] for cells in rows("docs/routes.md", "Dialects")} == set(DIALECTS)


def test_limits() -> None:
    found = {cells[0]: cells[1] for cells in rows("docs/operate.md", "Limits")}
    limits = Limits()
    head = f"{limits.max_head // 1024} KiB, {limits.max_headers} headers of {limits.max_header // 1024} KiB"
    assert found["request head"] == f"{head}, {limits.head_timeout:g} s to arrive; `server.max_head`, ..."
    assert found["request body"] == f"`server.max_body`, {limits.max_body // 2**20} MiB"
    assert found["all request bodies"] == f"`server.body_memory`, {limits.body_memory // 2**20} MiB per worker"
    assert found["what a request asks for"] == "[`limits`](config.md#limits)"
    assert found["pause within a request body"] == f"`server.body_timeout`, {limits.body_timeout:g} s"
    assert found["idle connection of a caller"] == f"{server.KEEP_ALIVE:g} s"
    assert found["attempts per request"] == str(MAX_ATTEMPTS)
    assert found["rendered prompt"] == f"{MAX_OUTPUT:,} characters"
    assert f"past {log.CAPACITY // 2**20} MiB of waiting lines" in " ".join(
        (ROOT / "docs/operate.md").read_text().split()
    )


def test_what_happens_when_something_runs_out() -> None:
    found = [cells[1] for cells in rows("docs/operate.md", "When something runs out")]
    assert found == [
        f"connections above {pressure.room_of(100_000)[0] // 1000} % of `ulimit -n` (fewer where there are few)",
        "none is left for a connection to a model",
        f"{pressure.SHED:.0%} of the limit, until {pressure.CALM_AGAIN:.0%}".replace("%", " %"),
        f"{pressure.FULL:.0%} of the limit, until {pressure.TAKE_AGAIN:.0%}".replace("%", " %"),
        f"`server.body_memory`, or what was free below {pressure.SHED:.0%} of the limit at the start, at ".replace(
            "%", " %"
        )
        + f"{pressure.COSTS:g} bytes of it for each byte of a body",
        f"{log.CAPACITY // 2**20} MiB of lines waiting",
        f"{hands.LOOK * hands.HANGS:g} s without an answer, with several workers",
    ]
    text = (ROOT / "docs/operate.md").read_text()
    assert f"loop hangs for {hands.LOOK * hands.HANGS:g} seconds" in text


def test_split_vectors() -> None:
    """Anybody can repeat the draw from the page."""
    for salt, key, tuned, strong, arm in rows("docs/policies.md", "The algorithm"):
        scores = {}
        for name, weight, u in (("tuned", 0.25, tuned), ("strong", 0.75, strong)):
            data = b"".join(map(encode, (named(salt)[0], name, named(key)[0])))
            scores[name] = score(weight, data)
            assert math.isclose(scores[name], weight / -math.log(float(u)), rel_tol=1e-9)
        assert named(arm) == [max(scores, key=lambda name: scores[name])]


# --- links


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


MADE: Final = ("tests/bench/RESULTS.md",)  # by programs; a checkout may be without them


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
            if target.startswith(("https://", "http://")):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists() or str(file.relative_to(ROOT)) in MADE, f"{page.name}: {target}"
            if anchor:
                assert anchor in slugs(file), f"{page.name}: {target}"


def test_files_that_are_named_exist() -> None:
    for page in PAGES:
        for span in SPAN.findall(FENCE.sub("", page.read_text())):
            if re.fullmatch(r"(policies|routes|proxy|tests|deploy|docs)/[\w./-]+", span):
                assert (ROOT / span).exists() or span in MADE, f"{page.name}: {span}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert f"(docs/{page.name})" in readme


def test_the_changelog_is_of_this_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] in ("Unreleased", proxy.__version__)
    assert f'version = "{proxy.__version__}"' in (ROOT / "pyproject.toml").read_text()
