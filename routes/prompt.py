"""A prompt version: checked and compiled at load, rendered per request, its static parts encoded once."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from routes.problem import Path, Problem, Problems, nearest
from routes.syntax import KEYWORDS, Ref
from routes.template import (
    MAX_OUTPUT,
    MissingVariable,
    RenderError,
    Scalar,
    Template,
    compile_template,
)

__all__ = ["MissingVariable", "Prompt", "PromptProblems", "Ref", "RenderError", "Variable", "compile_prompt"]

SYSTEM = ("system", "developer")  # two names of one role: which one a model wants is its own affair
ROLES = (*SYSTEM, "user", "assistant")
INPUT = "input"  # stands for the caller's messages

_NAME = re.compile(r"[^\W\d]\w*")


class PromptProblems(Problems):
    """A prompt version cannot be used."""


@dataclass(frozen=True, slots=True)
class Variable:
    required: bool
    default: Scalar = None
    has_default: bool = False  # a default may be null
    description: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the prompt. Where no variable changes it, it has a `text`, and is encoded once."""

    role: str
    template: Template
    text: str | None = None
    encoded: bytes | None = None  # the text as JSON
    wire: dict[str, Any] | None = None  # the message's JSON object: shared, never to be changed


Segments = tuple[tuple[str, tuple[str | Ref, ...]], ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Compiled; shared by all requests of a snapshot."""

    name: str
    version: str
    hash: str  # of what is rendered: 12 hex digits
    variables: Mapping[str, Variable]
    messages: tuple[Message, ...]
    input_at: int  # the caller's messages go before this one of `messages`
    warnings: tuple[Problem, ...] = ()
    defaults: Mapping[str, Scalar] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    static_characters: int = 0
    id: str = field(init=False)
    # rendered once for requests without variables; None where a variable is required
    plain: "tuple[tuple[dict[str, Any], ...], int] | None" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.name}@{self.version}")
        object.__setattr__(self, "plain", None)
        if not self.required:
            object.__setattr__(self, "plain", self._plain())

    def _plain(self) -> tuple[tuple[dict[str, Any], ...], int] | None:
        try:
            texts = [self.text(message, {}) for message in self.messages]
        except RenderError:  # an optional variable without a default: that is each request's own failure
            return None
        wires = (
            message.wire or {"role": message.role, "content": orjson.Fragment(orjson.dumps(text))}
            for message, text in zip(self.messages, texts, strict=True)
        )
        return tuple(wires), sum(map(len, texts))

    def render(self, variables: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return the messages as JSON objects, to be read only: static ones are shared between requests.

        A static message's `content` is an `orjson.Fragment`. Names that the prompt does not know are ignored.
        Raises `MissingVariable` or `RenderError`.
        """
        if not variables and self.plain is not None:
            return self.plain[0]
        return tuple([message.wire or self.dynamic(message, variables) for message in self.messages])

    def dynamic(self, message: Message, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"role": message.role, "content": self.text(message, variables)}

    def text(self, message: Message, variables: Mapping[str, Any]) -> str:
        """Return one message's text. Raises `MissingVariable` or `RenderError`."""
        if message.text is not None:
            return message.text
        return message.template.render({**self.defaults, **variables})

    def characters(self, variables: Mapping[str, Any]) -> int:
        """Return how many characters the rendered texts have. Raises as `render` does."""
        if not variables and self.plain is not None:
            return self.plain[1]
        values = {**self.defaults, **variables}
        dynamic = sum(message.template.length(values) for message in self.messages if message.text is None)
        return self.static_characters + dynamic

    def beginning(self, variables: Mapping[str, Any]) -> int:
        """Return how many characters the prompt begins with that are the same for all requests with these variables.

        Requests without variables share the whole prompt; others, to be careful, only the messages up to the first
        that has a variable in it.
        """
        if not variables and self.plain is not None:
            return self.plain[1]
        count = 0
        for message in self.messages[: self.input_at]:
            if message.text is None:
                break
            count += len(message.text)
        return count

    def segments(self) -> Segments | str:
        """Return role and parts of each message if callers' copies of this prompt can be recognised, else why not."""
        if self.input_at != len(self.messages):
            return "messages follow `input`: where the caller's own messages begin would be a guess"
        for message in self.messages:
            if message.template.engine:
                return f"the {message.role} message has more than texts and plain `{{{{ variable }}}}`s"
            parts = message.template.parts
            for left, right in pairwise(parts):
                if isinstance(left, Ref) and isinstance(right, Ref):
                    return f"`{left.name}` and `{right.name}` are adjacent: where one ends would be a guess"
        if not any(isinstance(part, str) and part.strip() for part in self.messages[0].template.parts):
            return "the first message has no text of its own: it would match anything"
        return tuple((message.role, message.template.parts) for message in self.messages)


def compile_prompt(name: str, version: str, data: Any, read_file: Callable[[str], str]) -> Prompt:
    """Compile a prompt version from parsed YAML. Raises `PromptProblems` with everything that is wrong.

    `read_file` returns the text of a `{file: path}`, relative to the prompt's own file; it may raise `OSError` or
    `UnicodeDecodeError`. `${VAR}` is plain text here.
    """
    if not isinstance(data, dict):
        raise PromptProblems(
            [Problem((), "type", "a prompt is a map with `messages`, and `variables` if it has any")]
        )
    draft = _Draft(read_file)
    draft.keys(data, (), ("variables", "messages", "description"))
    variables = draft.variables(data.get("variables"))
    messages, input_at = draft.messages(data.get("messages"), variables)
    if any(problem.severity == "error" for problem in draft.problems):
        raise PromptProblems(draft.problems)
    for unused in sorted(variables.keys() - draft.used):
        draft.warn(("variables", unused), "unused-variable", f"no message uses the variable `{unused}`")
    return Prompt(
        name=name,
        version=version,
        hash=_hash(variables, draft.sources, input_at),
        variables=variables,
        messages=tuple(messages),
        input_at=input_at,
        warnings=tuple(draft.problems),
        defaults={key: variable.default for key, variable in variables.items() if variable.has_default},
        known=frozenset(variables),
        required=frozenset(key for key, variable in variables.items() if variable.required),
        static_characters=sum(len(message.text) for message in messages if message.text is not None),
    )


class _Draft:
    """A prompt being read: what was found wrong, and what the messages use."""

    def __init__(self, read_file: Callable[[str], str]) -> None:
        self.read_file = read_file
        self.problems: list[Problem] = []
        self.used: set[str] = set()
        self.sources: list[tuple[str, str]] = []

    def error(self, path: Path, code: str, message: str, suggestion: str | None = None) -> None:
        self.problems.append(Problem(path, code, message, suggestion))

    def warn(self, path: Path, code: str, message: str) -> None:
        self.problems.append(Problem(path, code, message, severity="warning"))

    def keys(self, data: dict[Any, Any], path: Path, known: tuple[str, ...]) -> None:
        for key in data:
            if key not in known:
                self.error((*path, key), "unknown-key", f"no key `{key}` here", nearest(str(key), known))

    def variables(self, data: Any) -> dict[str, Variable]:
        if data is None:
            return {}
        if not isinstance(data, dict):
            self.error(("variables",), "type", "`variables` is a map of names to {required, default, description}")
            return {}
        return {str(name): self.variable(name, spec, ("variables", name)) for name, spec in data.items()}

    def variable(self, name: Any, spec: Any, path: Path) -> Variable:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in KEYWORDS:
            self.error(path, "variable-name", f"`{name}` cannot be a variable's name: use letters, digits and _")
        if not isinstance(spec, dict | None):
            self.error(path, "type", "a variable is a map of {required, default, description}")
        spec = spec if isinstance(spec, dict) else {}
        self.keys(spec, path, ("required", "default", "description"))
        has_default, default = "default" in spec, spec.get("default")
        required = spec.get("required", not has_default)  # without a default nothing else would render
        if not isinstance(required, bool):
            self.error((*path, "required"), "type", "`required` is true or false")
        if not isinstance(default, str | int | float | None):
            self.error((*path, "default"), "type", "a default is a text, a number, true, false or null")
        if required is True and has_default:
            self.warn((*path, "default"), "unused-default", f"`{name}` is required: its default is never used")
        return Variable(bool(required), default, has_default, str(spec.get("description") or ""))

    def messages(self, data: Any, variables: Mapping[str, Variable]) -> tuple[list[Message], int]:
        if not isinstance(data, list):
            self.error(("messages",), "type", "`messages` is a list of {role: text}, and `input` for the caller's")
            return [], 0
        found: list[Message] = []
        input_at: int | None = None
        for index, entry in enumerate(data):
            path: Path = ("messages", index)
            if entry == INPUT:
                if input_at is not None:
                    self.error(path, "repeated-input", "`input` stands twice: the caller's messages go in one place")
                input_at = len(found)
            elif not isinstance(entry, dict) or len(entry) != 1:
                self.error(path, "type", "a message is {role: text} or {role: {file: path}}, or the word `input`")
            else:
                ((role, text),) = entry.items()
                found.append(self.message(role, text, (*path, role), variables))
        if not found and not self.problems:
            self.error(("messages",), "no-messages", "the prompt has no message of its own")
        return found, len(found) if input_at is None else input_at

    def message(self, role: Any, text: Any, path: Path, variables: Mapping[str, Variable]) -> Message:
        if role not in ROLES:
            self.error(path, "unknown-role", f"no role `{role}`", nearest(str(role), ROLES))
        file = text.get("file") if isinstance(text, dict) and set(text) == {"file"} else None
        if isinstance(file, str):
            path = (*path, "file")
            text = self.file(file, path)
        elif not isinstance(text, str):
            self.error(path, "type", "a message's text is a text (quote numbers and the like), or {file: path}")
            text = ""
        source = _without_last_line_break(text)
        self.sources.append((str(role), source))
        if len(source) > MAX_OUTPUT:
            self.error(path, "too-long", f"the text has more than {MAX_OUTPUT} characters")
            return Message(str(role), Template(()))
        return _message(str(role), self.template(source, path, file, variables))

    def file(self, name: str, path: Path) -> str:
        try:
            return self.read_file(name)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self.error(path, "unreadable-file", f"cannot read `{name}`: {reason or error}")
            return ""

    def template(self, source: str, path: Path, file: str | None, variables: Mapping[str, Variable]) -> Template:
        template, found = compile_template(source)
        for fault in found.faults:
            self.problems.append(Problem(path, fault.code, fault.message, fault.suggestion, fault.line, file=file))
        for name, line in found.names.items():
            if name not in variables:
                message = f"the variable `{name}` is not declared under `variables`"
                suggestion = nearest(name, variables)
                self.problems.append(Problem(path, "unknown-variable", message, suggestion, line, file=file))
        self.used |= found.names.keys()
        if template is not None and (left_out := _left_out(template, variables)):
            message = f"`{left_out}` may be left out, and this text cannot be rendered without it"
            suggestion = f"give it a default, or ask `{{% if {left_out} is defined %}}`"
            line = found.names[left_out]
            self.problems.append(Problem(path, "missing-default", message, suggestion, line, file=file))
        return template or Template(())


def _message(role: str, template: Template) -> Message:
    text = template.static
    if text is None:
        return Message(role, template)
    encoded = orjson.dumps(text)
    return Message(role, template, text, encoded, {"role": role, "content": orjson.Fragment(encoded)})


def _left_out(template: Template, variables: Mapping[str, Variable]) -> str | None:
    """A variable that a caller need not give, but without which the text cannot be rendered: by a try, with texts."""
    given = {name: v.default if v.has_default else "x" for name, v in variables.items()}
    optional = [name for name in template.names if name in given]
    optional = [name for name in optional if not variables[name].required and not variables[name].has_default]
    if not optional or not _renders(template, given):  # then texts will not do, and tell nothing
        return None
    for name in optional:
        if not _renders(template, {other: value for other, value in given.items() if other != name}):
            return name
    return None


def _renders(template: Template, values: Mapping[str, Scalar]) -> bool:
    try:
        template.render(values)
    except RenderError:
        return False
    return True


def _without_last_line_break(text: str) -> str:
    """Drop the line break that ends a file or a YAML block, as Jinja does; further ones are meant."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _hash(variables: Mapping[str, Variable], sources: list[tuple[str, str]], input_at: int) -> str:
    meant = [[name, v.required, v.has_default, v.default] for name, v in sorted(variables.items())]
    return hashlib.sha256(orjson.dumps([meant, sources, input_at])).hexdigest()[:12]
