"""Recognising a known prompt that a caller still sends itself, so that it can be cut and a route's own be used.

The proof of a match is that the prompt rendered with the values found gives the caller's text, so a cut never takes
a character that the prompt would not give back. White space at the end of a message never counts.

A match works from the left, each value as short as the next literal allows, without going back: linear in the text,
whatever it holds. Two things follow. A prompt that ends in a variable takes the rest of its message. And where the
last literal stands several times on one line, its end is anybody's guess: such a text is only nearly known.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from typing import Literal as OneOf

# How many literal characters make "the same beginning", and the least and largest it may be for a short or long
# prompt. A text taken for nearly known wrongly is answered by the baseline as it came; one missed gets two prompts.
LEAST_BEGINNING = 16
LONGEST_BEGINNING = 32

SYSTEM = ("system", "developer")
EXACT: Final = "exact"
NEAR: Final = "near"
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a variable's value stands."""

    name: str


Parts = tuple[Literal | Slot, ...]


@dataclass(frozen=True, slots=True)
class KnownPrompt:
    """A prompt version as recognition sees it: the messages before `input`, never two slots adjacent."""

    id: str
    version: str
    messages: tuple[tuple[str, Parts], ...]


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was found. On `near` and `none`, `messages` are the caller's own, untouched."""

    result: OneOf["exact", "near", "none"]
    prompt: str | None  # the id; of a near one, the newest with that beginning
    variables: Mapping[str, str]
    messages: list[Any]  # without the prompt
    cut: int  # characters of the prompt that were cut


@dataclass(frozen=True, slots=True)
class KnownPrompts:
    """All versions to look for, compiled."""

    prompts: tuple[KnownPrompt, ...]
    patterns: tuple["_Patterns", ...] = field(init=False, repr=False, compare=False)  # newest first
    starts: tuple[str, ...] = field(init=False, repr=False, compare=False)  # a text without one of these is unknown

    def __init__(self, prompts: Iterable[KnownPrompt]) -> None:
        newest_first = tuple(sorted(prompts, key=lambda prompt: _order(prompt.version), reverse=True))
        patterns = tuple(_Patterns(prompt) for prompt in newest_first)
        object.__setattr__(self, "prompts", newest_first)
        object.__setattr__(self, "patterns", patterns)
        object.__setattr__(self, "starts", tuple({pattern.beginning[0] for pattern in patterns}))


def recognise(known: KnownPrompts, messages: Sequence[Any]) -> Recognition:
    """Look for a known prompt at the beginning of a conversation.

    Of several that match, the one that covers most of the text counts, then the newest. The first message may go on
    after the prompt, and what is left of it stays; the messages that follow in the prompt must be there exactly.
    """
    first = messages[0] if messages else None
    text = _text(first.get("content")) if isinstance(first, dict) else None
    if text is None or not text.lstrip().startswith(known.starts):
        return Recognition(NONE, None, {}, _list(messages), 0)
    text = text.rstrip()
    best: _Match | None = None
    near: str | None = None
    for patterns in known.patterns:
        if not patterns.first.fits(first):
            continue
        match = patterns.match(text, messages)
        if match and (best is None or match.cut > best.cut):
            best = match
        if match is None and near is None and patterns.begins(text):
            near = patterns.id
    if best:
        rest = [*_left_over(messages[0], text[best.end :]), *messages[best.count :]]
        return Recognition(EXACT, best.prompt, best.variables, rest, best.cut)
    return Recognition(NEAR if near else NONE, near, {}, _list(messages), 0)


@dataclass(frozen=True, slots=True)
class _Match:
    prompt: str
    variables: Mapping[str, str]
    count: int  # messages
    end: int  # of the prompt in the first message's text
    cut: int  # characters in all


class _Patterns:
    """One prompt version, compiled."""

    __slots__ = ("beginning", "first", "following", "id")

    def __init__(self, prompt: KnownPrompt) -> None:
        self.id = prompt.id
        self.first, *self.following = (_Pattern(role, parts) for role, parts in prompt.messages)
        self.beginning = _beginning(self.first.parts)

    def match(self, text: str, messages: Sequence[Any]) -> _Match | None:
        """Return how this prompt lies in the messages. `text` is the first one's, without white space at its end."""
        values: dict[str, str] = {}
        count = 1 + len(self.following)
        end = self.first.follow(text, values, whole=False) if len(messages) >= count else None
        if end is None or _has_more(messages[0]):
            return None
        cut = end
        for pattern, message in zip(self.following, messages[1:], strict=False):
            if not pattern.fits(message) or _has_more(message) or _not_text(message.get("content")):
                return None
            shot = (_text(message.get("content")) or "").rstrip()
            if pattern.follow(shot, values, whole=True) is None:
                return None
            cut += len(shot)
        return _Match(self.id, values, count, end, cut)

    def begins(self, text: str) -> bool:
        """Whether the text has this prompt's beginning, whatever comes after it."""
        text = text.lstrip()  # a caller's added line break is a difference, not another text
        if not text.startswith(self.beginning[0]):
            return False
        position = len(self.beginning[0])
        for piece in self.beginning[1:]:
            position = text.find(piece, position)
            if position < 0:
                return False
            position += len(piece)
        return True


class _Pattern:
    """One message of a prompt, without the white space at its end."""

    __slots__ = ("last", "padding", "parts", "roles")

    def __init__(self, role: str, parts: Parts) -> None:
        self.roles = SYSTEM if role in SYSTEM else (role,)
        self.parts = _stripped(parts)
        last = self.parts[-1] if self.parts else ""
        # Where a variable at the prompt's end is empty, the white space before it is the end's, and has been lost.
        before = self.parts[-2] if isinstance(last, Slot) and len(self.parts) > 1 else ""
        self.padding = before[len(before.rstrip()) :] if isinstance(before, str) else ""
        # The last literal, where a word cannot go on.
        self.last = re.compile(re.escape(last) + r"(?!\S)") if isinstance(last, str) else None

    def fits(self, message: Any) -> bool:
        return isinstance(message, dict) and message.get("role") in self.roles

    def follow(self, text: str, values: dict[str, str], whole: bool) -> int | None:
        """Return where the pattern ends in the text, None if it is not there; adds the values found.

        `whole`: it must end where the text does; else at white space.
        """
        position, length = 0, len(text)
        if self.padding:
            text += self.padding
        waiting: str | None = None  # the slot whose end is looked for
        for index, part in enumerate(self.parts):
            at_last = index == len(self.parts) - 1
            if isinstance(part, Slot) and part.name not in values:
                waiting = part.name
                continue
            want = part if isinstance(part, str) else values[part.name]
            if at_last:
                want = want.rstrip()
            if waiting is None:
                start = position if text.startswith(want, position) else -1
            elif at_last:
                start = self._find_last(text, want, position, whole)
            else:
                start = text.find(want, position)
            if start < 0:
                return None
            if waiting is not None:
                values[waiting], waiting = text[position:start], None
            position = start + len(want)
        if waiting is not None:
            values[waiting], position = text[position:].rstrip(), length
        if position >= length or (not whole and text[position].isspace()):
            return min(position, length)
        return None

    def _find_last(self, text: str, want: str, position: int, whole: bool) -> int:
        if whole:
            start = len(text) - len(want)
            return start if start >= position and text.endswith(want) else -1
        assert self.last is not None  # what follows an open slot is a literal
        found = self.last.search(text, position)
        if found is None:
            return -1
        line_end = text.find("\n", found.end())
        rest = self.last.search(text, found.start() + 1, len(text) if line_end < 0 else line_end)
        return -1 if rest else found.start()


def _stripped(parts: Parts) -> tuple[str | Slot, ...]:
    """Return the parts with neighbouring literals joined and without white space at the end."""
    found: list[str | Slot] = []
    for part in parts:
        if isinstance(part, Slot):
            assert not (found and isinstance(found[-1], Slot)), "adjacent variables: where one ends would be a guess"
            found.append(part)
        elif found and isinstance(before := found[-1], str):
            found[-1] = before + part.text
        elif part.text:
            found.append(part.text)
    if found and isinstance(last := found[-1], str):
        found[-1:] = [last.rstrip()] if last.strip() else []
    return tuple(found)


def _beginning(parts: tuple[str | Slot, ...]) -> tuple[str, ...]:
    """Return the literals that make the same beginning: the first must lead, the others follow in order."""
    literals = [part for part in parts if isinstance(part, str)]
    assert literals, "a prompt without text of its own cannot be recognised"
    total = sum(map(len, literals))
    wanted = max(LEAST_BEGINNING, min(LONGEST_BEGINNING, total // 2))
    found = [""] if isinstance(parts[0], Slot) else []
    for literal in literals:
        found.append(literal[:wanted])
        wanted -= len(found[-1])
        if not wanted:
            break
    return tuple(found)


def _text(content: Any) -> str | None:
    """Return the text of a message's content: parts of text count as lines of one text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part["text"] for part in content if _is_text(part)]
    return "\n".join(texts) if texts else None


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _not_text(content: Any) -> list[Any]:
    return [part for part in content if not _is_text(part)] if isinstance(content, list) else []


def _has_more(message: Mapping[str, Any]) -> bool:
    """Whether a message says more than its text, such as tool calls."""
    return any(value for key, value in message.items() if key not in ("role", "content", "name"))


def _left_over(message: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    """Return the first message without the prompt at its front, if anything is left of it."""
    text, others = text.strip(), _not_text(message["content"])
    if not text and not others:
        return []
    content = [*([{"type": "text", "text": text}] if text else []), *others] if others else text
    return [{**message, "content": content}]


def _list(messages: Sequence[Any]) -> list[Any]:
    return messages if isinstance(messages, list) else list(messages)


def _order(version: str) -> list[tuple[int, int, str]]:
    """Sort versions as people count: 10 after 9."""
    return [(1, int(run), "") if run.isdecimal() else (0, 0, run) for run in re.findall(r"\d+|\D+", version)]
