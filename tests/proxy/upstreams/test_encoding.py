"""Compressed answers, in pieces of any size, and the caps."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams import encoding
from proxy.upstreams.encoding import Decoder, Undecodable


@given(st.binary(max_size=3000), st.sampled_from(["gzip", "deflate", "raw"]), st.data())
def test_any_cut_gives_the_same_bytes(text: bytes, kind: str, data: st.DataObject) -> None:
    packed = gzip.compress(text) if kind == "gzip" else zlib.compress(text)
    if kind == "raw":
        packed = packed[2:-4]
    step = data.draw(st.integers(min_value=2, max_value=max(2, len(packed))))
    decoder = Decoder(b"gzip" if kind == "gzip" else b"Deflate")
    pieces = [decoder.feed(packed[start : start + step]) for start in range(0, len(packed), step)]
    decoder.finish()
    assert b"".join(pieces) == text


def test_a_bomb_stops_at_the_cap() -> None:
    """The ratio counts once the answer is large; nothing beyond the cap is ever in memory."""
    bomb = zlib.compress(bytes(100_000_000), 1)
    decoder = Decoder(b"deflate")
    pieces = (decoder.feed(bomb[start : start + 1000]) for start in range(0, len(bomb), 1000))
    with pytest.raises(Undecodable, match="limit"):
        list(pieces)
    assert decoder._given <= encoding.FREE_BYTES


def test_a_short_repetitive_answer_is_no_bomb() -> None:
    text = b"ab" * 400_000
    assert Decoder(b"gzip").feed(gzip.compress(text)) == text


def test_a_cut_answer_is_noticed() -> None:
    decoder = Decoder(b"gzip")
    decoder.feed(gzip.compress(b"hello")[:12])
    with pytest.raises(Undecodable, match="early"):
        decoder.finish()


def test_nothing_at_all_is_nothing() -> None:
    Decoder(b"gzip").finish()


@pytest.mark.parametrize("name", [b"br", b"zstd", b"gzip, gzip", b"\xff"])
def test_other_encodings_are_refused(name: bytes) -> None:
    with pytest.raises(Undecodable):
        Decoder(name)
