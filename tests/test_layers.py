"""Who may import whom: `policies` and `routes` are pure leaves, `proxy` is the only shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What the leaves may use: values, text and arithmetic. No waiting, clocks, chance, network or files.
PURE = {
    "ast", "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "hashlib", "itertools", "json", "math", "operator", "re", "string", "struct", "types",
    "typing", "unicodedata", "zoneinfo",
}  # fmt: skip
THIRD_PARTY = {"policies": {"re2"}, "routes": {"minijinja", "orjson"}}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("leaf", ["policies", "routes"])
def test_leaves_import_only_values_and_themselves(leaf: str) -> None:
    """Neither leaf sees the other, the proxy, a clock or the network."""
    for path in sorted((ROOT / leaf).rglob("*.py")):
        stray = imported(path) - PURE - THIRD_PARTY[leaf] - {leaf, "__future__"}
        assert not stray, f"{path.relative_to(ROOT)} imports {sorted(stray)}"


@pytest.mark.parametrize("leaf", ["policies", "routes"])
def test_leaves_never_wait(leaf: str) -> None:
    for path in sorted((ROOT / leaf).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path}:{node.lineno} waits"


@pytest.mark.parametrize(
    ("library", "where"),
    [("litellm", "proxy/upstreams"), ("prometheus_client", "proxy/meter"), ("yaml", "proxy/config")],
)
def test_each_heavy_library_has_one_home(library: str, where: str) -> None:
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        if library in imported(path):
            assert path.is_relative_to(ROOT / where), f"{path.relative_to(ROOT)} imports {library}"
