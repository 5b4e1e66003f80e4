"""What is wrong with a config: one value per problem, and how problems are printed."""

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from proxy.upstreams.redact import LOOKS_SECRET

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Sorts by place. Line and column count from 1; `suggestion` says what to do, where we know."""

    file: str
    line: int
    col: int
    severity: Severity
    code: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        advice = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.col}: {self.severity}[{self.code}]: {self.message}{advice}"


def has_errors(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorted by place, each said once."""
    return sorted(set(problems), key=lambda p: (p.file, p.line, p.col, p.severity, p.code, p.message))


def did_you_mean(name: object, known: Collection[str]) -> str | None:
    """A suggestion when one of the known names is near, or the same but for its case."""
    if near := difflib.get_close_matches(str(name), [*known], n=1, cutoff=0.6):
        return f"did you mean {near[0]!r}?"
    folded = {candidate.casefold(): candidate for candidate in known}
    if same := folded.get(str(name).casefold()):
        return f"did you mean {same!r}?"
    return None


def suggest(instead: str | None) -> str | None:
    """What to write instead, as a suggestion."""
    if instead is None:
        return None
    is_word = all(c.isalnum() or c in "._-@" for c in instead)
    return f"did you mean {instead!r}?" if is_word else f"did you mean `{instead}`?"


def as_json(problems: Sequence[Problem]) -> str:
    return json.dumps({"problems": [asdict(problem) for problem in problems]}, indent=2, ensure_ascii=False)


def as_text(
    problems: Sequence[Problem],
    sources: Mapping[str, str],
    secrets: Collection[str] = (),
    paint: Callable[[str, Severity], str] = lambda text, _: text,
) -> str:
    """Each problem with its source line and a caret. Secrets written in the file are starred out."""
    lines = {file: text.splitlines() for file, text in sources.items()}
    blocks = []
    for problem in problems:
        head = paint(str(problem), problem.severity)
        blocks.append("\n".join([head, *_excerpt(problem, lines.get(problem.file, []), secrets)]))
    return "\n".join(blocks)


def summary(problems: Sequence[Problem], files: int) -> str:
    """`2 errors, 1 warning in 3 files`, or `3 files, no problems`."""
    errors = sum(problem.severity == "error" for problem in problems)
    counts = [_count(errors, "error"), _count(len(problems) - errors, "warning")]
    said = ", ".join(count for count in counts if not count.startswith("0 "))
    return f"{said} in {_count(files, 'file')}" if said else f"{_count(files, 'file')}, no problems"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


WIDTH = 160  # a longer line is cut around the caret

# A credential written out in a line; the file may be too broken to know its secrets by their place.
_CREDENTIAL = re.compile(
    r"""((?:\b|_)(?:api[_-]?key|admin_key|key|authorization)["']?\s*:\s+["']?(?:Bearer\s+)?|://[^/\s:@]*:)"""
    r"""(?!file:|\$\{|[0-9]{1,5}\b)([^\s,"'{}\[\]@]{4,})""",
    re.IGNORECASE,
)

_CREDENTIALS = re.compile(r"""(\bapi_keys["']?\s*:\s*\[)([^\]]*)""", re.IGNORECASE)  # a list of them


def _excerpt(problem: Problem, lines: Sequence[str], secrets: Collection[str]) -> list[str]:
    if not 1 <= problem.line <= len(lines):
        return []
    line = lines[problem.line - 1].replace("\t", " ")
    for secret in secrets:
        line = line.replace(secret, "*" * len(secret))
    for credentials in (_CREDENTIAL, _CREDENTIALS):
        line = credentials.sub(lambda found: found[1] + "*" * len(found[2]), line)
    line = LOOKS_SECRET.sub(lambda found: "*" * len(found[0]), line)
    start = max(0, problem.col - WIDTH // 2) if len(line) > WIDTH else 0
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line[start : start + WIDTH])
    gutter = f"{problem.line:>5} | "
    indent = sum(_cells(c) for c in shown[: problem.col - 1 - start])
    return [gutter + shown, f"{'':>5} | {' ' * indent}^"]


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
