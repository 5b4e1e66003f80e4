"""The command line: a table of commands, each imported when it is asked for.

A command is a function in its own module, with a typer signature and a docstring; what it needs beyond that it
imports inside, so that asking for help or checking a file never loads a server.
"""

import inspect
import os
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from proxy.config.problems import did_you_mean


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives, and what its help begins with."""

    module: str
    function: str
    examples: tuple[str, ...] = ()


# In the order of `--help`
COMMANDS: Final = {
    "serve": Command("proxy.cli.serve", "serve", ("pointsman serve", "pointsman serve -c prod.yaml --workers 4")),
    "demo": Command("proxy.cli.demo", "demo", ("pointsman demo", "pointsman demo --requests 500 --exit --json")),
    "init": Command("proxy.cli.init", "init", ("pointsman init", "pointsman init gateway/")),
    "check": Command(
        "proxy.cli.check", "check", ("pointsman check", "pointsman check -c prod.yaml --strict --no-env")
    ),
    "schema": Command("proxy.cli.schema", "schema", ("pointsman schema > pointsman.schema.json",)),
    "explain": Command(
        "proxy.cli.explain",
        "explain",
        ("pointsman explain request.json -H 'x-tier: gold'", "pointsman explain --json --key search-team - < body"),
    ),
    "test": Command("proxy.cli.test", "run_tests", ("pointsman test", "pointsman test --strict more-tests/")),
    "prices": Command("proxy.cli.prices", "prices", ("pointsman prices", "pointsman prices gpt-4o claude-haiku-5-5")),
}


class Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        function = getattr(import_module(found.module), found.function)
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(cmd_name, help=help_text(function, found.examples))(function)
        return typer.main.get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = did_you_mean(name, COMMANDS) or f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


def help_text(function: Any, examples: tuple[str, ...]) -> str:
    """The function's docstring, with examples after its first sentence. A `\\b` keeps lines as they are."""
    summary, _, rest = (inspect.getdoc(function) or "").partition("\n\n")
    shown = "\n".join(("\b", *(f"  {example}" for example in examples))) if examples else ""
    return "\n\n".join(part for part in (summary, shown, rest) if part)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed_version  # 70 ms that only this needs

        typer.echo(f"pointsman {installed_version('pointsman')}")
        raise typer.Exit


@app.callback()
def pointsman(
    context: typer.Context,
    config: Annotated[str | None, typer.Option("-c", "--config", metavar="FILE", help="The config file.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Route between a strong model with a full prompt and a cheaper tuned one, and show what each costs.

    \b
      pointsman init                   a config to start from
      pointsman check && pointsman test
      pointsman serve
    """
    if config is not None:
        os.environ.pop("POINTSMAN_CONFIG", None)  # what is said here wins
        context.default_map = {name: {"config": config} for name in COMMANDS}
