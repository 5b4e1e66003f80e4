"""Undo a content encoding that a server used although it was asked not to, without falling for a bomb."""

import zlib
from typing import Final

MAX_BYTES: Final = 64 * 1024 * 1024  # of a decoded answer
MAX_RATIO: Final = 100  # decoded to encoded bytes ...
FREE_BYTES: Final = 1024 * 1024  # ... once the answer is larger than this: short repetitive ones are no bombs


class Undecodable(Exception):
    """The bytes are not what the header says, end early, or grow past the caps."""


class Decoder:
    """One answer's gzip or deflate. `feed` what comes, `finish` at its end."""

    def __init__(self, encoding: bytes) -> None:
        name = encoding.strip().lower()
        if name not in (b"gzip", b"x-gzip", b"deflate"):
            raise Undecodable(f"content-encoding {ascii(name.decode('latin-1'))[:40]} was not asked for")
        self._deflate = name == b"deflate"
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS if self._deflate else 16 + zlib.MAX_WBITS)
        self._taken = 0
        self._given = 0

    def feed(self, data: bytes) -> bytes:
        """Return what these bytes add to the answer, maybe nothing. Raises `Undecodable`."""
        limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * (self._taken + len(data)))) - self._given
        try:
            found = self._zlib.decompress(data, limit + 1)
        except zlib.error as error:
            if not self._deflate or self._taken:
                raise Undecodable(f"the answer's compression is broken: {error}") from None
            # Some servers send raw deflate, others the zlib format that the name stands for.
            self._deflate, self._zlib = False, zlib.decompressobj(-zlib.MAX_WBITS)
            return self.feed(data)
        if len(found) > limit:
            raise Undecodable("the compressed answer grows past the limit")
        self._taken += len(data)
        self._given += len(found)
        return found

    def finish(self) -> None:
        """Raises `Undecodable` when the compressed data ended early."""
        if self._taken and not self._zlib.eof:
            raise Undecodable("the compressed answer ended early")
