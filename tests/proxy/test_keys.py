"""Who a bearer token belongs to; what is no key is refused in words that say what to send."""

import pytest

from proxy.errors import Forbidden, Unauthorized
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


LOCAL = (
    b"http://localhost:3000",
    b"http://127.0.0.1",
    b"https://app.localhost",
    b"http://[::1]:8080",
    b"HTTP://LOCALHOST",
)
FOREIGN = (
    b"https://evil.example", b"null", b"", b"http://localhost.evil.example", b"http://127.0.0.1.evil.example:8080",
    b"http://evil.example/http://localhost", b"http://localhost@evil.example", b"file://", b"https://evillocalhost",
    b"http://localhost:3000, https://evil.example", b"http://127.0.0.1:80\n", b"http://.evil\\.localhost",
)  # fmt: skip


@pytest.mark.parametrize("origin", LOCAL)
def test_without_keys_pages_of_this_machine_may_call(origin: bytes) -> None:
    assert KeyRing().caller(None, {b"origin": origin}) is ANYONE


@pytest.mark.parametrize("origin", FOREIGN)
def test_without_keys_pages_of_others_may_not(origin: bytes) -> None:
    """Else any page that somebody here looks at could spend money."""
    with pytest.raises(Forbidden, match="configure `keys:`"):
        KeyRing().caller(None, {b"origin": origin})
    assert RING.caller(b"Bearer sk-ann", {b"origin": origin}) is ANN
