"""One YAML file as a tree of nodes that know their places. Knows YAML, nothing of what the keys mean.

Scalars follow YAML 1.2's core schema, so `on`, `no`, `22:00`, `010` and dates are strings. What a config never needs
is refused: tags, merge keys, several documents, deep nesting, aliases that multiply.
"""

import errno
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from proxy.config.problems import Problem

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000  # with aliases written out: what a bomb would unfold to
LONG: Final = 1_000  # characters of a text that count as one more value

PathKey: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")  # `010` is a string: half the world reads it as 8
_HEX_OCT = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written; line and column count from 1, columns in characters."""

    file: str
    line: int = 1
    col: int = 1


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place; a map also knows the places of its keys."""

    value: "Scalar | dict[str, Node] | list[Node]"
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    block: bool = False  # a `|` or `>` text: its first line is on the next line

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, step: str | int) -> "Node | None":
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            return self.value[step]
        return None

    def at(self, path: PathKey) -> "Node | None":
        node: Node | None = self
        for step in path:
            node = node.child(step) if node is not None else None
        return node

    def place_of(self, path: PathKey, *, key: bool = False) -> Place:
        """The place of the value at `path` (or of its key), else of the nearest thing around it."""
        node, key_place = self, self.place
        for step in path:
            child = node.child(step)
            if child is None:
                return key_place if node is not self else node.place
            key_place = node.keys.get(str(step), child.place) if isinstance(node.value, dict) else child.place
            node = child
        return key_place if key else node.place


def scalar(text: str) -> Scalar:
    """What a plain scalar means in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text) and len(text) < 40:
        return int(text)
    if _HEX_OCT.match(text) and len(text) < 40:
        return int(text, 0)
    if _FLOAT.match(text) and not _LEADING_ZERO.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


class Refused(Exception):
    """The file cannot be read as a config; carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def parse(text: str, file: str) -> Node:
    """Read one YAML document. An empty one is an empty map. Raises `Refused`."""
    reader = _Reader(file)
    try:
        root = reader.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as broken:
        mark = broken.problem_mark or broken.context_mark
        line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Refused(_syntax(file, line, col, str(broken.problem or broken.context), text)) from None
    except yaml.reader.ReaderError as broken:
        line, col = _line_col(text, broken.position)
        message = f"a character that YAML does not allow: {chr(broken.character)!r}"
        raise Refused(Problem(file, line, col, "error", "yaml-syntax", message)) from None
    if root.value is None:
        return Node({}, root.place)
    return root


def read_text(path: Path, file: str) -> str:
    """The file's text. Raises `Refused` for what is unreadable, too large or not UTF-8."""

    def refuse(code: str, message: str, suggestion: str | None = None) -> Refused:
        return Refused(Problem(file, 1, 1, "error", code, message, suggestion))

    try:
        data = read_bytes(path, MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("file-not-found", f"no such file: {file}") from None
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else str(failed)
        raise refuse("file-unreadable", f"cannot read {file}: {reason}") from None
    if len(data) > MAX_BYTES:
        raise refuse("file-too-large", f"{file} is larger than {MAX_BYTES // 1024 // 1024} MiB")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("not-utf8", f"{file} is UTF-16", "save it as UTF-8")
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()  # editors on Windows like to write the mark
    except UnicodeDecodeError as broken:
        line, col = _line_col(data[: broken.start].decode("utf-8", "replace"), broken.start)
        message = f"byte 0x{data[broken.start]:02x} is not UTF-8"
        raise Refused(Problem(file, line, col, "error", "not-utf8", message, "save it as UTF-8")) from None


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The file's first bytes. Raises OSError, also for a pipe with a name: it would be waited for, for ever.

    Pipes without a name are a shell's `<(...)`, and have a writer.
    """
    with open(path, "rb", opener=_without_waiting) as opened:
        if stat.S_ISFIFO(os.fstat(opened.fileno()).st_mode):
            if not os.path.realpath(path).startswith("/proc/"):
                raise OSError(errno.EINVAL, "it is a pipe, not a file")
            os.set_blocking(opened.fileno(), True)
        data: bytes | None = opened.read(most)
        if data is None:
            raise OSError(errno.EINVAL, "it is a terminal, not a file")
        return data


def _without_waiting(path: str, _: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _line_col(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


_PLAINER: Final = {
    "found character that cannot start any token": "a character that cannot begin a value here",
    "mapping values are not allowed in this context": "a `key: value` is not possible here",
    "did not find expected key": "the indentation does not fit, or a quote or bracket is not closed",
    "did not find expected '-' indicator": "expected another `- item` of the list, or a smaller indentation",
    "did not find expected ',' or '}'": "expected `,` or `}`",
    "did not find expected ',' or ']'": "expected `,` or `]`",
    "found unexpected end of stream": "the file ends inside a quoted text",
    "could not find expected ':'": "expected a `:` after the key",
    "did not find expected node content": "expected a value",
    "found undefined alias": "no anchor of that name before this alias",
    "block sequence entries are not allowed in this context": "a `- item` is not possible here",
}


def _syntax(file: str, line: int, col: int, reason: str, text: str) -> Problem:
    lines = text.split("\n")
    rest = lines[line - 1][col - 1 :] if line <= len(lines) else ""
    if rest.startswith("\t"):
        return Problem(file, line, col, "error", "yaml-syntax", "a tab", "YAML is indented with spaces")
    if rest.startswith("{") and lines[line - 1][: col - 1].endswith("$"):
        message = "`${...}` inside `{...}` or `[...]`"
        return Problem(file, line, col - 1, "error", "yaml-syntax", message, "put it in quotes")
    if rest[:1] in "@`%" and rest:
        message = f"a plain text cannot begin with {rest[0]!r}"
        return Problem(file, line, col, "error", "yaml-syntax", message, "put it in quotes")
    return Problem(file, line, col, "error", "yaml-syntax", _PLAINER.get(reason, reason))


@dataclass(slots=True)
class _Reader:
    """Builds nodes from the parser's events, so that tags, styles and aliases are still visible."""

    file: str
    anchors: dict[str, tuple[Node, int, int]] = field(default_factory=dict)  # node, its size, its height
    nodes: int = 0
    deepest: int = 0  # level reached within the node being read

    def document(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self.refuse(event, "yaml-documents", "a second document", "a config is one; use `include`")
            if isinstance(event, yaml.NodeEvent):
                root = self.node(event, events, 0)
        return root or Node(None, Place(self.file))

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        self.count(event, 1)
        self.descend(event, depth)
        if event.tag is not None and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.refuse(event, "yaml-tag", f"the tag {tag} is not allowed", "quote a value to make it text")
        size, deepest, self.deepest = self.nodes, self.deepest, depth
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.style in (None, "")
            value = scalar(event.value) if plain else event.value
            self.count(event, len(event.value) // LONG)
            node = Node(value, self.place(event), block=event.style in ("|", ">"))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, events, depth)
        else:
            node = self.mapping(event, events, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.nodes - size + 1, self.deepest - depth)
        self.deepest = max(self.deepest, deepest)
        return node

    def sequence(self, start: Any, events: Iterator[Any], depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.node(event, events, depth + 1))
        return Node(items, self.place(start))

    def mapping(self, start: Any, events: Iterator[Any], depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.key(event, events, depth)
            if key in values:
                message = f"the key {key!r} is here twice, first on line {keys[key].line}"
                raise self.refuse(event, "duplicate-key", message)
            keys[key] = self.place(event)
            values[key] = self.node(next(events), events, depth + 1)
        return Node(values, self.place(start), keys)

    def key(self, event: Any, events: Iterator[Any], depth: int) -> str:
        """A key is its text: `3: ...` is the key "3". Anything but a scalar is refused."""
        node = self.node(event, events, depth + 1)
        if isinstance(node.value, dict | list):
            suggestion = "quote `${...}` and `{{ ... }}`" if isinstance(node.value, dict) else None
            raise self.refuse(event, "yaml-key", "a key must be text", suggestion)
        if not isinstance(event, yaml.ScalarEvent):
            return str(node.value)
        if event.value == "<<" and event.implicit[0]:
            raise self.refuse(event, "yaml-merge", "merge keys (`<<`) are not supported", "write the keys out")
        if event.value == "" or event.value == "~":
            raise self.refuse(event, "yaml-key", "an empty key")
        return str(event.value)

    def alias(self, event: Any, depth: int) -> Node:
        if event.anchor not in self.anchors:
            message = f"no finished anchor '&{event.anchor}' before this alias"
            raise self.refuse(event, "yaml-alias", message)
        node, size, height = self.anchors[event.anchor]
        self.count(event, size)
        self.descend(event, depth + height)
        return node

    def descend(self, event: Any, depth: int) -> None:
        self.deepest = max(self.deepest, depth)
        if depth > MAX_DEPTH:
            raise self.refuse(event, "yaml-depth", f"nested deeper than {MAX_DEPTH} levels")

    def count(self, event: Any, more: int) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise self.refuse(event, "yaml-too-large", f"more than {MAX_NODES:,} values, aliases written out")

    def place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def refuse(self, event: Any, code: str, message: str, suggestion: str | None = None) -> Refused:
        place = self.place(event)
        return Refused(Problem(self.file, place.line, place.col, "error", code, message, suggestion))


def without(root: Node, paths: Sequence[PathKey]) -> Node:
    """A copy of the tree that lacks the nodes at these paths; every other node keeps its place."""
    here = {path[0] for path in paths if len(path) == 1}
    below: dict[str | int, list[PathKey]] = {}
    for path in paths:
        if len(path) > 1:
            below.setdefault(path[0], []).append(path[1:])

    def keep(step: str | int, child: Node) -> Node:
        return without(child, below[step]) if step in below else child

    if isinstance(root.value, dict):
        values = {key: keep(key, child) for key, child in root.value.items() if key not in here}
        return Node(values, root.place, root.keys)
    if isinstance(root.value, list):
        items = [keep(index, child) for index, child in enumerate(root.value) if index not in here]
        return Node(items, root.place)
    return root
