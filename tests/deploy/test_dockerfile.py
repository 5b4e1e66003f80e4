"""The Dockerfile, read line by line: what it copies reaches it, and what it installs is locked."""

import fnmatch
import json
import re
from pathlib import Path

from tests.deploy.prometheus import DEPLOY

ROOT = DEPLOY.parent
TEXT = (DEPLOY / "Dockerfile").read_text()
LINES = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [line.partition(" ")[::2] for line in LINES]
SECOND = [i for i, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM"][1]
BUILD, FINAL = INSTRUCTIONS[:SECOND], INSTRUCTIONS[SECOND:]


def given(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest.strip() for name, rest in stage if name == word]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the build."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/")):
            sent = line.startswith("!")
    return sent


def test_base_is_pinned() -> None:
    (version,) = (rest for word, rest in BUILD if word == "ARG")
    assert re.fullmatch(r"PYTHON=\d+\.\d+\.\d+-slim-\w+", version)
    assert [rest.split()[0] for word, rest in INSTRUCTIONS if word == "FROM"] == ["python:${PYTHON}"] * 2


def test_copies_what_exists_and_is_sent() -> None:
    sources = [source for line in given(BUILD, "COPY") for source in line.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert is_sent(source.rstrip("/")), f".dockerignore keeps {source} out"


def test_sends_nothing_else() -> None:
    private = (".git", ".venv", "tests", "deploy/compose.yaml", "pointsman.yaml", ".env", "proxy/__pycache__")
    assert [path for path in private if is_sent(path)] == []


def test_copies_all_that_the_wheel_needs() -> None:
    """The packages and files that pyproject.toml names."""
    project = (ROOT / "pyproject.toml").read_text()
    packages = json.loads(re.search(r"\[tool\.hatch\.build\.targets\.wheel\]\npackages = (\[.*\])", project)[1])  # type: ignore[index]
    copied = {source.rstrip("/") for line in given(BUILD, "COPY") for source in line.split()[:-1]}
    assert {*packages, "pyproject.toml", "README.md", "LICENSE"} <= copied


def test_installs_with_hashes_and_without_compiling() -> None:
    installs = [run for run in given(BUILD, "RUN") if "pip install" in run and "-r " in run]
    assert len(installs) == 1
    assert "--require-hashes --only-binary=:all: -r deploy/locks/demo.txt" in installs[0]
    locked = (DEPLOY / "locks/demo.txt").read_text()
    removed = re.search(r"pip uninstall -y (.+) pip", " ".join(given(BUILD, "RUN")))
    assert removed
    assert all(f"\n{name}==" in locked for name in removed[1].split())


def test_last_stage_only_copies() -> None:
    """No package manager runs in what is shipped, and nothing comes from the build but the environment."""
    assert given(FINAL, "RUN") == []
    assert given(FINAL, "COPY") == ["--from=build /opt/pointsman /opt/pointsman"]


def test_runs_as_a_number_that_is_not_root() -> None:
    (user,) = given(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


def test_health_check_is_a_program_that_compiles() -> None:
    (check,) = given(FINAL, "HEALTHCHECK")
    words = json.loads(check.partition(" CMD ")[2])
    assert words[:2] == ["python", "-c"]
    compile(words[2], "HEALTHCHECK", "exec")
    assert "8081" in words[2]
    assert "/readyz" in words[2]


def test_labels() -> None:
    (labels,) = given(FINAL, "LABEL")
    names = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels))
    assert names == {"title", "description", "licenses", "version", "revision"}


def test_versions_agree() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"ARG VERSION={version[1]}" in TEXT
    assert f"newTag: {version[1]}" in (DEPLOY / "kubernetes/kustomization.yaml").read_text()


def test_default_command_reads_the_config_that_others_mount() -> None:
    (command,) = given(FINAL, "CMD")
    assert given(FINAL, "ENTRYPOINT") == ['["pointsman"]']
    config = Path(json.loads(command)[-1])
    assert config == Path("/etc/pointsman/pointsman.yaml")
