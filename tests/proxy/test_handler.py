"""What the handler takes of a request's head. Whole requests are in `test_chat`."""

import pytest

from proxy.errors import UnsupportedMedia
from proxy.exchange import Exchange
from proxy.handler import check_content_type, client_id, forwarded
from proxy.server import Protocol


def exchange(**headers: bytes) -> Exchange:
    """A request that has come; nothing is written to it, so it needs no connection."""
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Exchange(Protocol.__new__(Protocol), b"POST", "/v1/chat/completions", named, keep_alive=True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"abc-1", "abc-1"), (b"x" * 500, "x" * 128), (b"a\tb\x00c\xe9", "abc"), (b"", "")],
)
def test_the_clients_own_id_is_kept_cut_and_printable(given: bytes, kept: str) -> None:
    assert client_id(exchange(x_request_id=given)) == kept
    assert client_id(exchange()) is None


@pytest.mark.parametrize(
    "kind", [None, b"application/json", b"Application/JSON; charset=utf-8", b"application/json ;x=y"]
)
def test_json_is_taken_however_it_is_called(kind: bytes | None) -> None:
    check_content_type(kind)


@pytest.mark.parametrize("kind", [b"text/plain", b"", b"multipart/form-data; boundary=x", b"application/jsonl"])
def test_anything_else_is_refused(kind: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="send application/json"):
        check_content_type(kind)


def test_only_listed_headers_reach_models() -> None:
    assert forwarded(exchange(authorization=b"Bearer sk", cookie=b"c", x_tier=b"gold")) == ()
    found = forwarded(exchange(traceparent=b"00-1", openai_beta=b"b", authorization=b"Bearer sk"))
    assert set(found) == {(b"traceparent", b"00-1"), (b"openai-beta", b"b")}
