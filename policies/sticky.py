"""What ties a caller to an arm: the key that a split hashes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from policies.problems import Problem, Problems, kind_of, nearest
from policies.vocabulary import find

if TYPE_CHECKING:
    from policies.facts import Facts

Sticky = Callable[["Facts"], str]

_OWN = ("user", "session", "conversation")


def compile_sticky(spec: Any = None) -> Sticky:
    """`user`, `session`, `conversation` (None means this), `header.NAME`, `metadata.KEY`, or a list of these: the
    first that the request has and is not empty. Where it has none, the conversation. Keys of different kinds are
    never equal. Raises `Problems`."""
    if spec is None:
        return _conversation
    names = spec if isinstance(spec, list | tuple) else [spec]
    problems: list[Problem] = []
    if not names:
        problems.append(Problem((), "empty-sticky", "`sticky` is an empty list", "conversation"))
    for position, name in enumerate(names):
        _check(name, (position,) if names is spec else (), problems)
    if "conversation" in names[:-1]:
        position = list(names).index("conversation")
        message = "every request has a conversation: what follows it in `sticky` is never used"
        problems.append(Problem((position + 1,), "never-used", message))
    if problems:
        raise Problems(problems)
    return _first([name for name in names if name != "conversation"])


def _check(name: Any, path: tuple[int, ...], problems: list[Problem]) -> None:
    if not isinstance(name, str):
        problems.append(Problem(path, "wrong-type", f"a sticky key is named by text, not {kind_of(name)}"))
    elif name not in _OWN and not (find(name) and "." in name):
        message = f"no sticky key is named {name!r}; there are {', '.join(_OWN)}, header.NAME and metadata.KEY"
        problems.append(Problem(path, "unknown-sticky", message, _meant(name)))


def _meant(name: str) -> str | None:
    group, dot, rest = name.partition(".")
    family = nearest(group, ("header", "metadata")) if dot and group not in ("header", "metadata") else None
    return f"{family}.{rest}" if family else nearest(name, _OWN)


def _first(names: list[str]) -> Sticky:
    readers = [(_label(fact.name), fact.read) for name in names if (fact := find(name))]
    if not readers:
        return _conversation
    if len(readers) == 1:
        ((label, read),) = readers
        return lambda facts: f"{label}{value}" if (value := read(facts)) else _conversation(facts)

    def key(facts: "Facts") -> str:
        for label, read in readers:
            if value := read(facts):
                return f"{label}{value}"
        return _conversation(facts)

    return key


def _label(kind: str) -> str:
    """The length keeps `metadata.a` with `b=c` apart from `metadata.a=b` with `c`."""
    return f"{len(kind)}:{kind}="


_TALK = _label("conversation")


def _conversation(facts: "Facts") -> str:
    return f"{_TALK}{facts.conversation}"
