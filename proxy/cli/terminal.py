"""How commands look on a terminal: colours only where a person sees them, marks that the terminal can print."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

Paint = Callable[[str, str], str]

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
SHORT: Final = 60  # characters of a value that are shown


def painter(stream: TextIO) -> Paint:
    """`paint(text, style)` for this stream; without colours when it is no terminal, or `NO_COLOR` is set."""
    return coloured if is_coloured(stream) else plain


def is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def problem_painter(stream: TextIO) -> Paint:
    """For the first line of a problem: its place, then `error[...]` in the severity's colour."""
    paint = painter(stream)

    def problem(text: str, severity: str) -> str:
        place, mark, rest = text.partition(f" {severity}[")
        return f"{paint(place, 'bold')}{paint(f'{mark}{rest}', 'red' if severity == 'error' else 'yellow')}"

    return problem


def coloured(text: str, style: str) -> str:
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def plain(text: str, style: str) -> str:
    return text


def mark(ok: bool) -> str:
    """A tick or a cross; `+` and `-` where the encoding has neither."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
    return ("✓" if ok else "✗") if unicode else ("+" if ok else "-")


def value(given: Any) -> str:
    """A value on one line: short, and nothing in it that a terminal would obey."""
    if given is None:
        return "nothing"
    if isinstance(given, list):
        return f"[{', '.join(map(value, given))}]"
    if not isinstance(given, str):
        return f"{given:,.12g}" if isinstance(given, float) else json.dumps(given)
    text = given if len(given) <= SHORT else f"{given[: SHORT - 3]}..."
    bare = text.isprintable() and text.strip() == text and text not in ("", "nothing")
    return text if bare else json.dumps(text, ensure_ascii=not text.isprintable())


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
