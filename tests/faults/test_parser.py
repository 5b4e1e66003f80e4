"""Rows 20, 25 and 25b: the parser of streams alone, under every split and under damage."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.upstreams.base import Failed
from proxy.wire.stream import Stream
from tests.faults import fuzz
from tests.faults.conftest import Form
from tests.faults.rows import Rows


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if finish is None else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m",
                                   "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"  # fmt: skip


WORDS = ("the", " parcel", "ü", "\U0001f622", '"', "\\", "\n", "\u2028", "data: x", "", "[DONE]", "\x7f", "é\u0301")


def a_stream(draw: random.Random) -> bytes:
    """A good stream, with the oddities that good servers show."""
    parts = [chunk(draw.choice(WORDS)) for _ in range(draw.randint(1, 9))]
    parts.insert(draw.randint(0, len(parts)), b": ping\n\n")
    parts += [chunk("", "stop"), b"data: [DONE]\n\n"]
    data = b"".join(parts)
    return draw.choice(
        (data, data.replace(b"\n", b"\r\n"), data.replace(b"\n\n", b"\r\n\r\n"), b"\xef\xbb\xbf" + data)
    )


def relayed(data: bytes, places: list[int]) -> list[bytes]:
    """What a client reads of these bytes, cut in pieces there."""
    stream, out = Stream("m", False), b""
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        if data[start:stop]:
            out += stream.feed(data[start:stop])
    return fuzz.said(out if stream.done else out + stream.end())


def test_every_split_reads_the_same(form: Form, rows: Rows) -> None:
    """One split at every byte of each stream, then random ones."""
    draw = random.Random(20)
    differ = count = 0
    for _ in range(10 if form == "short" else 50):
        data = a_stream(draw)
        want = relayed(data, [])
        for place in range(1, len(data)):
            differ += relayed(data, [place]) != want
            count += 1
        for _ in range(20 if form == "short" else 1700):
            places = sorted(draw.randrange(len(data)) for _ in range(draw.randint(2, 40)))
            differ += relayed(data, places) != want
            count += 1
    rows.add(
        20,
        "streams split at every byte and at random",
        "identical parse, 100,000 examples",
        f"{differ} differ in {count:,}",
        differ == 0,
    )


@pytest.mark.parametrize("path", sorted(fuzz.CORPUS.glob("*.sse")), ids=lambda path: path.stem)
def test_the_corpus(path: Path) -> None:
    """Each file means the same in pieces of any size, and what goes out of it can be read."""
    for size in (1, 2, 3, 7, 16, 61):
        for usage in (False, True):
            fuzz.check(path.read_bytes(), size, usage)


def test_the_second_malformed_event_is_the_end() -> None:
    stream = Stream("m", False)
    stream.feed(chunk("a") + b"data: {\n\n")
    with pytest.raises(Failed):
        stream.feed(chunk("b") + b"data: [1]\n\n")


def damaged(draw: random.Random, seeds: list[bytes]) -> bytes:
    """A file of the corpus, or a good stream, with random damage."""
    data = bytearray(draw.choice(seeds) if draw.random() < 0.5 else a_stream(draw))
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[at : at + draw.randrange(1, 20)]
            case 2:
                data[at:at] = draw.choice(
                    (b"\n\n", b"\r", b"data:", b'"', b"\\", b"\xff", b"{", b"[DONE]", b"\0", b"\x0c")
                )
            case _:
                data[at:at] = data[: draw.randrange(len(data) + 1)]
    return bytes(data)


def test_damage_is_never_a_crash(form: Form, rows: Rows) -> None:
    """Read or refused, in bounded time; the same in pieces as in one; and what goes out is JSON."""
    draw = random.Random(25)
    seeds = [path.read_bytes() for path in sorted(fuzz.CORPUS.glob("*.sse"))]
    seconds = 1.5 if form == "short" else 60
    end = time.monotonic() + seconds
    count, worst = 0, 0.0
    while time.monotonic() < end:
        data, size = damaged(draw, seeds), draw.randint(1, 64)
        begun = time.thread_time()
        fuzz.check(data, size, draw.random() < 0.5)
        worst = max(worst, time.thread_time() - begun)
        count += 1
    rows.add(
        25,
        "damage to the upstream's bytes, at random",
        "0 crashes, 0 hangs over 50 ms (CPU)",
        f"{count:,} streams in {seconds:g} s, 0 crashes, slowest {worst * 1000:.1f} ms",
        worst <= 0.05 or form == "short",
    )


GUIDED = "POINTSMAN_FUZZ"  # seconds; `make fuzz` says thirty minutes
SETTLES = 16  # MB by which the fuzzer's own memory still grows, with the corpus that it keeps
FUZZER = Path(sys.prefix, "fuzz")  # atheris and what it finds; no dependency


@pytest.mark.slow
@pytest.mark.skipif(GUIDED not in os.environ, reason="`make fuzz` installs the fuzzer and runs this")
@pytest.mark.timeout(300 + 2 * int(os.environ.get(GUIDED, "0")))
def test_a_guided_fuzzer_finds_nothing(rows: Rows) -> None:
    """atheris changes the corpus, guided by what each change reaches. A crash, a hang or a leak ends it by itself."""
    seconds = os.environ[GUIDED]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", FUZZER, f"-max_total_time={seconds}"],
        env=os.environ | {"PYTHONPATH": str(FUZZER)},
        capture_output=True,
        text=True,
    )
    told = done.stderr
    runs = re.search(r"^Done (\d+) runs", told, re.MULTILINE)
    memory = [int(megabytes) for megabytes in re.findall(r"rss: (\d+)Mb", told)]
    assert runs, told[-2000:]
    assert done.returncode == 0, told[-2000:]
    assert memory, told[-2000:]
    grown = memory[-1] - memory[len(memory) // 2]
    if int(seconds) < 1800:
        return  # not what the row asks for
    rows.add(
        "25b",
        "30 minutes of damage to the upstream's bytes, guided by what it reaches (atheris)",
        f"0 crashes, 0 hangs over 50 ms (CPU); no leak: ≤ {SETTLES} MB in its second half",
        f"{int(runs[1]):,} streams, 0 crashes; {grown:+d} MB",
        grown <= SETTLES,
    )
