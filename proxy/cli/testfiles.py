"""Further files of policy tests: read and checked like those beside the config."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.cli.offline import usage_error
from proxy.config.document import Node
from proxy.config.expand import expand
from proxy.config.files import Files
from proxy.config.load import Loaded, PlacedTest
from proxy.config.problems import did_you_mean
from proxy.config.validate import validate
from proxy.config.values import shown

PATTERN = "*.test.yaml"


def find(paths: Iterable[str]) -> Iterator[Path]:
    """The files that are meant: themselves, or all `*.test.yaml` below a folder."""
    for name in paths:
        path = Path(name)
        if path.is_dir():
            below = sorted(path.rglob(PATTERN))
            if not below:
                usage_error(f"no {PATTERN} in {path}")
            yield from below
        elif path.is_file():
            yield path
        else:
            usage_error(f"no such file or folder: {path}")


def read(paths: Iterable[Path], loaded: Loaded) -> tuple[list[PlacedTest], Files]:
    """The tests of files that the config did not bring itself; what is wrong with them is in `Files.problems`."""
    files = Files(env=os.environ, strict_env=False)
    seen = {Path(file).resolve() for file in loaded.files}
    tests: list[PlacedTest] = []
    for path in paths:
        if path.resolve() not in seen:
            seen.add(path.resolve())
            tests += _tests(path, files)
    return tests, files


def _tests(path: Path, files: Files) -> Iterator[PlacedTest]:
    node = files.read(path)
    if node is None:
        return
    node = expand(node, files.env, None)
    if not isinstance(node.value, dict):
        files.report(
            node.place, "error", "wrong-type", f"a test file is a map with `tests`, not {shown(node.plain())}"
        )
        return
    for key in node.value.keys() - {"tests"}:
        message = f"unknown key {key!r} in a test file, which only has `tests`; a config is given with --config"
        files.report(node.keys[key], "error", "unknown-key", message, did_you_mean(key, ["tests"]))
    written = {key: child for key, child in node.value.items() if key == "tests" and child.value is not None}
    valid = validate(Node(written, node.place, node.keys))
    files.problems += valid.problems
    for index, test in enumerate(valid.config.tests if valid.config else ()):
        place = valid.root.place_of(("tests", index))
        yield PlacedTest(test, place.file, place.line)
