"""Credentials: the text itself, or `file:/path`, read at load and watched, because secrets rotate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.config.document import Node, PathKey, Refused
from proxy.config.files import Files
from proxy.config.schema import Config
from proxy.config.values import Secret, is_unknown

PLACEHOLDER: Final = "not-set"  # stands for a secret that `check --no-env` does not have


def _written(config: Config) -> Iterator[tuple[PathKey, Secret]]:
    if config.server.admin_key is not None:
        yield ("server", "admin_key"), config.server.admin_key
    for index, key in enumerate(config.keys):
        yield ("keys", index, "key"), key.key
    for section in ("upstreams", "models"):
        for name, owner in getattr(config, section).items():
            if owner.api_key is not None:
                yield (section, name, "api_key"), owner.api_key
            for index, secret in enumerate(getattr(owner, "api_keys", None) or ()):
                yield (section, name, "api_keys", index), secret


def read_secrets(config: Config, root: Node, files: Files) -> dict[PathKey, Secret]:
    """Every secret by its path in the config; what cannot be read is reported and left out."""
    found: dict[PathKey, Secret] = {}
    for path, secret in _written(config):
        place = root.place_of(path)
        text = secret.reveal()
        if is_unknown(text):  # reported already, or not to be reported at all
            found[path] = Secret(f"{PLACEHOLDER}-{len(found)}")
            continue
        if text.startswith("file:"):
            read = _from_file(Path(place.file).parent / text.removeprefix("file:"), path, root, files)
            if read is None:
                if not files.strict_env:
                    found[path] = Secret(f"{PLACEHOLDER}-{len(found)}")
                continue
            text = read
        if not text:
            files.report(
                place, "error", "empty-secret", f"`{path[-1]}` is empty", "leave it out where none is needed"
            )
        elif any(c < "!" or c > "~" for c in text):
            files.report(
                place, "error", "bad-secret", f"`{path[-1]}` holds a character that no HTTP header can carry"
            )
        else:
            found[path] = Secret(text)
    return found


def _from_file(file: Path, path: PathKey, root: Node, files: Files) -> str | None:
    try:
        text = files.text(file)
    except Refused as refused:
        if files.strict_env:
            files.report(root.place_of(path), "error", "secret-unreadable", refused.problem.message)
        return None
    return text.rstrip("\r\n")
