"""What a prompt's template may contain: read before the engine sees a request, so that every mistake has a line.

The engine (minijinja) offers no syntax tree and finds unknown filters only while rendering. This is a reader of its
lexical grammar, run on sources that the engine has already accepted. The language is kept to what a prompt of
scalars needs: output, filters, tests, `if` and `raw`. Without loops, assignments, calls and operators that build
text, a template touches each value at most once per token.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from routes.problem import nearest

FILTERS = frozenset(
    {
        "abs", "bool", "capitalize", "d", "default", "first", "float", "indent", "int", "last", "length",
        "lower", "replace", "round", "string", "title", "tojson", "trim", "truncate", "upper",
    }
)  # fmt: skip
TESTS = frozenset(
    {
        "boolean", "defined", "divisibleby", "endingwith", "eq", "equalto", "even", "false", "float", "ge",
        "gt", "in", "integer", "le", "lower", "lt", "ne", "none", "number", "odd", "sameas", "startingwith",
        "string", "true", "undefined", "upper",
    }
)  # fmt: skip
STATEMENTS = frozenset({"if", "elif", "else", "endif"})
COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">=", "in", "["})
# What a filter costs for each character that it is given, beside the others: letters of other alphabets have long
# tables of upper and lower case.
COSTS = {"capitalize": 3, "lower": 3, "title": 3, "upper": 3}
KEYWORDS = frozenset(
    {
        "and", "else", "false", "False", "if", "in", "is", "none", "None", "not", "or", "true", "True",
    }
)  # fmt: skip

# More than these no prompt needs, and the engine's parser, which recurses, must not be given: it would overflow.
MAX_TOKENS = 500  # between two braces
MAX_BLOCKS = 2_000

_GROWS = "`{}` could build text without end and is not available in prompts; write the parts side by side"
REFUSED = {
    ".": ("attribute", "values are plain texts and numbers and have no attributes"),
    "{": ("map", "maps are not available in prompts; for literal braces use `{% raw %}...{% endraw %}`"),
    **{operator: ("operator", _GROWS.format(operator)) for operator in ("+", "*", "**", "~")},
}

_OPEN = re.compile(r"(\{\{|\{%|\{#)([-+]?)")  # the sign asks for white space control
_RAW = re.compile(r"\{%[-+]?\s*raw\s*([-+]?)%\}(.*?)\{%([-+]?)\s*endraw\s*([-+]?)%\}", re.DOTALL)
_COMMENT = re.compile(r"\{#.*?(-?)#\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<end>[-+]?(?:\}\}|%\}))
    | (?P<text>"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')
    | (?P<number>\d\w*(?:\.\d\w*)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<op>[=!<>]=|//|\*\*|.)
    )""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Ref:
    """A plain `{{ name }}`."""

    name: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a template may not contain; the caller knows which template it is."""

    code: str
    message: str
    line: int
    suggestion: str | None = None


@dataclass(slots=True)
class Reading:
    """What was found in a source."""

    parts: list[str | Ref] = field(default_factory=list)  # literals and plain variables, neighbours joined
    plain: bool = True  # the parts say all there is; else only the engine can render this
    names: dict[str, int] = field(default_factory=dict)  # variables used, with the line of their first use
    work: dict[str, int] = field(default_factory=dict)  # what filters and tests may cost, per character of a variable
    fixed: int = 0  # the same for texts that the template itself holds, in all
    faults: list[Fault] = field(default_factory=list)

    def literal(self, text: str) -> None:
        if self.parts and isinstance(last := self.parts[-1], str):
            self.parts[-1] = last + text
        elif text:
            self.parts.append(text)

    def fault(self, token: "_Token", code: str, message: str, suggestion: str | None = None) -> None:
        self.faults.append(Fault(code, message, token.line, suggestion))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int
    end: int  # where it ends in the source

    @property
    def is_variable(self) -> bool:
        return self.kind == "name" and self.text not in KEYWORDS


def oversized(source: str) -> Fault | None:
    """Find what the engine must not even parse."""
    position = blocks = 0
    lines = _Lines(source)
    while opener := _OPEN.search(source, position):
        skipped = _COMMENT.match(source, opener.start()) or _RAW.match(source, opener.start())
        if skipped:
            position = skipped.end()
            continue
        position = opener.end()
        blocks += 1
        for count, token in enumerate(_tokens(source, opener.end(), lines.at(opener.end()))):
            position = token.end
            if token.kind == "end":
                break
            if count == MAX_TOKENS:
                return Fault("template", f"an expression has more than {MAX_TOKENS} words and signs", token.line)
        if blocks > MAX_BLOCKS:
            return Fault(
                "template", f"it has more than {MAX_BLOCKS:,} expressions and statements", lines.at(position)
            )
    return None


def read(source: str) -> Reading:
    """Read a source that the engine has accepted."""
    found = Reading()
    position = 0
    lines = _Lines(source)
    while opener := _OPEN.search(source, position):
        found.literal(source[position : opener.start()])
        position = _block(source, opener, lines, found)
    found.literal(source[position:])
    return found


class _Lines:
    """Counts lines to places that come in order, each part of the source once."""

    def __init__(self, source: str) -> None:
        self._source, self._position, self._line = source, 0, 1

    def at(self, position: int) -> int:
        self._line += self._source.count("\n", self._position, position)
        self._position = position
        return self._line


def _block(source: str, opener: re.Match[str], lines: _Lines, found: Reading) -> int:
    """Read the block that begins at `opener`; return where it ends."""
    kind, sign = opener.groups()
    if kind == "{#" and (comment := _COMMENT.match(source, opener.start())):
        found.plain &= not (sign or comment.group(1))
        return comment.end()
    if kind == "{%" and (raw := _RAW.match(source, opener.start())):
        found.plain &= not (sign or any(raw.group(1, 3, 4)))
        found.literal(raw.group(2))
        return raw.end()

    tokens: list[_Token] = []
    end = opener.end()
    for token in _tokens(source, opener.end(), lines.at(opener.end())):
        end = token.end
        if token.kind == "end":
            sign += token.text[:-2]
            break
        tokens.append(token)
    if kind == "{{" and not sign and len(tokens) == 1 and tokens[0].is_variable:
        found.names.setdefault(tokens[0].text, tokens[0].line)
        found.parts.append(Ref(tokens[0].text))
        return end
    found.plain = False
    if kind == "{%":
        statement = tokens.pop(0)
        if statement.text not in STATEMENTS:
            if not statement.text.startswith("end"):  # the statement that it ends has been reported
                message = f"`{statement.text}` is not available in prompts, only `if` and `raw`"
                found.fault(statement, "statement", message)
            return end
    _expression(tokens, found)
    return end


def _tokens(source: str, position: int, line: int) -> Iterator[_Token]:
    while match := _TOKEN.match(source, position):
        kind = match.lastgroup or ""
        line += source.count("\n", position, match.start(kind))
        yield _Token(kind, match.group(kind), line, match.end())
        line += source.count("\n", match.start(kind), match.end())
        position = match.end()


def _expression(tokens: list[_Token], found: Reading) -> None:
    """Note the variables of an expression, and what it may not contain."""
    previous = before = ""
    work = 0
    for token, following in pairwise([*tokens, _Token("end", "", 0, 0)]):
        if token.kind == "name":
            _name(token, previous, before, following.text, found)
        elif token.text in REFUSED and token.kind == "op":
            found.fault(token, *REFUSED[token.text])
        if previous == "|":
            work += COSTS.get(token.text, 1)
        elif previous == "is" or (token.text in COMPARISONS and token.kind != "text"):
            work += 1
        before, previous = previous, token.text
    for token in tokens:
        if token.kind == "text":
            found.fixed += work * len(token.text)
        elif token.text in found.names:
            found.work[token.text] = found.work.get(token.text, 0) + work


def _name(token: _Token, previous: str, before: str, following: str, found: Reading) -> None:
    """Place one name by its neighbours: a filter, a test, a keyword, an argument, a call or a variable."""
    name = token.text
    if previous == "|":
        _allowed(token, FILTERS, "filter", found)
    elif (previous == "is" and name != "not") or (previous == "not" and before == "is"):
        _allowed(token, TESTS, "test", found)
    elif name in KEYWORDS or previous == "." or following == "=":
        return
    elif following == "(":
        found.fault(token, "function", f"`{name}(...)`: functions are not available in prompts")
    else:
        found.names.setdefault(name, token.line)


def _allowed(token: _Token, names: frozenset[str], noun: str, found: Reading) -> None:
    if token.text not in names:
        found.fault(token, f"unknown-{noun}", f"no {noun} `{token.text}` in prompts", nearest(token.text, names))
