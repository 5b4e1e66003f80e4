"""Header fields: which names and sizes are taken. What a whole request may do is in test_bad_input.py."""

import pytest

from proxy.errors import BadRequest, HeadersTooLarge
from proxy.fields import USUAL, again, check_framing, check_sizes, unusual
from proxy.runtime import Limits


def test_usual_names_are_those_that_would_be_made() -> None:
    assert all(name.lower() == lower == unusual(name) for name, lower in USUAL.items())


def test_an_unusual_name_is_lowered_and_one_with_an_underscore_refused() -> None:
    assert unusual(b"X-Tier") == b"x-tier"
    with pytest.raises(BadRequest, match="'X_Tier' has an underscore"):
        unusual(b"X_Tier")


def test_what_comes_twice_is_one_list_but_for_the_host() -> None:
    assert again(b"x-tier", b"a", b"b") == b"a, b"
    with pytest.raises(BadRequest):
        again(b"host", b"a", b"a")


def test_sizes() -> None:
    limits = Limits(max_head=1000, max_header=100)
    check_sizes(b"/" * 500, {b"x": b"y" * 95}, limits)
    with pytest.raises(HeadersTooLarge, match="larger than 100 bytes"):
        check_sizes(b"/", {b"x": b"y" * 96}, limits)
    with pytest.raises(HeadersTooLarge, match="head is larger than 1000 bytes"):
        check_sizes(b"/" * 950, {b"x": b"y" * 95}, limits)


def test_framing() -> None:
    check_framing({b"host": b""}, modern=True)
    check_framing({}, modern=False)
    with pytest.raises(BadRequest, match="host"):
        check_framing({}, modern=True)
    with pytest.raises(BadRequest, match="transfer-encoding"):
        check_framing({b"transfer-encoding": b"chunked"}, modern=False)
