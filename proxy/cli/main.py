"""The command line: a table of commands, each imported when it is asked for.

A command is a function in its own module, with a typer signature and a docstring; what it needs beyond that it
imports inside, so that asking for help or checking a file never loads a server.
"""

from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

# In the order of `--help`: name -> module and function
COMMANDS: Final = {
    "serve": "proxy.cli.serve:serve",
    "demo": "proxy.cli.demo:demo",
    "check": "proxy.cli.check:check",
    "schema": "proxy.cli.schema:schema",
    "prices": "proxy.cli.prices:prices",
}
# not for people: left out of `--help`
INTERNAL: Final = {"worker": "proxy.cli.serve:work"}


class Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = COMMANDS.get(cmd_name) or INTERNAL.get(cmd_name)
        if found is None:
            return None
        module, _, function = found.partition(":")
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(cmd_name)(getattr(import_module(module), function))
        return typer.main.get_command(single)


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
    """Route between a strong model with a full prompt and a cheaper tuned one, and show what each costs."""
    if config is not None:
        context.default_map = {name: {"config": config} for name in COMMANDS}
