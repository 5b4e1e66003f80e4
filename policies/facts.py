"""Everything a decision may look at. Read lazily: a policy of header rules never measures the prompt.

The body comes from strangers. Any JSON may stand anywhere; what has the wrong type is missing (None), never an error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Generic, TypeVar, overload

from policies.vocabulary import FACTS, shown

T = TypeVar("T")

_LISTED = (list, type(None))
_NOTHING: Mapping[str, Any] = {}
_SYSTEM = ("system", "developer")
_IMAGES = ("image_url", "input_image")

# Where a message keeps text a model reads: content and its parts, tool calls, tool results, reasoning.
_SPOKEN = frozenset({
    "content", "text", "refusal", "reasoning_content", "name", "tool_calls", "function_call", "function", "custom",
    "arguments", "input", "output", "summary",
})  # fmt: skip


class Once(Generic[T]):
    """A property computed at first use and then a plain attribute. Half the cost of `functools.cached_property` at
    first use, which takes a lock before Python 3.12."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, facts: None, owner: type) -> "Once[T]": ...
    @overload
    def __get__(self, facts: object, owner: type) -> T: ...

    def __get__(self, facts: object | None, owner: type) -> "T | Once[T]":
        if facts is None:
            return self
        compute = self.compute
        value = compute(facts)
        setattr(facts, self.name, value)  # through `__dict__` the object would get a dict of its own
        return value


class Facts:
    """One request as conditions and splits see it.

    `body` is the caller's JSON without `pointsman`, `extras` that object; `headers` have lower-case names; `now` is
    in Unix seconds; `messages` are those without a recognised caller prompt (None: the body's own).
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        extras: Mapping[str, Any] = _NOTHING,
        api: str = "chat",
        tenant: str = "none",
        key: str = "none",
        now: float = 0.0,
        request_id: str = "",
        messages: Sequence[Any] | None = None,
        caller_prompt: str = "none",
    ) -> None:
        self.body = body
        self.headers = headers
        self.extras = extras
        self.api = api
        self.tenant = tenant
        self.key = key
        self.now = now
        self.request_id = request_id
        self.caller_prompt = caller_prompt
        self._messages = messages

    @Once
    def turns(self) -> Sequence[Any] | None:
        """The conversation, whatever the API: a bare `prompt` or `input` is one user message, `instructions` a
        system message. None where the body has none of these."""
        if self._messages is not None:
            return self._messages
        if self.api == "chat":
            messages = self.body.get("messages")
            return messages if isinstance(messages, list) else None
        bare = self.body.get("prompt", self.body.get("input"))
        if not isinstance(bare, str | list):
            return None
        items = bare if self.api == "responses" and isinstance(bare, list) else [{"role": "user", "content": bare}]
        instructions = self.body.get("instructions")
        return [{"role": "system", "content": instructions}, *items] if isinstance(instructions, str) else items

    @Once
    def user(self) -> str | None:
        return _text(self.body.get("safety_identifier")) or _text(self.body.get("user"))

    @Once
    def session(self) -> str | None:
        return _text(self.extras.get("session")) or self.headers.get(b"x-session-id", b"").decode("latin-1") or None

    @Once
    def model(self) -> str | None:
        return _text(self.body.get("model"))

    @Once
    def response_format(self) -> str | None:
        """`text` where a text API's caller does not say, as the API itself has it."""
        holder = self.body.get("text") if self.api == "responses" else self.body
        name = "format" if self.api == "responses" else "response_format"
        asked = holder.get(name) if isinstance(holder, Mapping) else holder
        if asked is None:
            return "text" if self.api in ("chat", "completions", "responses") else None
        return _text(asked.get("type")) if isinstance(asked, dict) else None

    @Once
    def stream(self) -> bool | None:
        asked = self.body.get("stream")
        return asked if isinstance(asked, bool) else False if asked is None else None

    @Once
    def declared(self) -> Sequence[Any]:
        """The tools a model may call, of the present and of the older field."""
        tools, functions = self.body.get("tools"), self.body.get("functions")
        if tools is None and functions is None:
            return ()
        return [tool for given in (tools, functions) if isinstance(given, list) for tool in given]

    @Once
    def tools(self) -> bool | None:
        if self.declared:
            return True
        valid = isinstance(self.body.get("tools"), _LISTED) and isinstance(self.body.get("functions"), _LISTED)
        return False if valid else None

    @Once
    def tool_names(self) -> tuple[str, ...] | None:
        """Functions and custom tools by name, built-in ones (`web_search`) by type. Missing without tools."""
        return tuple(name for tool in self.declared if (name := _tool_name(tool))) or None

    @Once
    def images(self) -> bool:
        parts = (part for turn in self.turns or () for part in _parts(turn))
        return any(isinstance(part, dict) and part.get("type") in _IMAGES for part in parts)

    @Once
    def messages(self) -> int | None:
        return None if self.turns is None else len(self.turns)

    @Once
    def max_tokens(self) -> int | float | None:
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            limit = self.body.get(name)
            if isinstance(limit, int | float) and not isinstance(limit, bool):
                return limit
        return None

    @Once
    def prompt_tokens(self) -> float:
        """Characters / 4: the text of the messages (content, tool calls, tool results; no roles, ids, images or
        audio) and the keys and texts of the tools. A number counts as one token, as in a prompt of token ids."""
        return (_spoken(self.turns or ()) + _measure(self.declared, None)) / 4

    @Once
    def text(self) -> str | None:
        for turn in reversed(self.turns or ()):
            if _role(turn) == "user":
                return _said(turn)
        return None

    @Once
    def system(self) -> str | None:
        said = [text for turn in self.turns or () if _role(turn) in _SYSTEM and (text := _said(turn))]
        return "\n".join(said) or None

    @Once
    def chance(self) -> float | None:
        """The same for every look at one request, and unrelated to any split: it hashes our request id."""
        if not self.request_id:
            return None
        digest = blake2b(_bytes(self.request_id), digest_size=8, person=b"chance").digest()
        return (int.from_bytes(digest) >> 11) / 2**53

    @Once
    def conversation(self) -> str:
        """What stays the same while a conversation grows: its system text and first user message, images included."""
        system = self.system or ""
        first = next((turn for turn in self.turns or () if _role(turn) == "user"), None)
        opening = "" if first is None else "".join(_strings(first.get("content")))
        return f"{len(system)}:{system}{opening}"

    def as_dict(self) -> dict[str, Any]:
        """Every fact that is present, by name, as JSON. Secrets in headers are masked."""
        found: dict[str, Any] = {}
        for raw, value in self.headers.items():
            name = f"header.{raw.decode('latin-1')}"
            found[name] = shown(name, value.decode("latin-1"))
        metadata = self.body.get("metadata")
        if isinstance(metadata, dict):
            found |= {f"metadata.{key}": value for key, value in metadata.items() if isinstance(value, str)}
        for name, fact in FACTS.items():
            value = fact.read(self)
            if value is not None:
                found[name] = list(value) if isinstance(value, tuple) else value
        return found | {"time": datetime.fromtimestamp(self.now, UTC).isoformat()}


def _text(value: Any) -> str | None:
    """Empty text identifies nobody."""
    return value if isinstance(value, str) and value else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _role(turn: Any) -> Any:
    return turn.get("role") if isinstance(turn, dict) else None


def _parts(turn: Any) -> Sequence[Any]:
    content = turn.get("content") if isinstance(turn, dict) else None
    return content if isinstance(content, list) else ()


def _said(turn: dict[str, Any]) -> str | None:
    """A message's text; that of its parts, a line each."""
    content = turn.get("content")
    if isinstance(content, str):
        return content
    texts = (part.get("text") if isinstance(part, dict) else part for part in _parts(turn))
    return "\n".join(text for text in texts if isinstance(text, str)) or None


def _tool_name(tool: Any) -> str | None:
    if not isinstance(tool, dict):
        return None
    for holder in (tool, tool.get("function"), tool.get("custom")):
        if isinstance(holder, dict) and (name := _text(holder.get("name"))):
            return name
    return _text(tool.get("type"))


def _spoken(turns: Sequence[Any]) -> int:
    """Characters a model reads in messages."""
    total = 0
    for turn in turns:
        content = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(content, str) and len(turn) == 2 and "role" in turn:  # nearly all messages
            total += len(content)
        else:
            total += _measure((turn,), _SPOKEN)
    return total


def _measure(values: Sequence[Any], keys: frozenset[str] | None) -> int:
    """Characters below these values; in maps, of these keys only (None: of all, and of their names)."""
    total, waiting = 0, list(values)
    while waiting:  # not by recursion: strangers choose the depth
        item = waiting.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            if keys is None:
                total += sum(map(len, item))
                waiting.extend(item.values())
            else:
                waiting.extend(inner for key, inner in item.items() if key in keys)
        elif item is not None:
            total += 4
    return total


def _strings(value: Any) -> Iterator[str]:
    """Every text below a value, in order."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | dict):
            waiting.extend(reversed(item if isinstance(item, list) else list(item.values())))
