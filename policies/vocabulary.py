"""The facts that `when` may name: their types, what is known of their values, and how each is read."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from policies.facts import Facts

Kind = Literal["text", "texts", "number", "flag", "time"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a condition may ask about. `read` gives None where the request does not have it."""

    name: str
    kind: Kind
    read: Callable[["Facts"], Any] = field(compare=False, repr=False)
    always: bool = False  # every request has it
    values: tuple[str, ...] = ()  # the only ones there are, where that is known
    low: float = -math.inf  # a number is at least this
    below: float = math.inf  # and less than this
    costly: bool = False  # reads the whole conversation: never read in advance


def _own(name: str, kind: Kind, *, always: bool = False, low: float = -math.inf, costly: bool = False) -> Fact:
    return Fact(name, kind, attrgetter(name), always=always, low=low, costly=costly)


# In the order in which they are shown. `header.NAME` and `metadata.KEY` are made by `find`.
FACTS: dict[str, Fact] = {
    fact.name: fact
    for fact in (
        _own("user", "text"),
        _own("session", "text"),
        _own("tenant", "text", always=True),
        _own("key", "text", always=True),
        _own("model", "text"),
        _own("api", "text", always=True),
        _own("response_format", "text"),
        _own("stream", "flag"),
        _own("tools", "flag"),
        _own("images", "flag", always=True),
        _own("tool_names", "texts"),
        _own("messages", "number", low=0),
        _own("max_tokens", "number"),
        _own("prompt_tokens", "number", always=True, low=0, costly=True),
        _own("text", "text", costly=True),
        _own("system", "text", costly=True),
        Fact("caller_prompt", "text", attrgetter("caller_prompt"), always=True, values=("exact", "near", "none")),
        Fact("time", "time", attrgetter("now"), always=True),
        Fact("chance", "number", attrgetter("chance"), low=0, below=1),
    )
}

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110's token


def find(name: str) -> Fact | None:
    """The fact of that name. Header names are compared without case, as HTTP does."""
    group, dot, rest = name.partition(".")
    if not dot:
        return FACTS.get(name)
    if group == "header" and _HEADER_NAME.fullmatch(rest.lower()):
        return Fact(f"header.{rest.lower()}", "text", _header(rest.lower().encode()))
    if group == "metadata" and rest:
        return Fact(name, "text", _metadata(rest))
    return None


def _header(name: bytes) -> Callable[["Facts"], str | None]:
    def read(facts: "Facts") -> str | None:
        value = facts.headers.get(name)
        return None if value is None else value.decode("latin-1")

    return read


def _metadata(key: str) -> Callable[["Facts"], str | None]:
    def read(facts: "Facts") -> str | None:
        metadata = facts.body.get("metadata")
        value = metadata.get(key) if isinstance(metadata, dict) else None
        return value if isinstance(value, str) else None

    return read


# Headers whose value opens something. Names are matched in part: `x-goog-api-key`, `x-amz-security-token`.
_SECRET = re.compile(
    r"authori[sz]ation|\bauth\b|cookie|api[-_]?key|access[-_]key|token(?!s)|secret|passw|credential|signature",
    re.ASCII,
)

MASKED = "***"


def shown(name: str, value: Any) -> Any:
    """A fact's value, fit for a person's eyes: what a caller keeps secret is masked, unless it is missing."""
    is_secret = name.startswith("header.") and _SECRET.search(name, len("header."))
    return MASKED if is_secret and value is not None else value
