"""`pointsman init`: a config to start from, with a prompt and policy tests."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")] = Path(),
) -> None:
    """Write a config to start from, with tests.

    Makes pointsman.yaml, which explains itself, a prompt, and policy tests. Never overwrites: exits with 1, and
    writes nothing, when one of the files is there already.
    """
    texts = starter()
    there = [folder / name for name in texts if (folder / name).exists()]
    if there:
        typer.echo(f"error: {' and '.join(map(str, there))} exist already; nothing was written", err=True)
        raise typer.Exit(1)
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            typer.echo(f"wrote {path}", err=True)
    except OSError as error:
        typer.echo(f"error: cannot write {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(next_steps(folder))


def starter() -> dict[str, str]:
    """The files, by path below the folder."""
    return dict(sorted(_texts(files("proxy.cli") / "starter", PurePosixPath())))


def _texts(folder: Traversable, path: PurePosixPath) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _texts(entry, path / entry.name)
        elif entry.name.endswith(".yaml"):
            found.append((str(path / entry.name), entry.read_text("utf-8")))
    return found


def next_steps(folder: Path) -> str:
    there = "" if folder == Path() else f"  cd {folder}\n"
    return f"""\
Next:

{there}\
  pointsman check --no-env                          # the config is sound
  pointsman test                                    # and decides as its tests say
  pointsman schema > pointsman.schema.json          # completion in your editor

  echo '{{"model": "support", "messages": [{{"role": "user", "content": "hi"}}]}}' | pointsman explain -

  export OPENAI_API_KEY=sk-...                      # and set the models in pointsman.yaml to yours
  pointsman serve                                   # base_url http://127.0.0.1:8080/v1, model "support"\
"""
