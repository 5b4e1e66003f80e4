"""Request bodies: one meaning or a 400 that says what is wrong."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.wire.body import check_chat, extras, parse

GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": 1, "a": 2}',
        b'{"model": "a", "mode\\u006c": "b"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b"{'a': 1}",
        b'{"a": 1} trailing',
    ],
)
def test_two_faced_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(data)
    assert refused.value.code == "invalid_json"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_plain_objects_come_through_unchanged(body: dict[str, object]) -> None:
    assert parse(json.dumps(body).encode()) == body


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_400(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(parse(data), dict)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"]}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"tools": {}}, "tools"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": []}, "metadata"),
        ({"stream_options": True}, "stream_options"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_chat({**GOOD, **change})
    assert refused.value.param == param


def test_unknown_fields_and_nulls_pass() -> None:
    check_chat({**GOOD, "brand_new": {"deep": [1]}, "temperature": None, "stream": None, "stop": ["a"]})


@pytest.mark.parametrize(
    ("given_extras", "param"),
    [
        ({"variable": {}}, "pointsman.variable"),
        ({"session": 5}, "pointsman.session"),
        ({"variables": []}, "pointsman.variables"),
        ({"variables": {"a": {}}}, "pointsman.variables.a"),
    ],
)
def test_wrong_extras_are_named(given_extras: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        extras({**GOOD, "pointsman": given_extras})
    assert refused.value.param == param


def test_extras_leave_the_body() -> None:
    body = {**GOOD, "pointsman": {"session": "s", "variables": {"a": 1}}}
    assert extras(body) == {"session": "s", "variables": {"a": 1}}
    assert "pointsman" not in body
