"""Take secrets out of text that came from a server before anybody reads it: servers quote the key they refused."""

import re
from collections.abc import Iterable
from typing import Final

from proxy.upstreams.base import Target

MASK: Final = "***"
SHORTEST: Final = 8  # characters; a shorter header value is a version or a flag, and would mask ordinary words

LOOKS_SECRET: Final = re.compile(
    r"""\b(?:sk|pk|rk|key|gsk|hf|xai|pplx|nvapi|ghp|gho)[-_][\w*.…-]{6,}  # vendors' own prefixes, also half masked
    | \bAKIA[0-9A-Z]{12,} | \bAIza[\w-]{20,}                              # Amazon, Google
    | \beyJ[\w-]{10,}\.[\w-]+(?:\.[\w-]*)?                                # JSON web tokens
    | (?<=\bbearer\s)\s*[^\s"',]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_is_secret_name = re.compile(r"key|secret|token|password|credential", re.IGNORECASE).search


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with these secrets, and whatever looks like one, masked."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return LOOKS_SECRET.sub(MASK, text)


def secrets_of(target: Target) -> frozenset[str]:
    """Return what must never be shown of a target: header values, also without their scheme, and keys."""
    found = set()
    for _, raw in target.headers:
        value = raw.decode("latin-1").strip()
        found |= {value, value.rpartition(" ")[2]}
    for name, given in (target.provider or {}).items():
        if isinstance(given, str) and _is_secret_name(name):
            found.add(given)
    return frozenset(value for value in found if len(value) >= SHORTEST)
