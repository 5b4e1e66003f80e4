"""What a load asks of the file system, and what it was told: with these answers it comes out the same elsewhere.

A worker process loads what the supervisor has accepted, whatever the files hold by then.
"""

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from proxy.config.document import read_text
from proxy.config.fingerprint import Fingerprint, fingerprint

Answers: TypeAlias = dict[str, Any]  # by question; plain values, to be sent as JSON. Secrets are among them.

T = TypeVar("T")


class Disk:
    """The file system, asked each question once. `answers`: those that are known already."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers: Answers = {} if answers is None else answers

    def text(self, path: Path, name: str) -> str:
        """As `read_text`. Raises `Refused`: what cannot be read is no answer."""
        return self._ask("text", path, lambda: read_text(path, name))

    def fingerprint(self, path: Path) -> Fingerprint:
        def look() -> str | None:
            found = fingerprint(str(path))
            return None if found is None else found.hex()

        told = self._ask("fingerprint", path, look)
        return None if told is None else bytes.fromhex(told)

    def files(self, pattern: Path) -> list[Path]:
        """Those that match, in order."""

        def look() -> list[str]:
            return [match for match in sorted(glob.glob(str(pattern), recursive=True)) if os.path.isfile(match)]

        return [Path(each) for each in self._ask("files", pattern, look)]

    def names(self, folder: Path) -> list[str]:
        """In a folder, in order. Raises OSError."""
        return self._ask("names", folder, lambda: sorted(os.listdir(folder)))

    # `os.path` and not the path's own methods: those raise where a folder may not be entered

    def is_folder(self, path: Path) -> bool:
        return self._ask("is folder", path, lambda: os.path.isdir(path))

    def exists(self, path: Path) -> bool:
        return self._ask("exists", path, lambda: os.path.exists(path))

    def real(self, path: Path) -> Path:
        """One name for one file. `Path.resolve` would raise where links go in a circle."""
        return Path(self._ask("real", path, lambda: os.path.realpath(path)))

    def _ask(self, what: str, path: Path, look: Callable[[], T]) -> T:
        question = f"{what}: {path}"
        if question not in self.answers:
            self.answers[question] = look()
        answer: T = self.answers[question]
        return answer
