"""A confined client neither follows nor remembers; the clients' own tests show it on the wire."""

import httpx
import pytest

from proxy.upstreams.confine import confined, confines


@pytest.mark.parametrize("kind", [httpx.Client, httpx.AsyncClient])
def test_a_client_of_either_kind_is_confined(kind: type[httpx.Client] | type[httpx.AsyncClient]) -> None:
    client = confined(kind(follow_redirects=True, cookies={"a": "b"}))
    assert client.follow_redirects is False
    assert not client.cookies


def test_a_jar_takes_nothing() -> None:
    def hand_out(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"set-cookie": "a=b; Path=/"}, text=request.headers.get("cookie", ""))

    with confined(httpx.Client(transport=httpx.MockTransport(hand_out))) as client:
        assert [client.get("http://up.test/").text for _ in range(2)] == ["", ""]


def test_wrapping_twice_is_wrapping_once() -> None:
    def make() -> httpx.Client | None:
        return None

    once = confines(make)
    assert confines(once) is once
    assert once() is None
