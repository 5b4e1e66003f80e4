"""`pointsman check`: every problem of a config, sorted by place."""

import sys
from typing import Annotated

import typer

from proxy.cli.offline import hint_at_init
from proxy.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile
from proxy.cli.terminal import problem_painter


def check(
    config: ConfigFile = DEFAULT_CONFIG,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    no_env: Annotated[
        bool, typer.Option("--no-env", help="Missing variables and secret files are no mistakes (for CI).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a config: all problems at once, with their places.

    Exits with 1 when there are errors (with --strict: or warnings).
    """
    from proxy.config import problems as report
    from proxy.config.load import load

    loaded = load(config, strict_env=not no_env)
    problems = loaded.problems
    if as_json:
        typer.echo(report.as_json(problems))
    elif problems:
        typer.echo(report.as_text(problems, loaded.sources, loaded.secrets, problem_painter(sys.stdout)))
    typer.echo(report.summary(problems, len(loaded.sources)), err=True)
    hint_at_init(config)
    if report.has_errors(problems) or (strict and problems):
        raise typer.Exit(1)
