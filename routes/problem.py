"""What is wrong with a piece of config data, said so that its file, line and column can be found.

The leaves know only parsed data, so a problem carries the path to the node (keys and indexes); the config loader
turns that into a place.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `path` leads from the data's root to the node; `line` counts from 1 inside that node's text."""

    path: Path
    code: str
    message: str
    suggestion: str | None = None  # the name that was probably meant
    line: int | None = None
    severity: Severity = "error"
    file: str | None = None  # the file that holds the text, as the data names it; None: the text is in the data


class Problems(Exception):
    """Everything that is wrong, at once; at least one is an error, warnings may be among them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, if one is close."""
    found = difflib.get_close_matches(name, sorted(names), n=1)
    return found[0] if found else None
