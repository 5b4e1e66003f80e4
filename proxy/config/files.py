"""The files of a config: the main one, what it includes and the tests beside it, read and merged into one tree.

Knows which sections may be shared between files; every other key belongs to the main file.
"""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.config.disk import Disk
from proxy.config.document import Node, Place, Refused, parse
from proxy.config.expand import expand
from proxy.config.fingerprint import Fingerprint
from proxy.config.problems import Problem, Severity, did_you_mean
from proxy.config.schema import SHARED, Config
from proxy.config.values import is_unknown, shown

_LISTS: Final = ("keys", "tests")
MAX_FILES: Final = 2000


@dataclass(slots=True)
class Files:
    """What a load found: `sources`, texts by shown name, for excerpts; `seen`, all that it looked at, for watching.

    Folders are in `seen` where a glob or a prompt looked into them.
    """

    sources: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Fingerprint] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)
    strict_env: bool = True  # a variable that is not set is an error
    disk: Disk = field(default_factory=Disk)

    def report(
        self, place: Place, severity: Severity, code: str, message: str, suggestion: str | None = None
    ) -> None:
        self.problems.append(Problem(place.file, place.line, place.col, severity, code, message, suggestion))

    def see(self, path: Path) -> Fingerprint:
        """Note what is at `path`. Before it is read: what changes in between is then a change, and not lost."""
        if str(path) not in self.seen:
            self.seen[str(path)] = self.disk.fingerprint(path)
        return self.seen[str(path)]

    def text(self, path: Path) -> str:
        """What the file says, noted as seen. Raises `Refused`."""
        self.see(path)
        return self.disk.text(path, shown_path(path))

    def read(self, path: Path) -> Node | None:
        """One YAML file as a tree; None, with a problem noted, when it cannot be one."""
        try:
            text = self.text(path)
        except Refused as refused:
            self.problems.append(refused.problem)
            return None
        return self.parsed(path, text)

    def parsed(self, path: Path, text: str) -> Node | None:
        name = shown_path(path)
        self.sources[name] = text
        try:
            return parse(text, name)
        except Refused as refused:
            self.problems.append(refused.problem)
            return None


def shown_path(path: Path) -> str:
    """As people would type it from where they are."""
    try:
        relative = os.path.relpath(path)
    except FileNotFoundError:  # where they were has been deleted, as an old release is
        return str(path)
    return str(path) if relative.startswith("..") else relative


def read_all(main: Path, files: Files, *, tests: bool = True) -> Node:
    """The main file with everything it includes (and `*.test.yaml` beside it) merged in."""
    merged = _Merged(files)
    merged.add_file(main, stack=())
    if tests:
        for path in _tests_beside(main, merged.read, files.disk):
            merged.add_file(path, stack=(files.disk.real(main),))
    return merged.tree()


def _tests_beside(main: Path, read: set[Path], disk: Disk) -> list[Path]:
    """The test files in the main file's folder, but not those named after another config there."""
    found = []
    for path in disk.files(main.parent / "*.test.yaml"):
        owner = path.with_name(path.name.removesuffix(".test.yaml") + ".yaml")
        if not disk.exists(owner) or disk.real(owner) in read:
            found.append(path)
    return found


class _Merged:
    """The sections of all files, put together name by name."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.read: set[Path] = set()
        self.top: dict[str, Node] = {}
        self.places: dict[str, Place] = {}
        self.root: Place | None = None

    def tree(self) -> Node:
        return Node(self.top, self.root or Place("config"), self.places)

    def add_file(self, path: Path, stack: tuple[Path, ...]) -> None:
        real = self.files.disk.real(path)
        if real in self.read or len(self.read) >= MAX_FILES:
            return
        self.read.add(real)
        node = self.files.read(path)
        if node is not None:
            missing = self.files.problems if self.files.strict_env else []
            node = expand(node, self.files.env, missing)
        if self.root is None:
            self.root = node.place if node else Place(shown_path(path))
        if node is None:
            return
        if not isinstance(node.value, dict):
            self.files.report(node.place, "error", "wrong-type", f"a config is a map, not {shown(node.plain())}")
            return
        if not node.value and not stack:  # most likely caught while being written
            self.files.report(node.place, "error", "empty-config", f"{shown_path(path)} is empty")
        for key, child in node.value.items():
            self.add_section(key, child, node.keys[key], is_main=not stack)
        self.include(node.value.get("include"), path, (*stack, real))

    def add_section(self, key: str, child: Node, place: Place, *, is_main: bool) -> None:
        if not is_main and key not in SHARED and key != "include":
            code, message = "unknown-key", f"unknown key {key!r} in an included file"
            if key in Config.model_fields:
                code, message = "included-key", f"`{key}` belongs in the main file"
            self.files.report(place, "error", code, message, did_you_mean(key, SHARED))
        elif key == "include" or (child.value is None and key in Config.model_fields):
            return  # followed apart; and a section whose entries are all commented out is no mistake
        elif key not in self.top:
            self.top[key], self.places[key] = child, place
        else:
            self.top[key] = self.join(key, self.top[key], child)

    def join(self, key: str, old: Node, new: Node) -> Node:
        if key in _LISTS and isinstance(old.value, list) and isinstance(new.value, list):
            return Node([*old.value, *new.value], old.place)
        if not isinstance(old.value, dict) or not isinstance(new.value, dict):
            if key in _LISTS or not isinstance(new.value, dict):
                expected = "a list" if key in _LISTS else "a map"
                self.files.report(new.place, "error", "wrong-type", f"`{key}` must be {expected}")
            return old
        for name in old.value.keys() & new.value.keys():
            first = old.keys[name]
            message = f"the {SHARED[key]} {name!r} is already at {first.file}:{first.line}:{first.col}"
            self.files.report(new.keys[name], "error", "duplicate-name", message)
        return Node(new.value | old.value, old.place, new.keys | old.keys)

    def include(self, globs: Node | None, path: Path, stack: tuple[Path, ...]) -> None:
        if globs is None:
            return
        for pattern in globs.value if isinstance(globs.value, list) else [globs]:
            if is_unknown(pattern.value):
                continue
            if isinstance(pattern.value, str):
                self.include_glob(pattern.value, pattern.place, path, stack)
            else:
                message = f"`include` is a glob or a list of globs, not {shown(pattern.plain())}"
                self.files.report(pattern.place, "error", "wrong-type", message)

    def include_glob(self, pattern: str, place: Place, path: Path, stack: tuple[Path, ...]) -> None:
        is_glob = glob.has_magic(pattern)
        if "\0" in pattern:
            self.files.report(place, "error", "bad-value", "a file name cannot hold a NUL")
            return
        base = path.parent / pattern
        self.files.see(_fixed_part(base))
        found = self.files.disk.files(base)
        if not found and is_glob:
            self.files.report(place, "warning", "include-nothing", f"no file matches {pattern!r}")
        elif not found:
            self.files.report(place, "error", "file-not-found", f"no such file: {shown_path(base)}")
        for match in found:
            if self.files.disk.real(match) in stack:
                if not is_glob:  # `include: '*.yaml'` meets itself and means the others
                    self.files.report(place, "error", "include-cycle", f"{shown_path(match)} leads back to this file")
                continue
            self.add_file(match, stack)


def _fixed_part(pattern: Path) -> Path:
    parts = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)
