"""A load's answers give the same load again, whatever has become of the files."""

import json
import os
import shutil
from pathlib import Path

import pytest

from proxy.config.disk import Disk
from proxy.config.document import Refused
from proxy.config.load import load

CONFIG = """
include: [conf.d/*.yaml, more.yaml]
keys: [{name: a, key: file:caller}]
prompts: {folder: prompts, file: prompts/1.yaml}
models: {m: {base_url: "https://m.test/v1", tls: {ca: ca.pem}, price: {input: 2, output: 8}}}
policies:
  p: {default: {model: m, prompt: folder@2}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "prompts").mkdir()
    for name, text in {
        "pointsman.yaml": CONFIG,
        "conf.d/one.yaml": "policies: {q: {model: m}}\n",
        "more.yaml": "policies: {r: {default: {model: m, prompt: file@1}}}\n",
        "caller": "caller-secret\n",
        "ca.pem": "some certificate",
        "prompts/1.yaml": "messages: [{system: Hi.}]\n",
        "prompts/2.yaml": "messages: [{system: {file: two.md}}]\n",
        "prompts/two.md": "You are two.",
        "pointsman.test.yaml": "tests: [{name: a, request: {model: p}, expect: {model: m}}]\n",
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("then", ["gone", "broken", "other"])
def test_answers_give_the_same_load(folder: Path, then: str) -> None:
    main = folder / "pointsman.yaml"
    first = load(main, env={})
    assert first.snapshot is not None, first.problems
    if then == "gone":
        shutil.rmtree(folder)
    else:
        for path in filter(os.path.isfile, folder.rglob("*")):
            path.write_text("policies: [" if then == "broken" else path.read_text().replace("o", "0"))
        (folder / "conf.d" / "new.yaml").write_text("policies: {new: {model: m}}")
    again = load(main, env={}, answers=json.loads(json.dumps(first.snapshot.answers)))
    assert again.problems == first.problems
    assert again.snapshot is not None
    assert again.snapshot.hash == first.snapshot.hash
    assert again.snapshot.models == first.snapshot.models
    assert again.snapshot.keys.callers == first.snapshot.keys.callers
    assert again.files == first.files
    [route] = again.snapshot.services["p"].routes.values()
    prompt = route.prompt
    assert prompt is not None
    assert prompt.messages[0].text == "You are two."


def test_each_question_is_asked_once(tmp_path: Path) -> None:
    disk, path = Disk(), tmp_path / "file"
    path.write_text("one")
    asked = (disk.text, disk.fingerprint, disk.files, disk.is_folder, disk.exists, disk.real)

    def ask() -> list[object]:
        return [each(path, "file") if each == disk.text else each(path) for each in asked]  # type: ignore[operator]

    before = [*ask(), disk.names(tmp_path)]
    path.unlink()
    assert [*ask(), disk.names(tmp_path)] == before
    assert Disk(disk.answers).text(path, "file") == "one"


def test_what_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    disk, path = Disk(), tmp_path / "file"
    with pytest.raises(Refused):
        disk.text(path, "file")
    path.write_text("one")
    assert disk.text(path, "file") == "one"


@pytest.mark.parametrize("where", ["within", "elsewhere"])
def test_the_folder_that_we_were_started_in_may_be_deleted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As old releases are, while the process serves on."""
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(folder if where == "within" else tmp_path / "old")
    main = "pointsman.yaml" if where == "within" else folder / "pointsman.yaml"
    first = load(main, env={})
    assert first.snapshot is not None, first.problems
    shutil.rmtree(Path.cwd())
    again = load(main, env={}, answers=json.loads(json.dumps(first.snapshot.answers)))
    assert again.snapshot is not None, again.problems
    assert again.snapshot.hash == first.snapshot.hash
    if where == "elsewhere":
        assert load(main, env={}).snapshot is not None
