"""Loading as serving uses it: secrets, hashes, files to watch, and that nothing a file holds can make it fail."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.document import parse
from proxy.config.load import Loaded, load
from proxy.config.problems import as_text, has_errors
from proxy.config.schema import Config
from proxy.config.values import Secret
from proxy.runtime import Holder, Snapshot

BASE = """
server: {admin_key: "${ADMIN:-admin-secret}"}
keys: [{name: a, key: file:caller}]
upstreams:
  one: {base_url: http://127.0.0.1:9101/v1, api_key: "${KEY:-sk-hidden}", headers: {x-token: "${TOKEN:-tok-hidden}"}}
models:
  strong: {at: one, price: {input: 2, output: 8}}
prompts: {support: prompts/}
policies:
  support: {default: {model: strong, prompt: support@1}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pointsman.yaml").write_text(BASE)
    (tmp_path / "caller").write_text("caller-secret\n")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "1.yaml").write_text("messages: [{system: {file: 1.md}}]\n")
    (tmp_path / "prompts" / "1.md").write_text("You cost ${nothing}.\n")
    return tmp_path


def snapshot_of(folder: Path, **env: str) -> Snapshot:
    loaded = load(folder / "pointsman.yaml", env=env)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot


def test_secrets_reach_the_wire_and_nothing_else(folder: Path) -> None:
    loaded = load(folder / "pointsman.yaml", env={})
    snapshot = loaded.snapshot
    assert snapshot is not None
    headers = dict(snapshot.models["strong"].endpoints[0].target.headers)
    assert headers == {b"authorization": b"Bearer sk-hidden", b"x-token": b"tok-hidden"}
    assert snapshot.server.admin_key == "admin-secret"
    assert snapshot.keys.caller(b"Bearer caller-secret").key == "a"
    printed = repr([loaded, snapshot, snapshot.server, snapshot.keys, snapshot.models])
    for secret in ("sk-hidden", "tok-hidden", "admin-secret", "caller-secret"):
        assert secret not in printed


def test_a_secret_prints_as_stars() -> None:
    secret = Secret("sk-1")
    assert (repr(secret), str(secret), f"{secret}") == ("***",) * 3
    assert repr(Config.model_validate({"keys": [{"name": "a", "key": "sk-1"}]}).keys).count("sk-1") == 0


def test_the_hash_knows_content_but_no_secrets(folder: Path) -> None:
    first = snapshot_of(folder).hash
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert snapshot_of(folder, KEY="other", ADMIN="other", TOKEN="other").hash == first
    (folder / "caller").write_text("rotated")
    assert snapshot_of(folder).hash == first
    (folder / "prompts" / "1.md").write_text("You cost nothing.\n")
    second = snapshot_of(folder).hash
    (folder / "pointsman.yaml").write_text(BASE.replace("output: 8", "output: 9"))
    assert len({first, second, snapshot_of(folder).hash}) == 3


def test_comments_and_tests_do_not_change_the_hash(folder: Path) -> None:
    first = snapshot_of(folder).hash
    test = "tests: [{name: a, request: {model: support}, expect: {route: strong}}]\n"
    (folder / "pointsman.yaml").write_text("# a comment\n" + BASE + test)
    assert snapshot_of(folder).hash == first


def test_every_file_read_is_watched(folder: Path) -> None:
    files = {Path(file).relative_to(folder).as_posix() for file in snapshot_of(folder).files}
    assert files == {"pointsman.yaml", "caller", "prompts", "prompts/1.yaml", "prompts/1.md"}


def test_files_are_watched_also_when_nothing_loads(folder: Path) -> None:
    """What is missing must be able to come back."""
    (folder / "caller").unlink()
    (folder / "prompts" / "1.md").unlink()
    loaded = load(folder / "pointsman.yaml", env={})
    assert loaded.snapshot is None
    assert {str(folder / "caller"), str(folder / "prompts" / "1.md")} <= set(loaded.files)


@pytest.mark.parametrize("text", ["prompts: {support: LONG}", "include: LONG.yaml", "include: LONG/*.yaml"])
def test_a_name_that_no_file_can_have_is_a_problem_not_a_failure(folder: Path, text: str) -> None:
    """As a folder that may not be entered: looking for it fails, other than for what is missing."""
    config = "".join(line for line in BASE.splitlines(True) if not text.startswith(line[:8]))
    config += text.replace("LONG", "x" * 300) + "\n"
    (folder / "pointsman.yaml").write_text(config)
    [problem] = load(folder / "pointsman.yaml", env={}).problems
    assert problem.code in ("file-unreadable", "include-nothing", "file-not-found")


def test_a_tls_file_with_other_content_makes_another_target(folder: Path) -> None:
    """Else who has a client for it would go on with a certificate that has run out."""
    text = BASE.replace("base_url:", "tls: {ca: ca.pem}, base_url:", 1)
    (folder / "pointsman.yaml").write_text(text)
    targets = []
    for content in ("one", "one", "two"):
        (folder / "ca.pem").write_text(content)
        targets.append({each.target for model in snapshot_of(folder).models.values() for each in model.endpoints})
    assert targets[0] == targets[1] != targets[2]
    assert str(folder / "ca.pem") in snapshot_of(folder).files


def test_variables_never_expand_in_prompts(folder: Path) -> None:
    route = snapshot_of(folder, nothing="much").services["support"].routes["strong"]
    assert route.prompt is not None
    assert route.prompt.messages[0].text == "You cost ${nothing}."


def test_serving_need_not_read_tests(folder: Path) -> None:
    (folder / "broken.test.yaml").write_text("tests: [")
    assert load(folder / "pointsman.yaml", env={}).snapshot is None
    assert load(folder / "pointsman.yaml", env={}, tests=False).snapshot is not None


def test_test_files_of_another_config_are_not_ours(folder: Path) -> None:
    (folder / "other.yaml").write_text("policies: {}")
    (folder / "other.test.yaml").write_text("tests: [{name: a, request: {model: elsewhere}, expect: {}}]")
    (folder / "mine.test.yaml").write_text("tests:\n- {name: b, request: {model: support}, expect: {route: strong}}")
    loaded = load(folder / "pointsman.yaml", env={})
    assert not has_errors(loaded.problems)
    assert [(placed.test.name, Path(placed.file).name, placed.line) for placed in loaded.tests] == [
        ("b", "mine.test.yaml", 2)
    ]


def test_paths_are_relative_to_the_file_that_names_them(folder: Path) -> None:
    """An included file in another folder finds its prompts and secrets beside itself."""
    inner = folder / "teams" / "sales"
    inner.mkdir(parents=True)
    (inner / "sales.yaml").write_text(
        "prompts: {sales: p/}\nkeys: [{name: b, key: file:b-key}]\n"
        "policies: {sales: {default: {model: strong, prompt: sales@7}}}\n"
    )
    (inner / "b-key").write_text("b-secret")
    (inner / "p").mkdir()
    (inner / "p" / "7.yaml").write_text("messages: [{system: Sell.}]")
    (folder / "pointsman.yaml").write_text("include: teams/*/*.yaml\n" + BASE)
    snapshot = snapshot_of(folder)
    assert snapshot.keys.caller(b"Bearer b-secret").key == "b"
    assert sorted(snapshot.services) == ["sales", "support"]


def test_the_holder_swaps_one_reference(folder: Path) -> None:
    first = snapshot_of(folder)
    holder = Holder(first)
    second = snapshot_of(folder)
    assert holder.swap(second) is first
    assert holder.snapshot is second


def test_a_forwarding_model_asks_for_the_name_and_its_price(tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_text(
        "upstreams: {openai: {base_url: https://api.openai.com/v1}}\npolicies: {'*': {model: request}}\n"
    )
    model = snapshot_of(tmp_path).models["request@openai"]
    assert model.forwards
    asked = model.asking("gpt-4o")
    assert (asked.name, asked.endpoints[0].model, asked.forwards) == ("request@openai", "gpt-4o", False)
    assert asked.price is not None
    assert model.asking("nobody-knows-this").price is None


def test_links_in_a_circle_are_a_problem(folder: Path) -> None:
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "pointsman.yaml").write_text("include: [loop.yaml]\n" + BASE.replace("prompts/", "loop.yaml"))
    assert {problem.code for problem in load(folder / "pointsman.yaml", env={}).problems} >= {"file-not-found"}
    assert load(folder / "loop.yaml", env={}).snapshot is None


def test_a_folder_that_cannot_be_read_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    problems = load(folder / "pointsman.yaml", env={}).problems
    assert [(problem.code, problem.line) for problem in problems] == [("file-unreadable", 8)]


# Words that mean something to the config, in places where they may not belong.
WORDS = st.sampled_from(
    [
        "version",
        "server",
        "listen",
        "keys",
        "upstreams",
        "models",
        "prompts",
        "policies",
        "routes",
        "rules",
        "default",
        "split",
        "sticky",
        "conditions",
        "when",
        "route",
        "model",
        "prompt",
        "fallback",
        "to",
        "if",
        "baseline",
        "caller_prompt",
        "at",
        "endpoints",
        "weight",
        "price",
        "input",
        "output",
        "support@*",
        "rest",
        "25%",
        "strong",
        "one",
        "any",
        "all",
        "not",
        "header.x",
        "tools",
        "${X}",
        "${X:-1}",
        "file:x",
        "request",
        "*",
        "127.0.0.1:80",
        "http://a/v1",
        "include",
        "tests",
        "above",
        "params",
        "set",
        "drop",
        "timeouts",
        "total",
        "2s",
        "messages",
        "system",
        "name",
    ]
)
DATA = st.recursive(
    st.one_of(WORDS, st.none(), st.booleans(), st.integers(-5, 300), st.floats(0, 9), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=25,
)
SECTIONS = st.sampled_from([*Config.model_fields, "polices"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(SECTIONS, DATA, max_size=6), st.booleans())
def test_any_data_gives_a_snapshot_or_problems(tmp_path: Path, data: dict[str, Any], strict: bool) -> None:
    """Whatever is written: no exception, every problem inside a file, and no snapshot beside an error."""
    data.pop("include", None)
    check_sane(tmp_path, yaml.safe_dump(data, allow_unicode=True, sort_keys=False), strict)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_good_config_with_one_thing_changed(tmp_path: Path, data: st.DataObject) -> None:
    """Any value of the demo replaced by anything else."""
    source = Path(__file__).parents[3] / "policies" / "examples" / "demo.yaml"
    config = parse(source.read_text(), "demo.yaml").plain()
    node: Any = config
    while isinstance(node, dict | list) and node:
        step = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[step], dict | list) or data.draw(st.booleans()):
            node[step] = data.draw(DATA)
            break
        node = node[step]
    check_sane(tmp_path, yaml.safe_dump(config, allow_unicode=True, sort_keys=False), strict=False)


def check_sane(folder: Path, text: str, strict: bool) -> None:
    (folder / "pointsman.yaml").write_text(text, encoding="utf-8", errors="replace")
    loaded: Loaded = load(folder / "pointsman.yaml", env={}, strict_env=strict)
    assert (loaded.snapshot is None) == has_errors(loaded.problems)
    for problem in loaded.problems:
        assert problem.line >= 1
        assert problem.col >= 1
        assert problem.message.strip()
    as_text(loaded.problems, loaded.sources, loaded.secrets)
