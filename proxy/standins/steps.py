"""An answer as a list of steps: plain values that a plan yields, faults change and the connection performs.

Named tuples, because a stream makes several for each token and they cost half of a frozen dataclass.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]


class Think(NamedTuple):
    """Wait, generating `tokens` evenly meanwhile. Nought seconds is no wait; any more gives the wire a turn."""

    seconds: float
    tokens: int = 0


class Head(NamedTuple):
    status: int
    headers: Headers
    length: int | None = None  # of the body; None: chunked


class Send(NamedTuple):
    """A piece of the body (an SSE event, or a whole JSON answer). `tokens` were generated for it."""

    data: bytes
    tokens: int = 0
    content: bool = False  # a content event: what `after=` counts


class Raw(NamedTuple):
    """Bytes outside the framing; a head tells its status."""

    data: bytes
    status: int | None = None


class Stall(NamedTuple):
    """Nothing more, until the peer leaves."""


class Cut(NamedTuple):
    how: str  # `fin` or `rst`


class Note(NamedTuple):
    """For the journal: the usage that the next bytes report."""

    usage: object


Step = Think | Head | Send | Raw | Stall | Cut | Note
Steps = Iterator[Step]

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


def framed(steps: Steps, close: bool) -> Steps:
    """Turn heads and body pieces into bytes of HTTP/1.1; everything else passes.

    When the steps end, so does the body: properly if it can, else with the connection.
    """
    chunked = False
    promised = 0
    for step in steps:
        if type(step) is Send:
            if chunked:
                step = Send(b"%x\r\n%b\r\n" % (len(step.data), step.data), step.tokens, step.content)
            promised -= len(step.data)
            yield step
        elif type(step) is Head:
            chunked = step.length is None
            promised = step.length or 0
            yield _head(step, close)
        else:
            yield step
    if chunked:
        yield Raw(b"0\r\n\r\n")
    elif promised > 0:
        yield Cut("fin")


def _head(head: Head, close: bool) -> Raw:
    lines = [f"HTTP/1.1 {head.status} {_REASONS.get(head.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in head.headers]
    lines.append("transfer-encoding: chunked" if head.length is None else f"content-length: {head.length}")
    if close:
        lines.append("connection: close")
    return Raw("\r\n".join([*lines, "", ""]).encode("latin-1"), status=head.status)
