"""Weighing: the counts are those of the JSON itself, however the text is cut and whatever its strings hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.wire.bounds import Bounds
from proxy.wire.weight import PIECE, Scale

TEXTS = st.text() | st.text(alphabet='"\\,:[]{}')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


def held(value: Any) -> tuple[int, int]:
    """Keys and values, with empty lists and objects counted twice, as a walk finds them."""
    if isinstance(value, dict):
        inner = [held(item) for item in value.values()]
        return len(value) + sum(keys for keys, _ in inner), 1 + (sum(values for _, values in inner) or 1)
    if isinstance(value, list):
        inner = [held(item) for item in value]
        return sum(keys for keys, _ in inner), 1 + (sum(values for _, values in inner) or 1)
    return 0, 1


@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0, 500)))
def test_counts_are_those_of_the_value(value: Any, escaped: bool, indent: int | None, cuts: list[int]) -> None:
    data = json.dumps(value, ensure_ascii=escaped, indent=indent).encode("utf-8", "surrogatepass")
    scale = Scale(Bounds())
    start = 0
    for end in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        scale.feed(data[start:end])
        start = end
    assert (scale.keys, scale.values) == held(value)


@given(st.binary())
def test_bytes_of_any_kind_are_counted_somehow(data: bytes) -> None:
    scale = Scale(Bounds())
    for byte in data:
        scale.feed(bytes([byte]))
    assert scale.seen == len(data)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (b'{"a":[' + b"1," * 300 + b"1]}", "values"),
        (b"[" * 300, "values"),
        (b"{" + b'"":0,' * 150 + b"}", "keys"),
    ],
)
def test_too_much_is_refused(text: bytes, bound: str) -> None:
    with pytest.raises(BadRequest, match=rf"limits\.{bound}") as refused:
        Scale(Bounds(values=200, keys=100)).feed(text)
    assert refused.value.code == "above_limit"


def test_a_text_full_of_structure_is_one_value() -> None:
    data = json.dumps({"csv": "1,2:[{" * PIECE}).encode()
    scale = Scale(Bounds(values=3, keys=1))
    scale.feed(data[:1000])
    assert sum(1 for _ in scale.rest(data)) == -(-(len(data) - 1000) // PIECE)
    assert (scale.keys, scale.values, scale.seen) == (1, 2, len(data))
