"""Errors as values: each knows its status, its four fields and its headers."""

import inspect

import pytest

from proxy import errors
from proxy.errors import BadRequest, MethodNotAllowed, PointsmanError, Unauthorized, Unavailable, UpstreamError

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PointsmanError)]


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (BadRequest("m"), 400, "invalid_request", {}),
        (BadRequest("m", code="invalid_json"), 400, "invalid_json", {}),
        (Unauthorized("m"), 401, "invalid_api_key", {b"www-authenticate": b"Bearer"}),
        (errors.Forbidden("m"), 403, "forbidden", {}),
        (errors.NotFound("m", param="model", code="model_not_found"), 404, "model_not_found", {}),
        (MethodNotAllowed("m", "GET"), 405, "method_not_allowed", {b"allow": b"GET"}),
        (errors.RequestTimeout("m"), 408, "request_timeout", {}),
        (errors.TooLarge("m"), 413, "request_too_large", {}),
        (errors.UnsupportedMedia("m"), 415, "unsupported_media_type", {}),
        (errors.HeadersTooLarge("m"), 431, "request_header_fields_too_large", {}),
        (errors.InternalError("m"), 500, "internal_error", {}),
        (
            Unavailable("m", code="server_shutting_down", retry_after=7),
            503,
            "server_shutting_down",
            {b"retry-after": b"7"},
        ),
    ],
)
def test_each_error_knows_its_answer(
    error: PointsmanError, status: int, code: str, headers: dict[bytes, bytes]
) -> None:
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert error.http_status == status
    assert error.body() == {"error": {"message": "m", "type": kind, "param": error.param, "code": code}}
    assert dict(error.headers()) == headers


@pytest.mark.parametrize(("wait", "said"), [(None, None), (0.2, b"1"), (2.4, b"3"), (300.0, b"300")])
def test_after_our_own_tries_clients_are_told_not_to_retry_and_when_else(
    wait: float | None, said: bytes | None
) -> None:
    error = UpstreamError("m", status=429, type="rate_limit_error", code="upstream_rate_limited", retry_after=wait)
    assert dict(error.headers()) == {b"x-should-retry": b"false"} | ({b"retry-after": said} if said else {})
    assert (error.http_status, error.body()["error"]["type"]) == (429, "rate_limit_error")


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    """Every class is drawn, below and to the right of the one that it comes from."""
    drawn: dict[str, tuple[int, int]] = {}
    for line, text in enumerate((errors.__doc__ or "").splitlines()):
        word = text.split()[0] if text.strip() else ""
        drawn.setdefault(word, (line, len(text) - len(text.lstrip())))
    for kind in KINDS:
        assert kind.__name__ in drawn
        parent = kind.__mro__[1].__name__
        if kind is not PointsmanError:
            (line, indent), (above, left) = drawn[kind.__name__], drawn[parent]
            assert line > above
            assert indent == left + 2
