"""How much a JSON text holds, told before a parser makes objects of it.

Bytes are bounded elsewhere, but ten megabytes can be a million keys, which are a second of the event loop's time. So
texts that could hold too much are looked through first, piece by piece: what stands outside of strings is counted.
"""

from collections.abc import Iterator
from typing import Final

from proxy.wire.bounds import Bounds

PIECE: Final = 256 * 1024  # bytes looked at in one go: under a millisecond, a few for the worst
LIGHT: Final = 64 * 1024  # bytes; what is shorter cannot hold more than the bounds' least, and is not looked at


def weigh(data: bytes, bounds: Bounds) -> Iterator[None]:
    """Look through the text, with a pause after each piece. Raises `BadRequest` once it holds too much.

    Of valid JSON the counts are exact, but for empty lists and objects, which count twice as values. Of anything else
    they are some number: a parser refuses it anyway.
    """
    keys, values = 0, 1
    in_string, escape = False, b""
    for start in range(0, len(data), PIECE):
        piece = escape + data[start : start + PIECE]
        if b"\\" in piece:
            end = len(piece) - len(piece.rstrip(b"\\"))
            escape = b"\\" if end % 2 else b""  # what it escapes is in the next piece
            # in this order: a backslash that is escaped itself escapes nothing
            piece = piece[: len(piece) - len(escape)].replace(b"\\\\", b"").replace(b'\\"', b"")
        else:
            escape = b""
        parts = piece.split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        keys += outside.count(b":")
        values += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        bounds.check("keys", "", keys)
        bounds.check("values", "", values)
        yield
