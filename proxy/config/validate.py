"""From nodes to the typed config: pydantic's errors become our problems, with places and plain words.

What is wrong is reported and cut out, and the rest is validated again, so that one typing error does not hide the
problems of all other parts.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config.document import Node, PathKey, without
from proxy.config.problems import Problem, did_you_mean
from proxy.config.schema import SHARED, Config, Section
from proxy.config.values import shown

_EXPECTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
}


@dataclass(frozen=True, slots=True)
class Validated:
    config: Config | None  # of what is right; None when nothing was left
    root: Node  # the tree that `config` was made from
    problems: list[Problem]


def validate(root: Node) -> Validated:
    """Validate the merged tree. Every problem of shape is reported once, in one go."""
    problems: list[Problem] = []
    while True:
        shapes: dict[int, type[Section]] = {}
        data = root.plain()
        try:
            return Validated(Config.model_validate(data, context=shapes), root, problems)
        except ValidationError as failed:
            errors = _pick_branches(root, failed.errors(include_url=False))
        if not problems:  # later rounds only see what cutting left behind
            told = [(path, error) for path, _, error in errors if not _is_misspelt(path, error, errors)]
            problems = [_problem(root, data, shapes, path, error) for path, error in told]
        cuts = {_cut(path, error) for path, _, error in errors}
        if () in cuts:
            return Validated(None, root, problems)
        root = without(root, sorted(cuts, key=str))


_Located = tuple[PathKey, PathKey, ErrorDetails]  # path of the node, path of the union around it, the error


def _pick_branches(root: Node, errors: Iterable[ErrorDetails]) -> list[_Located]:
    """Of a value that may be several things, keep the errors of the thing it looks like."""
    located = [(*_locate(root, error), error) for error in errors]
    inside = [(union, path != union or not _is_type(error)) for path, union, error in located]
    deeper = {union for union, is_deeper in inside if union and is_deeper}
    kept: dict[tuple[PathKey, str], _Located] = {}
    for path, union, error in located:
        if _is_type(error) and path == union and union in deeper:
            continue
        kind = "type" if _is_type(error) and path == union else f"{error['type']}{error['loc'][-1:]}"
        if kind == "type" and (path, kind) in kept:
            first = kept[(path, kind)][2]
            error = error | {"ctx": {"expected": _either(first, error)}}
        kept[(path, kind)] = (path, union, error)
    return list(kept.values())


def _is_misspelt(path: PathKey, error: ErrorDetails, errors: Iterable[_Located]) -> bool:
    """Whether a missing key is there under a name so near that the unknown key's suggestion says it all."""
    if error["type"] != "missing":
        return False
    strays = [
        str(other[-1]) for other, _, stray in errors if stray["type"] == "extra_forbidden" and other[:-1] == path
    ]
    return did_you_mean(error["loc"][-1], strays) is not None


def _either(first: ErrorDetails, second: ErrorDetails) -> str:
    one, other = first.get("ctx", {}).get("expected") or _EXPECTED[first["type"]], _EXPECTED[second["type"]]
    return "a number" if {one, other} == {"a number", "a whole number"} else f"{one} or {other}"


def _is_type(error: ErrorDetails) -> bool:
    return error["type"] in _EXPECTED


def _locate(root: Node, error: ErrorDetails) -> tuple[PathKey, PathKey]:
    """Pydantic's location without the names of union branches, which are no places in the file."""
    node: Node = root
    path: PathKey = ()
    union: PathKey = ()
    steps = error["loc"]
    for position, step in enumerate(steps):
        child = node.child(step)
        if child is not None:
            node, path = child, (*path, step)
        elif position == len(steps) - 1 and error["type"] == "missing":
            return path, union
        elif step != "[key]":
            union = path
    return path, union


def _cut(path: PathKey, error: ErrorDetails) -> PathKey:
    """What to leave out so that the rest can be looked at: whole splits and endpoint lists, never a share of them."""
    for whole in ("split", "endpoints", "price", "tls"):
        if whole in path[1:]:
            return path[: path.index(whole, 1) + 1]
    return path


def _problem(root: Node, data: Any, shapes: dict[int, type[Section]], path: PathKey, error: ErrorDetails) -> Problem:
    key = error["type"] in ("extra_forbidden", "missing") or error["loc"][-1:] == ("[key]",)
    key = key or (not _field_of(path) and bool(path))
    code, message, suggestion = _say(root, data, shapes, path, error)
    place = root.place_of(path, key=key)
    return Problem(place.file, place.line, place.col, "error", code, message, suggestion)


def _say(
    root: Node, data: Any, shapes: dict[int, type[Section]], path: PathKey, error: ErrorDetails
) -> tuple[str, str, str | None]:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        shape = shapes.get(id(_dig(data, path[:-1])))
        message = f"unknown key {str(path[-1])!r} in {describe(root, path[:-1])}"
        return "unknown-key", message, did_you_mean(path[-1], _keys(shape))
    if kind == "missing":
        return "missing-key", f"{describe(root, path)} needs `{error['loc'][-1]}`", None
    field = _field_of(path)
    subject = f"`{field}`" if field else describe(root, path)
    if _is_type(error):
        expected = context.get("expected") or _EXPECTED[kind]
        quote = "put it in quotes" if expected == "text" and not isinstance(value, dict | list | type(None)) else None
        return "wrong-type", f"{subject} must be {expected}, not {shown(value)}", quote
    if kind == "literal_error":
        choices = str(context["expected"])
        names = [choice.strip("'") for choice in choices.replace(" or ", ", ").split(", ")]
        near = did_you_mean(value, names) if "'" in choices else None
        return "bad-value", f"{subject} must be {choices}, not {shown(value)}", near
    if kind in ("too_short", "string_too_short"):
        return "bad-value", f"{subject} is empty", None
    if kind == "bad-name":
        return kind, context["text"], None
    if "text" in context:
        return kind, f"{subject}{':' if field else ''} {context['text']}", None
    said = error["msg"].removeprefix("Input should be ")
    return "bad-value", f"{subject} must be {said}, not {shown(value)}", None


def _keys(shape: type[Section] | None) -> Collection[str]:
    return [field.alias or name for name, field in shape.model_fields.items()] if shape else []


def _dig(data: Any, path: PathKey) -> Any:
    for step in path:
        data = data[step]
    return data


def _field_of(path: PathKey) -> str | None:
    """The key a value belongs to, or None for a thing that has a name of its own."""
    if len(path) <= len(_entity(path)):
        return None
    return next((str(step) for step in reversed(path) if isinstance(step, str)), None)


def _entity(path: PathKey) -> PathKey:
    """The beginning of the path that leads to a named thing."""
    if path[:1] == ("policies",) and len(path) >= 4 and path[2] in ("routes", "rules"):
        return path[:4]
    if path[:1] == ("policies",) and len(path) >= 3 and path[2] == "default":
        return path[:3]
    return path[:2] if path and path[0] in SHARED else path[:1] if path[:1] == ("server",) else ()


def describe(root: Node, path: PathKey) -> str:
    """What people call the thing at this path: `route 'strong' of policy 'support'`."""
    entity = _entity(path)
    inside = [f"`{step}`" for step in reversed(path[len(entity) :]) if isinstance(step, str)]
    return " of ".join([*inside, _name(root, entity)])


def _name(root: Node, entity: PathKey) -> str:
    if not entity:
        return "the config"
    if len(entity) == 1:
        return f"`{entity[0]}`"
    own = entity[-1]
    if entity[:1] == ("policies",) and len(entity) > 2:
        policy = f"policy {str(entity[1])!r}"
        if own == "default":
            return f"the default of {policy}"
        kind = "route" if entity[2] == "routes" else "rule"
        return f"{kind} {_said(root, entity)} of {policy}"
    return f"{SHARED[str(entity[0])]} {_said(root, entity)}"


def _said(root: Node, entity: PathKey) -> str:
    own = entity[-1]
    if isinstance(own, str):
        return repr(own)
    named = root.at((*entity, "name"))
    return repr(named.value) if named is not None and isinstance(named.value, str) else f"{own + 1}"
