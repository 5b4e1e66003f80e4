"""What the commands that serve nothing share: a config without its secrets, and a caller as options name it."""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from proxy.cli.terminal import problem_painter

if TYPE_CHECKING:
    from proxy.config.load import Loaded
    from proxy.config.problems import Problem
    from proxy.keys import Caller
    from proxy.runtime import Snapshot


def usage_error(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def load_offline(config: Path, *, as_json: bool = False) -> "tuple[Loaded, Snapshot]":
    """The config, fit for looking at: secrets may be missing. Its errors are told and end the command with 1.

    `as_json`: on standard output, as `check --json` tells them.
    """
    from proxy.config import problems as report
    from proxy.config.load import load

    loaded = load(config, strict_env=False)
    if loaded.snapshot is not None:
        return loaded, loaded.snapshot
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    tell(errors, loaded.sources, loaded.secrets, as_json=as_json)
    typer.echo(report.summary(errors, len(loaded.sources)), err=True)
    hint_at_init(config)
    raise typer.Exit(1)


def tell(
    problems: "Sequence[Problem]", sources: Mapping[str, str], secrets: Collection[str], *, as_json: bool
) -> None:
    """What is wrong: for a program on standard output, for a person on standard error."""
    from proxy.config import problems as report

    if as_json:
        typer.echo(report.as_json(problems))
    else:
        typer.echo(report.as_text(problems, sources, secrets, problem_painter(sys.stderr)), err=True)


def hint_at_init(config: Path) -> None:
    if not config.exists():
        typer.echo("`pointsman init` writes a config to start from", err=True)


def headers_of(lines: Iterable[str]) -> dict[bytes, bytes]:
    """`name: value` lines as the server reads them: names in lower case, repeated ones joined."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        if not colon or not name.strip():
            usage_error(f"{line!r} is not a header: write 'name: value'")
        raw, key = text.strip().encode("utf-8"), name.strip().lower().encode("utf-8")
        headers[key] = headers[key] + b", " + raw if key in headers else raw
    return headers


def caller_named(snapshot: "Snapshot", headers: dict[bytes, bytes], key: str | None, tenant: str | None) -> "Caller":
    """Raises `Unauthorized`, as serving would, for a wrong `Authorization` header."""
    from proxy.config.problems import did_you_mean
    from proxy.explain import caller_of

    names = [caller.key for caller in snapshot.keys.callers.values()]
    if key is not None and key not in names:
        hint = did_you_mean(key, names) or (f"there are {', '.join(names)}" if names else "the config has no `keys:`")
        usage_error(f"no key {key!r}; {hint}")
    return caller_of(snapshot, headers, key, tenant)


def moment(text: str) -> float:
    """An ISO time with its offset in Unix seconds."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        usage_error(f"{text!r} is not a time like 2026-11-21T23:00:00+01:00")
    if when.tzinfo is None:
        usage_error(f"{text!r} lacks its offset, e.g. +01:00 or Z")
    return when.timestamp()
