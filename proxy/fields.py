"""The header fields of a request: names in lower case, and only such that nobody before us reads differently.

Nearly every name that comes is in the table, in one of its usual spellings: one look-up, as cheap as lowering it.
"""

from collections.abc import Mapping
from typing import Final

from proxy.errors import BadRequest, HeadersTooLarge
from proxy.runtime import Limits

_USUAL: Final = """
    Accept Accept-Charset Accept-Encoding Accept-Language Api-Key Authorization Cache-Control Connection
    Content-Encoding Content-Length Content-Type Cookie Date Expect Forwarded Host Idempotency-Key Keep-Alive
    OpenAI-Beta OpenAI-Organization OpenAI-Project Openai-Beta Openai-Organization Openai-Project Origin Pragma
    Referer Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site TE Te Traceparent Tracestate Transfer-Encoding
    User-Agent Via X-Api-Key X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP
    X-Request-ID X-Request-Id X-Session-Id X-Stainless-Arch X-Stainless-Async X-Stainless-Helper-Method
    X-Stainless-Lang X-Stainless-OS X-Stainless-Package-Version X-Stainless-Raw-Response
    X-Stainless-Read-Timeout X-Stainless-Retry-Count X-Stainless-Runtime X-Stainless-Runtime-Version
    X-Stainless-Timeout
""".split()  # noqa: SIM905 -- names are easier to read without quotes
USUAL: Final = {spelled.encode(): name.lower().encode() for name in _USUAL for spelled in (name, name.lower())}
usual: Final = USUAL.get  # taken once: a method of what another module imports is looked up anew for each call


def unusual(name: bytes) -> bytes:
    """A name that is not in the table, in lower case. Raises `BadRequest`.

    `x_tier` and `x-tier` are one name to whatever hands headers on as environment variables: with both allowed, a
    caller could send one by the spelling that a gateway before us does not strip.
    """
    if b"_" in name:
        shown = name.decode("latin-1")[:100]
        raise BadRequest(f"the header name {shown!r} has an underscore: write it with `-`", code="invalid_header")
    return name.lower()


def again(name: bytes, first: bytes, second: bytes) -> bytes:
    """The value of a field that came twice. Raises `BadRequest` for a second host."""
    if name == b"host":
        raise BadRequest("the request has more than one `host` header", code="malformed_http")
    return first + b", " + second


def check_sizes(url: bytes, headers: Mapping[bytes, bytes], limits: Limits) -> None:
    """Raises `HeadersTooLarge`. Only asked of heads that came in a large read."""
    lines = [len(name) + len(value) + 4 for name, value in headers.items()]
    if len(url) + sum(lines) > limits.max_head:
        raise large_head(limits)
    if max(lines, default=0) > limits.max_header:
        raise HeadersTooLarge(f"a header of the request is larger than {limits.max_header} bytes")


def large_head(limits: Limits) -> HeadersTooLarge:
    return HeadersTooLarge(f"the request's head is larger than {limits.max_head} bytes")


def check_framing(headers: Mapping[bytes, bytes], modern: bool) -> None:
    """What the parser lets pass, but RFC 9112 does not. `modern`: HTTP/1.1. Raises `BadRequest`."""
    if modern:
        if b"host" not in headers:
            raise BadRequest("the request has no `host` header, which HTTP/1.1 demands", code="malformed_http")
    elif b"transfer-encoding" in headers:
        raise BadRequest("HTTP/1.0 knows no `transfer-encoding`", code="malformed_http")
