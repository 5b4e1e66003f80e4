"""Who a bearer token belongs to; what is no key is refused in words that say what to send."""

import pytest

from proxy.errors import Unauthorized
from proxy.keys import ANYONE, Caller, KeyRing, digest

ANN, BOB = Caller("ann-key", "ann"), Caller("bob-key", "bob", frozenset({"support"}))
RING = KeyRing({digest("sk-ann"): ANN, digest("sk-bob"): BOB})


@pytest.mark.parametrize(
    ("header", "caller"),
    [(b"Bearer sk-ann", ANN), (b"bearer sk-bob", BOB), (b"BEARER  sk-ann ", ANN)],
)
def test_a_key_is_found_whatever_the_schemes_case_and_white_space(header: bytes, caller: Caller) -> None:
    assert RING.caller(header) is caller


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "no API key"),
        (b"", "no API key"),
        (b"sk-ann", "not `Bearer KEY`"),
        (b"Basic sk-ann", "not `Bearer KEY`"),
        (b"Bearer ", "not `Bearer KEY`"),
        (b"Bearer sk-an", "incorrect"),
        (b"Bearer sk-ann2", "incorrect"),
        (b"Bearer sk-ann sk-bob", "incorrect"),
        (b"Bearer \xff\x00", "incorrect"),
    ],
)
def test_anything_else_is_refused(header: bytes | None, said: str) -> None:
    with pytest.raises(Unauthorized, match=said) as refused:
        RING.caller(header)
    assert (refused.value.http_status, refused.value.code) == (401, "invalid_api_key")
    assert "sk-" not in refused.value.message


def test_without_keys_everyone_is_nobody_in_particular() -> None:
    assert KeyRing().caller(None) is ANYONE
    assert KeyRing().caller(b"Bearer whatever") is ANYONE
    assert (ANYONE.key, ANYONE.tenant, ANYONE.policies) == ("none", "none", None)


def test_a_ring_keeps_and_prints_no_key() -> None:
    assert repr(RING) == "KeyRing(2 keys)"
    assert all(len(known) == 32 and b"sk-" not in known for known in RING.callers)
    assert digest("sk-ann") == digest(b"sk-ann")
