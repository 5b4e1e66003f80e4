"""Prompt versions from folders, files and inline maps, compiled by `routes.prompt`.

`prompts/support/3.yaml` and the flat `support.3.yaml` are both support@3.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.config.document import Node, Place, Refused
from proxy.config.files import Files, shown_path
from proxy.config.problems import did_you_mean, suggest
from proxy.config.schema import Config
from proxy.config.values import is_unknown
from routes.problem import Problem
from routes.prompt import Prompt, PromptProblems, compile_prompt

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Version:
    """One version as written; `prompt` is None where it did not compile."""

    name: str
    version: str
    node: Node
    prompt: Prompt | None

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(slots=True)
class Library:
    """All prompts of a config: name -> version -> what is written."""

    versions: dict[str, dict[str, Version]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # names whose versions could not all be read
    texts: dict[str, str] = field(default_factory=dict)  # files that prompts quote, for the hash

    def find(self, ref: str) -> Version | None:
        """`support@3`, or `support`: its highest version."""
        name, at, version = ref.partition("@")
        versions = self.versions.get(name, {})
        return versions.get(version if at else latest(versions))

    def matching(self, ref: str) -> list[Version]:
        """The versions that `caller_prompt` means: `support@3`, or all of `support@*` and `support`."""
        name, _, version = ref.partition("@")
        versions = self.versions.get(name, {})
        if version in ("", "*"):
            return [versions[each] for each in in_order(versions)]
        return [versions[version]] if version in versions else []

    def suggest(self, ref: str) -> str | None:
        name, _, _ = ref.partition("@")
        if name not in self.versions:
            return did_you_mean(name, self.versions)
        known = ", ".join(f"{name}@{version}" for version in in_order(self.versions[name]))
        return f"there is {known}" if known else None


def in_order(versions: Mapping[str, Any]) -> list[str]:
    """Lowest first; numbers within a version count as numbers."""
    return sorted(versions, key=lambda v: [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in _parts(v)])


def _parts(version: str) -> list[str]:
    return re.findall(r"[0-9]+|[^0-9]+", version)


def latest(versions: Mapping[str, Any]) -> str:
    return in_order(versions)[-1] if versions else ""


def read_library(config: Config, root: Node, files: Files) -> Library:
    """Read and compile every prompt; problems go to `files`."""
    reader = _Reader(files, Library())
    for name in config.prompts:
        node = root.at(("prompts", name))
        assert node is not None
        reader.prompt(name, node)
    return reader.library


@dataclass(slots=True)
class _Reader:
    files: Files
    library: Library

    def prompt(self, name: str, node: Node) -> None:
        self.library.versions.setdefault(name, {})
        if isinstance(node.value, str):
            self.from_path(name, node.value, node.place)
            return
        assert isinstance(node.value, dict)
        for version, child in node.value.items():
            if is_unknown(child.value):
                self.library.broken.add(name)
            elif isinstance(child.value, str):
                self.from_file(name, version, _beside(child.place, child.value), child.place)
            else:
                folder = Path(child.place.file).parent
                self.add(name, version, child, node.keys[version], folder)

    def from_path(self, name: str, written: str, place: Place) -> None:
        if is_unknown(written):
            self.library.broken.add(name)
            return
        path = _beside(place, written)
        self.files.see(path)
        if self.files.disk.is_folder(path):
            self.from_folder(name, path, place)
        else:
            self.from_file(name, path.stem.removeprefix(f"{name}."), path, place)

    def from_folder(self, name: str, folder: Path, place: Place) -> None:
        try:
            inside = [folder / name for name in self.files.disk.names(folder)]
        except OSError as failed:
            self.library.broken.add(name)
            message = f"cannot read {shown_path(folder)}: {failed.strerror}"
            self.files.report(place, "error", "file-unreadable", message)
            return
        found = [p for p in inside if p.suffix in (".yaml", ".yml") and not p.name.startswith(".")]
        flat = [path for path in found if path.stem.startswith(f"{name}.")]
        for path in flat or found:
            self.from_file(name, path.stem.removeprefix(f"{name}."), path, place)
        if not found:
            self.library.broken.add(name)
            message = f"no prompt version in {shown_path(folder)}"
            self.files.report(place, "error", "unknown-version", message, f"add {shown_path(folder / '1.yaml')}")

    def from_file(self, name: str, version: str, path: Path, place: Place) -> None:
        try:
            text = self.files.text(path)
        except Refused as refused:
            self.library.broken.add(name)
            self.files.report(place, "error", refused.problem.code, refused.problem.message)
            return
        node = self.files.parsed(path, text)
        if node is None:
            self.library.broken.add(name)
        else:
            self.add(name, version, node, node.place, path.parent)

    def add(self, name: str, version: str, node: Node, place: Place, folder: Path) -> None:
        if not _VERSION.match(version):
            self.files.report(place, "error", "bad-name", f"{version!r} cannot be a prompt version")
            self.library.broken.add(name)
            return
        if version in self.library.versions[name]:
            self.files.report(place, "error", "duplicate-name", f"the prompt {name}@{version} is here twice")
            return
        prompt: Prompt | None = None
        found: tuple[Problem, ...]
        try:
            prompt = compile_prompt(name, version, node.plain(), self.reader_of(folder))
            found = prompt.warnings
        except PromptProblems as wrong:
            found = tuple(wrong.problems)
        for problem in found:
            message = f"{name}@{version}: {problem.message}"
            place = self.place_of(problem, node, folder)
            code = "wrong-type" if problem.code == "type" else problem.code
            self.files.report(place, problem.severity, code, message, suggest(problem.suggestion))
        self.library.versions[name][version] = Version(name, version, node, prompt)

    def place_of(self, problem: Problem, node: Node, folder: Path) -> Place:
        if problem.file is not None and problem.line is not None:
            return Place(shown_path(folder / problem.file), problem.line)
        at = node.at(problem.path)
        place = node.place_of(problem.path, key=problem.code.startswith("unknown-") and problem.line is None)
        if problem.line is not None and at is not None and at.block:
            return Place(place.file, place.line + problem.line)
        return place

    def reader_of(self, folder: Path) -> Callable[[str], str]:
        def read(written: str) -> str:
            path = folder / written
            try:
                text = self.files.text(path)
            except Refused as refused:
                raise OSError(refused.problem.message) from None
            self.library.texts[str(path)] = self.files.sources[shown_path(path)] = text
            return text

        return read


def _beside(place: Place, written: str) -> Path:
    return Path(place.file).parent / written
