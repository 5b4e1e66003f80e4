"""`pointsman schema`: the JSON Schema of the config."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of the config, for editors.

    Save it and begin a config with `# yaml-language-server: $schema=FILE`.
    """
    from proxy.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
