"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path,
    typer.Option("-c", "--config", envvar="POINTSMAN_CONFIG", metavar="FILE", help="The config file."),
]
DEFAULT_CONFIG = Path("pointsman.yaml")

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
