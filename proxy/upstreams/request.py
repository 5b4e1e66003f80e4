"""A call's head as HTTP/1.1 bytes. What never changes for a target is encoded once per path."""

import re
from collections.abc import Iterable
from typing import Final

from proxy import __version__
from proxy.upstreams.address import Origin
from proxy.upstreams.base import Call, Failed, Target
from routes import failure

USER_AGENT: Final = f"pointsman/{__version__}".encode()
MAX_PATHS: Final = 64  # heads kept per target; paths come from our own table, this only bounds a mistake

_is_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_illegal = re.compile(rb"[\r\n\0]").search
_is_path = re.compile(rb"/[!-~]*").fullmatch

# Ours alone: who sets these decides where a message ends, or whom it is for.
FRAMING: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"trailer", b"expect")
)


def checked(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode header lines. Raises ValueError, naming the header and not its value, when one cannot be sent."""
    lines = []
    for name, value in headers:
        if not _is_token(name) or name.lower() in FRAMING:
            raise ValueError(f"header {name.decode('latin-1')!a} cannot be set")
        if _is_illegal(value):
            raise ValueError(f"header {name.decode()} has a line break or NUL in its value")
        lines.append(b"%b: %b\r\n" % (name, value.strip()))
    return b"".join(lines)


def common_headers(target: Target) -> list[tuple[bytes, bytes]]:
    """The headers of every call to a target: ours, then what config says, which wins."""
    ours = {
        b"user-agent": USER_AGENT,
        b"accept": b"*/*",
        b"accept-encoding": b"identity",  # answers are read as they pass: decompressing would cost more than it saves
        b"content-type": b"application/json",
    }
    for name, _ in target.headers:
        ours.pop(name.lower(), None)
    return [*ours.items(), *target.headers]


class Heads:
    """Encodes the heads of one target's calls."""

    def __init__(self, target: Target, origin: Origin) -> None:
        self._prefix = origin.prefix.encode("ascii")
        self._lines = b"host: %b\r\n" % origin.host_header.encode("ascii") + checked(common_headers(target))
        self._heads: dict[bytes, bytes] = {}

    def encode(self, call: Call) -> bytes:
        """Return everything before the body. Raises `Failed` when the call's own headers cannot be sent."""
        head = self._heads.get(call.path) or self._head(call.path)
        if not call.headers:
            return b"%b%d\r\n\r\n" % (head, len(call.body))
        try:
            return b"%b%d\r\n%b\r\n" % (head, len(call.body), checked(call.headers))
        except ValueError as error:
            raise Failed(failure.REQUEST, str(error), status=400) from None

    def _head(self, path: bytes) -> bytes:
        if not _is_path(path):
            raise ValueError(f"not a path: {path!r}")
        if len(self._heads) >= MAX_PATHS:
            self._heads.clear()
        head = b"POST %b%b HTTP/1.1\r\n%bcontent-length: " % (self._prefix, path, self._lines)
        self._heads[path] = head
        return head
