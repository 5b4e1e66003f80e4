"""How much a JSON text holds, told before a parser makes objects of it.

Bytes are bounded elsewhere, but ten megabytes can be a million keys, which are a second of the event loop's time. So
large texts are looked at piece by piece, while they come: what stands outside of strings is counted.
"""

from collections.abc import Iterator
from typing import Final

from proxy.wire.bounds import Bounds

PIECE: Final = 256 * 1024  # bytes looked at in one go: under a millisecond, a few for the worst
LIGHT: Final = 64 * 1024  # bytes; what is shorter cannot hold much: at most 16,000 keys, 32,000 values


class Scale:
    """What one text holds, as far as it has come.

    Of valid JSON the counts are exact, but for empty lists and objects, which count twice as values. Of anything else
    they are some number: a parser refuses it anyway.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.seen = 0  # bytes
        self.keys = 0
        self.values = 1
        self._bounds = bounds
        self._in_string = False
        self._escape = b""  # a backslash that ended a piece: what it escapes is in the next one

    def feed(self, piece: bytes) -> None:
        """The next bytes of the text. Raises `BadRequest` once it holds too much."""
        self.seen += len(piece)
        piece = self._escape + piece
        self._escape = b""
        if b"\\" in piece:
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
                piece, self._escape = piece[:-1], b"\\"
            # in this order: a backslash that is escaped itself escapes nothing
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        outside = b"".join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        self.keys += outside.count(b":")
        self.values += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        self._bounds.check("keys", "", self.keys)
        self._bounds.check("values", "", self.values)

    def rest(self, data: bytes) -> Iterator[None]:
        """Look through what of the whole text was not fed, with a pause after each piece."""
        for start in range(self.seen, len(data), PIECE):
            self.feed(data[start : start + PIECE])
            yield
