"""Tenants and keys that conditions compare with."""

from collections.abc import Iterator
from typing import Any

from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.problems import did_you_mean
from proxy.config.values import is_unknown


def check_callers(draft: Draft) -> None:
    """Tenants and keys that no configured key has can never be seen."""
    keys = draft.config.keys
    if not keys or not draft.whole:
        return
    known = {"tenant": {key.tenant or key.name for key in keys}, "key": {key.name for key in keys}}
    for path, fact, value in _wanted(draft):
        if not is_unknown(value) and value not in known[fact]:
            draft.warn(path, "unknown-caller", f"no key has the {fact} {value!r}", did_you_mean(value, known[fact]))


def _wanted(draft: Draft) -> Iterator[tuple[PathKey, str, str]]:
    """Every text that a condition compares `tenant` or `key` with."""

    def walk(value: Any, path: PathKey) -> Iterator[tuple[PathKey, str, str]]:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(item, (*path, index))
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in ("tenant", "key"):
                    yield from ((at, key, text) for at, text in _texts(inner, (*path, key)))
                elif key in ("all", "any", "not"):
                    yield from walk(inner, (*path, key))

    for name, when in draft.config.conditions.items():
        yield from walk(when, ("conditions", name))
    for policy in draft.policies.values():
        for rule in policy.rules:
            yield from walk(rule.when, (*rule.path, "when"))


def _texts(value: Any, path: PathKey) -> Iterator[tuple[PathKey, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, dict):
        for operator in ("in", "not"):
            if operator in value:
                yield from _texts(value[operator], (*path, operator))
