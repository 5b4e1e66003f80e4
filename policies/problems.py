"""What can be wrong with the parts of a policy as they are written. Collected, and raised all at once."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `path` leads to it from the value that was compiled, or from the condition called `named`."""

    path: tuple[str | int, ...]
    code: str  # kebab case
    message: str
    suggestion: str | None = None  # what to write instead
    named: str | None = None


class Problems(Exception):
    """Everything found wrong with one value."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = list(problems)


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    found = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def kind_of(value: object) -> str:
    """A YAML value's type in the reader's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a map"
