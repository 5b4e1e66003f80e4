"""Callers' keys: who a bearer token belongs to. Compared in constant time, kept only as digests."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Caller:
    """The names that labels and facts use; both `none` where no keys are configured."""

    key: str
    tenant: str
    policies: frozenset[str] | None = None  # those the key may use; None: all


ANYONE = Caller(key="none", tenant="none")
NO_HEADERS: Final[Mapping[bytes, bytes]] = {}

# The origin of a page that this machine itself serves.
_is_local = re.compile(rb"https?://(localhost|[\w.-]+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.I).fullmatch


def digest(secret: str | bytes) -> bytes:
    """SHA-256: keys are random, so a slow hash would add nothing but time."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).digest()


@dataclass(frozen=True, slots=True)
class KeyRing:
    callers: Mapping[bytes, Caller] = field(default_factory=dict)  # by digest; empty: everyone may call
    _known: Mapping[bytes, tuple[bytes, Caller]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {known: (known, caller) for known, caller in self.callers.items()})

    def caller(self, authorization: bytes | None, headers: Mapping[bytes, bytes] = NO_HEADERS) -> Caller:
        """Return who sent this `Authorization` header; `headers` are the request's. Raises `Unauthorized`.

        The token is hashed and the digest looked up: what an attacker can time is the digest's bytes, which
        tell nothing of the key. `compare_digest` then confirms the whole digest in constant time.

        Without keys whoever is on this machine may call, a browser among them; the pages it shows may not. Raises
        `Forbidden` for one of another site, which may have had its own name point here. Browsers name it when they
        post.
        """
        if not self.callers:
            if (origin := headers.get(b"origin")) is not None and not _is_local(origin):
                raise Forbidden("a page of another site may not call a proxy without keys: configure `keys:`")
            return ANYONE
        if not authorization:
            raise Unauthorized("no API key: send it as `Authorization: Bearer KEY`")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            raise Unauthorized("the Authorization header is not `Bearer KEY`")
        given = digest(token.strip())
        found = self._known.get(given)
        if found is None or not hmac.compare_digest(found[0], given):
            raise Unauthorized("incorrect API key")
        return found[1]

    def __repr__(self) -> str:
        return f"KeyRing({len(self.callers)} keys)"
