"""Variables: `${VAR}`, `${VAR:-default}` and the escape `$${`, in every string value but a prompt's."""

import re
from collections.abc import Mapping

from proxy.config.document import Node, PathKey, Place
from proxy.config.problems import Problem
from proxy.config.values import Expanded

_TOKEN = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)


def expand(root: Node, env: Mapping[str, str], problems: list[Problem] | None) -> Node:
    """The tree with variables filled in. `problems` takes what is missing; None leaves those as they are."""
    return _Expander(env, problems).walk(root, ())


class _Expander:
    def __init__(self, env: Mapping[str, str], problems: list[Problem] | None) -> None:
        self.env = env
        self.problems = problems

    def walk(self, node: Node, path: PathKey) -> Node:
        if path[:1] == ("prompts",) and len(path) >= 3 and isinstance(node.value, dict | list):
            return node  # a prompt's own text: `${` is nothing special there
        if isinstance(node.value, dict):
            values = {key: self.walk(child, (*path, key)) for key, child in node.value.items()}
            return Node(values, node.place, node.keys)
        if isinstance(node.value, list):
            return Node([self.walk(child, (*path, i)) for i, child in enumerate(node.value)], node.place)
        if isinstance(node.value, str) and "${" in node.value:
            return Node(self.text(node.value, node.place), node.place)
        return node

    def text(self, text: str, place: Place) -> str:
        whole = _TOKEN.fullmatch(text)
        expanded = _TOKEN.sub(lambda token: self.token(token, place), text)
        return Expanded(expanded) if whole and whole[1] is not None and expanded != text else expanded

    def token(self, token: "re.Match[str]", place: Place) -> str:
        if token[1] is None:
            return "${"
        named = _NAMED.match(token[1]) if token[0].endswith("}") else None
        if named is None:
            message = f"{token[0]!r} is not a variable"
            self.report(place, "bad-variable", message, "write `${NAME}`, or `$${` for the two characters")
            return token[0]
        name, default = named[1], named[2]
        value = self.env.get(name)
        if default is not None and not value:
            return default
        if value is None:
            suggestion = f"set it, or give a default: `${{{name}:-...}}`"
            self.report(place, "missing-variable", f"the environment variable {name} is not set", suggestion)
            return token[0]
        return value

    def report(self, place: Place, code: str, message: str, suggestion: str) -> None:
        if self.problems is not None:
            self.problems.append(Problem(place.file, place.line, place.col, "error", code, message, suggestion))
