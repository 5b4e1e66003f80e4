"""The one way in: files and environment to a snapshot, and every problem on the way."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.config.checks import check
from proxy.config.compile import compile_config
from proxy.config.disk import Answers, Disk
from proxy.config.document import Node
from proxy.config.draft import Draft
from proxy.config.files import Files, read_all
from proxy.config.fingerprint import Fingerprint
from proxy.config.plan import plan
from proxy.config.problems import Problem, has_errors, in_order
from proxy.config.prompts import read_library
from proxy.config.schema import SHARED, Test
from proxy.config.secrets import read_secrets
from proxy.config.validate import Validated, validate
from proxy.runtime import Snapshot
from proxy.upstreams.redact import SHORTEST, redact


@dataclass(frozen=True, slots=True)
class PlacedTest:
    """A policy test and where it stands."""

    test: Test
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading. `files` are to be watched also when there is no snapshot: one of them must change."""

    snapshot: Snapshot | None
    problems: list[Problem]
    files: Mapping[str, Fingerprint]
    sources: Mapping[str, str]  # texts by the names that problems use, for excerpts
    secrets: frozenset[str]  # to be masked in excerpts
    tests: tuple[PlacedTest, ...] = ()

    def __repr__(self) -> str:
        return f"Loaded({self.snapshot!r}, {len(self.problems)} problems)"


def load(
    path: str | Path,
    *,
    env: Mapping[str, str] | None = None,
    strict_env: bool = True,
    tests: bool = True,
    answers: Answers | None = None,
) -> Loaded:
    """Load a config. Never raises for what the files hold: that is in `problems`.

    Without `strict_env` variables and secret files that are missing are no mistakes, and the snapshot is fit for
    looking at, not for serving. `tests` also reads the `*.test.yaml` files beside the config. `answers`: of another
    load of it (`Snapshot.answers`), which this one is to equal.
    """
    files = Files(env=os.environ if env is None else env, strict_env=strict_env, disk=Disk(answers))
    root = read_all(Path(path), files, tests=tests)
    readable = not any(p.severity == "error" and p.code != "missing-variable" for p in files.problems)
    valid = validate(root)
    files.problems += valid.problems
    if valid.config is None:
        return _loaded(None, files, None, valid.root)
    draft = _draft(valid, root, files, whole=readable and not valid.problems)
    check(draft)
    snapshot = None if has_errors(files.problems) else compile_config(draft)
    return _loaded(snapshot, files, draft, valid.root)


def _draft(valid: Validated, root: Node, files: Files, *, whole: bool) -> Draft:
    assert valid.config is not None
    written = {section: _names(root, section) for section in SHARED}
    for policy in written["policies"]:
        written[f"routes of {policy}"] = _names(root, "policies", policy, "routes")
    return Draft(
        config=valid.config,
        root=valid.root,
        files=files,
        written=written,
        policies=plan(valid.config, valid.root),
        library=read_library(valid.config, valid.root, files),
        secrets=read_secrets(valid.config, valid.root, files),
        whole=whole,
    )


def _names(root: Node, *path: str) -> frozenset[str]:
    node = root.at(path)
    if node is None:
        return frozenset()
    return frozenset(node.value) if isinstance(node.value, dict) else frozenset(map(str, range(_length(node))))


def _length(node: Node) -> int:
    return len(node.value) if isinstance(node.value, list) else 0


def _loaded(snapshot: Snapshot | None, files: Files, draft: Draft | None, root: Node) -> Loaded:
    placed = []
    for index, test in enumerate(draft.config.tests if draft else ()):
        place = root.place_of(("tests", index))
        placed.append(PlacedTest(test, place.file, place.line))
    secrets = {secret.reveal() for secret in draft.secrets.values()} if draft else set()
    secrets = {secret for secret in secrets if len(secret) >= 4}
    return Loaded(
        snapshot=snapshot,
        problems=[masked(problem, secrets) for problem in in_order(files.problems)],
        files=files.seen,
        sources=files.sources,
        secrets=frozenset(secrets),
        tests=tuple(placed),
    )


def masked(problem: Problem, secrets: set[str]) -> Problem:
    """Without the secrets that a message may quote: someone wrote a key where something else belongs."""
    known = [secret for secret in secrets if len(secret) >= SHORTEST and not secret.startswith("${")]
    suggestion = problem.suggestion and redact(problem.suggestion, known)
    return replace(problem, message=redact(problem.message, known), suggestion=suggestion)
