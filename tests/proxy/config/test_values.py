"""The small types: what is accepted, and that variables may stand for numbers."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.config.values import Address, Duration, Expanded, Flag, Interval, Name, Size, Timeout, is_unknown, shown

GOOD: list[tuple[Any, Any, Any]] = [
    *[
        (Duration, text, seconds)
        for text, seconds in (("500ms", 0.5), ("2s", 2), ("10m", 600), ("1.5h", 5400), ("1 d", 86400))
    ],
    *[(Duration, number, number) for number in (0, 2, 0.25)],
    *[(Duration, Expanded("30"), 30), (Duration, Expanded("30s"), 30), (Duration, "${X}", 1)],
    *[
        (Size, text, size)
        for text, size in (("10MiB", 10 << 20), ("1kB", 1000), ("5 GB", 5 * 10**9), ("1.5KiB", 1536))
    ],
    *[(Size, 7, 7), (Size, Expanded("7"), 7)],
    *[(Flag, True, True), (Flag, Expanded("true"), True), (Flag, Expanded("false"), False)],
    *[(Address, text, text) for text in ("127.0.0.1:8080", "[::1]:80", "localhost:0", ":8080")],
    *[(Name, text, text) for text in ("a", "gpt-4.1", "meta-llama/Llama 3", "a@b:c", "7", "x" * 100)],
]
BAD: list[tuple[Any, Any]] = [
    *[(Duration, value) for value in ("", "2", "s", "-1s", -1, "2 weeks", True, None, "1e3s", float("nan"), "９s")],
    *[(Duration, text) for text in ("1000000000s", "99999999999999d")],  # a timer of that length overflows
    (Timeout, "0s"),
    *[(Interval, value) for value in (0, "0s", "9ms")],  # comments would come as fast as the loop turns
    *[(Size, value) for value in (0, -1, 1.5, "", "MiB", "0MiB", "10XB", True, None)],
    *[(Flag, value) for value in ("true", "yes", 1, None, Expanded("yes"))],
    *[
        (Address, value)
        for value in ("", "localhost", "::1:80", "a:99999", "a:-1", "a:b", 8080, None, "a:８０", "unix:x")
    ],
    *[(Name, value) for value in ("", " a", "a ", "-a", "a\n", "ä", "x" * 101, "a$b", 7)],
]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_good(kind: Any, value: Any, expected: Any) -> None:
    assert TypeAdapter(kind).validate_python(value, strict=True) == expected


@pytest.mark.parametrize(("kind", "value"), BAD)
def test_bad(kind: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value, strict=True)


def test_unknown_text_has_an_unset_variable() -> None:
    assert is_unknown("http://${HOST}/v1")
    assert not any(is_unknown(value) for value in ("${1}", "$HOST", "plain", 7, None))


def test_values_are_quoted_short() -> None:
    assert [shown(value) for value in ("a", 1, None, True, {}, [])] == [
        "'a'",
        "1",
        "nothing",
        "true",
        "a map",
        "a list",
    ]
    assert len(shown("x" * 1000)) == 60
