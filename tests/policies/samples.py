"""Requests and conditions for property tests, of few values, so that they meet; and conditions judged slowly."""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from policies import Facts
from policies.vocabulary import find

TIERS = ["gold", "silver", "gold-plus", ""]
NUMBERS = [0, 1, 2, 2.5, 3]
NAMES = ["search", "search_web", "mail"]
TEXTS = ["refund my order", "order", "hi", ""]


@st.composite
def requests(draw: st.DrawFn, caller_prompts: tuple[str, ...] = ("exact", "none")) -> Facts:
    """Facts of a small world, wrong types among them."""
    body: dict[str, Any] = {
        "max_tokens": draw(st.sampled_from([*NUMBERS, None, "many"])),
        "stream": draw(st.sampled_from([True, False, None, "yes"])),
        "tools": draw(st.lists(st.sampled_from(NAMES).map(lambda name: {"name": name}), max_size=2)),
        "messages": [
            {"role": "user", "content": text} for text in draw(st.lists(st.sampled_from(TEXTS), max_size=3))
        ],
        "user": draw(st.sampled_from(["ann", "bob", None])),
        "metadata": draw(st.sampled_from([{"team": "a"}, {"team": "b"}, {"team": 1}, None])),
    }
    tier = draw(st.sampled_from([*TIERS, None]))
    headers = {} if tier is None else {b"x-tier": tier.encode()}
    now = draw(st.integers(0, 14 * 24).map(lambda hour: hour * 3600.0))
    return Facts(body=body, headers=headers, now=now, caller_prompt=draw(st.sampled_from(caller_prompts)))


_values = {
    "header.x-tier": st.sampled_from(TIERS),
    "metadata.team": st.sampled_from(["a", "b"]),
    "user": st.sampled_from(["ann", "bob"]),
    "text": st.sampled_from([*TEXTS, "order$"]),
    "tool_names": st.sampled_from(NAMES),
    "max_tokens": st.sampled_from(NUMBERS),
    "messages": st.sampled_from([0, 1, 2]),
    "stream": st.booleans(),
    "tools": st.booleans(),
    "caller_prompt": st.sampled_from(["exact", "none"]),
}
_windows = st.sampled_from(
    [{"between": "22:00-06:00"}, {"between": "08:00-18:00", "days": ["mon", "thu"]}, {"days": ["sat"], "tz": "UTC"}]
)


@st.composite
def _compared(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(_values)))
    value, several = _values[name], st.lists(_values[name], max_size=2)
    fact = find(name)
    assert fact is not None
    operators: dict[str, st.SearchStrategy[Any]] = {"in": several, "not": value | several, "exists": st.booleans()}
    if fact.kind == "number":
        operators |= dict.fromkeys(("gt", "gte", "lt", "lte"), value)
        operators["not"] = value | several | st.fixed_dictionaries({"gt": value})
    elif fact.kind != "flag":
        operators |= dict.fromkeys(("contains", "prefix", "suffix", "matches"), value)
    mapped = st.fixed_dictionaries({}, optional=operators).filter(bool)
    return {name: draw(value | several | mapped)}


def whens() -> st.SearchStrategy[Any]:
    """`when` as it may stand in a config."""
    leaves = _compared() | _windows.map(lambda window: {"time": window})
    return st.recursive(leaves, _composed, max_leaves=6)


def _composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    merged = several.map(lambda maps: {key: value for each in maps for key, value in each.items()})
    groups = st.one_of(several.map(lambda parts: {"all": parts}), several.map(lambda parts: {"any": parts}))
    return st.one_of(merged, groups, inner.map(lambda part: {"not": part}))


def judged(when: Any, facts: Facts) -> bool:
    """What `when` says of a request, read straight from its YAML: the contract's words, slowly."""
    return all(_entry(key, value, facts) for key, value in when.items())


def _entry(key: str, value: Any, facts: Facts) -> bool:
    if key == "not":
        return not judged(value, facts)
    if key == "all":
        return all(judged(part, facts) for part in value)
    if key == "any":
        return any(judged(part, facts) for part in value)
    if key == "time":
        return _open(value, facts.now)
    fact = find(key)
    assert fact is not None
    got = fact.read(facts)
    if isinstance(value, dict):
        return all(_operator(op, want, got) for op, want in value.items())
    return _operator("in" if isinstance(value, list) else "eq", value, got)


def _operator(op: str, want: Any, got: Any) -> bool:
    if op == "exists":
        return (got is not None) is want
    if op == "not":
        if isinstance(want, dict):
            return not all(_operator(inner, value, got) for inner, value in want.items())
        return not _operator("in" if isinstance(want, list) else "eq", want, got)
    members = got if isinstance(got, tuple) else () if got is None else (got,)
    return any(_single(op, want, member) for member in members)


def _single(op: str, want: Any, got: Any) -> bool:
    if op == "matches":
        return re.search(want.replace("$", r"\Z"), got) is not None
    meanings: dict[str, Callable[[], bool]] = {
        "eq": lambda: got == want,
        "in": lambda: got in want,
        "gt": lambda: got > want,
        "gte": lambda: got >= want,
        "lt": lambda: got < want,
        "lte": lambda: got <= want,
        "contains": lambda: want in got,
        "prefix": lambda: got.startswith(want),
        "suffix": lambda: got.endswith(want),
    }
    return meanings[op]()


def _open(window: dict[str, Any], now: float) -> bool:
    """Hour by hour from the first of January 1970, a Thursday."""
    hour, day = int(now // 3600 % 24), int(now // 86400 + 3) % 7
    begin, end = (int(part[:2]) for part in window.get("between", "00:00-24:00").split("-"))
    days = [("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(name) for name in window.get("days", [])]
    began = day if begin <= hour else (day - 1) % 7
    inside = begin <= hour < end if begin < end else hour >= begin or hour < end
    return inside and (not days or began in days)
