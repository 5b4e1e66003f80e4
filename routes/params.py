"""Request parameters changed for a model or a route: rename, default, set, drop; and the servers' dialects.

One `Params` acts in this order: `rename` (so that the rest speaks the new names), `default` (only where the caller
said nothing), `set`, `drop`. Of several, the first has the last word: a route's own come over its model's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from routes.problem import Path, Problem, Problems, nearest

# What a request is, rather than how it is answered: these are the policy's and the driver's.
PROTECTED = frozenset({"model", "messages", "stream", "stream_options", "pointsman"})


class ParamProblems(Problems):
    """A `params` block cannot be used."""


@dataclass(frozen=True, slots=True)
class Params:
    """One `params` block or dialect, compiled; shared by all requests of a snapshot."""

    default: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)  # message roles to the names that the server knows
    chat_only: bool = False  # leave other APIs alone, whose fields have other names
    warnings: tuple[Problem, ...] = ()


def apply_all(every: Sequence[Params], body: dict[str, Any]) -> None:
    """Apply several, the first over the later ones.

    Changes the body, which is the attempt's own; its messages and values are replaced, never changed.
    """
    active = [params for params in every if not params.chat_only or "messages" in body]
    for params in active:
        _rename(params.rename, body)
        if params.roles:
            _rename_roles(params.roles, body)
    for params in active:
        for key, value in params.default.items():
            body.setdefault(key, value)
    for params in reversed(active):
        body.update(params.set)
        for key in params.drop:
            body.pop(key, None)


def _rename(names: Mapping[str, str], body: dict[str, Any]) -> None:
    """Where the caller sent both names, the value under the new one counts."""
    for old, new in names.items():
        if old in body:
            value = body.pop(old)
            body.setdefault(new, value)


def _rename_roles(roles: Mapping[str, str], body: dict[str, Any]) -> None:
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = [_with_role(message, roles) for message in messages]


def _with_role(message: Any, roles: Mapping[str, str]) -> Any:
    role = message.get("role") if isinstance(message, dict) else None
    new = roles.get(role) if isinstance(role, str) else None
    return {**message, "role": new} if new else message


def compile_params(data: Any) -> Params:
    """Compile a `params` block from parsed YAML. Raises `ParamProblems` with everything that is wrong."""
    if not isinstance(data, dict):
        raise ParamProblems([Problem((), "type", "`params` is a map of `default`, `set`, `drop` and `rename`")])
    draft = _Draft()
    for key in data:
        if key not in _BLOCKS:
            draft.error((key,), "unknown-key", f"no key `{key}` in `params`", nearest(str(key), _BLOCKS))
    default, set_ = draft.values(data, "default"), draft.values(data, "set")
    drop, rename = draft.drop(data.get("drop")), draft.rename(data.get("rename"))
    draft.contradictions(default, set_, drop, rename)
    if any(problem.severity == "error" for problem in draft.problems):
        raise ParamProblems(draft.problems)
    return Params(default, set_, frozenset(drop), rename, warnings=tuple(draft.problems))


_BLOCKS = ("rename", "default", "set", "drop")


class _Draft:
    """A `params` block being read, and what was found wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def error(self, path: Path, code: str, message: str, suggestion: str | None = None) -> None:
        self.problems.append(Problem(path, code, message, suggestion))

    def name(self, name: Any, path: Path) -> str:
        if not isinstance(name, str):
            self.error(path, "type", f"`{name}` is not a parameter's name: quote it")
        elif name in PROTECTED:
            self.error(path, "protected-parameter", f"`{name}` cannot be changed by `params`")
        return str(name)

    def map(self, block: Any, path: Path) -> dict[Any, Any]:
        if not isinstance(block, dict | None):
            self.error(path, "type", f"`{path[0]}` is a map")
            return {}
        return block or {}

    def values(self, data: Mapping[str, Any], block: str) -> dict[str, Any]:
        found = {}
        for key, value in self.map(data.get(block), (block,)).items():
            found[self.name(key, (block, key))] = value
            try:
                orjson.dumps(value)
            except TypeError as reason:
                self.error((block, key), "not-json", f"`{key}` cannot be written as JSON: {reason}")
        return found

    def drop(self, data: Any) -> list[str]:
        if not isinstance(data, list | None):
            self.error(("drop",), "type", "`drop` is a list of names")
            return []
        return [self.name(name, ("drop", index)) for index, name in enumerate(data or [])]

    def rename(self, data: Any) -> dict[str, str]:
        return {
            self.name(old, ("rename", old)): self.name(new, ("rename", old))
            for old, new in self.map(data, ("rename",)).items()
        }

    def contradictions(
        self, default: Mapping[str, Any], set_: Mapping[str, Any], drop: list[str], rename: Mapping[str, str]
    ) -> None:
        """Refuse what would depend on an order that nobody remembers."""
        for index, name in enumerate(drop):
            for block, names in (("set", set_), ("default", default), ("rename", rename)):
                if name in names:
                    self.error(("drop", index), "contradiction", f"`{name}` is dropped, and under `{block}`")
        for name in default.keys() & set_.keys():
            message = f"`{name}` is always set: its default is never used"
            self.problems.append(Problem(("default", name), "unused-default", message, severity="warning"))
        for old, new in rename.items():
            if new in rename:
                self.error(("rename", old), "contradiction", f"`{new}` is itself renamed")
            if new in drop:
                self.error(("rename", old), "contradiction", f"`{new}` is dropped: drop `{old}` instead")
            if list(rename.values()).count(new) > 1:
                self.error(("rename", old), "contradiction", f"two names are renamed to `{new}`")
            if old in default or old in set_:
                self.error(("rename", old), "contradiction", f"`{old}` is renamed: give its value to `{new}`")


# What servers call things. Applied last, after the route's and the model's own.
DIALECTS: Mapping[str, Params] = MappingProxyType(
    {
        "none": Params(),
        # OpenAI's reasoning models refuse `max_tokens`; all its chat models know the new name.
        "openai": Params(rename={"max_tokens": "max_completion_tokens"}, chat_only=True),
        # vLLM warns in its log of each request with a field that it does not know; its older versions refuse it.
        # Those do not know `max_completion_tokens` either, which would leave the answer without a limit. The chat
        # templates of most open models refuse the role `developer`.
        "vllm": Params(
            rename={"max_completion_tokens": "max_tokens"},
            roles={"developer": "system"},
            drop=frozenset(
                {
                    "metadata",
                    "moderation",
                    "prediction",
                    "prompt_cache_key",
                    "prompt_cache_options",
                    "prompt_cache_retention",
                    "safety_identifier",
                    "service_tier",
                    "store",
                    "verbosity",
                    "web_search_options",
                }
            ),
            chat_only=True,
        ),
    }
)
