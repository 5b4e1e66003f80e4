"""A call's head: bytes that cannot be bent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.address import Origin
from proxy.upstreams.base import Call, Failed, Target
from proxy.upstreams.request import FRAMING, MAX_PATHS, Heads, checked


def heads(base_url: str = "https://up.test/v1", *headers: tuple[bytes, bytes]) -> Heads:
    return Heads(Target("up", base_url, headers=headers), Origin.parse(base_url))


def test_a_whole_head() -> None:
    head = heads("https://up.test/v1", (b"api-key", b"secret")).encode(Call(b"/models", b"{}", ((b"x-a", b"b"),)))
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/models HTTP/1.1"
    assert lines[1] == b"host: up.test"
    assert lines[-5:] == [b"api-key: secret", b"content-length: 2", b"x-a: b", b"", b""]


def test_config_may_replace_our_own_headers() -> None:
    head = heads("https://up.test", (b"User-Agent", b"mine"), (b"accept", b"x/y")).encode(Call(b"/x", b""))
    assert head.lower().count(b"user-agent: ") == head.count(b"User-Agent: mine") == 1
    assert head.count(b"accept: ") == 1


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_header_is_one_line_or_refused(name: bytes, value: bytes) -> None:
    try:
        line = checked([(name, value)])
    except ValueError:
        return
    assert line.endswith(b"\r\n")
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert b"\0" not in line
    assert line.split(b":")[0] == name
    assert name.lower() not in FRAMING


def test_a_refusal_does_not_show_the_value() -> None:
    with pytest.raises(ValueError, match="authorization") as caught:
        heads("http://up.test", (b"authorization", b"Bearer sk-secret\n"))
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(Failed) as failed:
        heads().encode(Call(b"/x", b"", ((b"content-length", b"99"),)))
    assert failed.value.failure == "request"


@pytest.mark.parametrize("path", [b"", b"x", b"/a b", b"/a\r\nhost: evil", b"/\xff"])
def test_paths_are_ours(path: bytes) -> None:
    with pytest.raises(ValueError, match="path"):
        heads().encode(Call(path, b""))


def test_paths_are_kept_within_bounds() -> None:
    made = heads()
    for number in range(3 * MAX_PATHS):
        made.encode(Call(b"/%d" % number, b""))
    assert len(made._heads) <= MAX_PATHS
