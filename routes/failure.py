"""The classes of failure that fallbacks, metrics and errors speak of.

A failed check on an answer is one more class, `check:NAME`, so that fallback and cascade share one grammar.
"""

from typing import Final

CONNECT: Final = "connect"  # refused, reset, DNS, TLS
TIMEOUT: Final = "timeout"  # connect, first content, idle, total
RATE_LIMITED: Final = "rate_limited"  # upstream 429
UPSTREAM_5XX: Final = "upstream_5xx"  # 5xx, overloaded
BAD_ANSWER: Final = "bad_answer"  # not the expected JSON or events, or an early end
AUTH: Final = "auth"  # upstream 401, 403
CONTEXT_LENGTH: Final = "context_length"
CONTENT_FILTER: Final = "content_filter"
REQUEST: Final = "request"  # any other upstream 4xx

CLASSES: Final = (
    CONNECT,
    TIMEOUT,
    RATE_LIMITED,
    UPSTREAM_5XX,
    BAD_ANSWER,
    AUTH,
    CONTEXT_LENGTH,
    CONTENT_FILTER,
    REQUEST,
)

# What a fallback without `if` answers to: failures that another model may not share.
DEFAULT_FALLBACK: Final = frozenset({CONNECT, TIMEOUT, RATE_LIMITED, UPSTREAM_5XX, BAD_ANSWER, AUTH, CONTEXT_LENGTH})
