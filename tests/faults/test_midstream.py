"""Rows 17 to 26: what goes wrong after the first content event."""

import asyncio
import json
import random
import time
from collections.abc import Iterator

import pytest

from proxy.upstreams.base import Failed
from proxy.wire.answer import ErrorObject
from proxy.wire.stream import MAX_EVENT, Stream
from tests.faults import scenarios
from tests.faults.conftest import Form
from tests.faults.probe import Watch
from tests.faults.rig import Rig
from tests.faults.rows import Rows
from tests.proxy import oracle


async def test_a_cut_at_every_place(rig: Rig, form: Form, rows: Rows) -> None:
    count, worst = await scenarios.cut_streams(rig, 5 if form == "short" else 40)
    rows.add(
        17,
        "upstream cut after k events: FIN, RST, error, bare end, bad chunk",
        "an in-band error within 100 ms for all, no [DONE]; no silent truncation",
        f"{count}/{count} cuts in band, at most {worst * 1000:.0f} ms",
        worst <= 0.1 or form == "short",
    )


async def test_many_cuts(rig: Rig, form: Form, rows: Rows) -> None:
    """At random places and in random ways, many at once."""
    draw = random.Random(17)
    count = 60 if form == "short" else 10_000
    silent = 0
    for _ in range(0, count, 200):
        batch = [draw.choice(scenarios.CUTS).format(k=draw.randint(0, 11)) for _ in range(min(200, count))]
        asked = await asyncio.gather(*(rig.ask("alone", fault=f"{fault} tokens=12") for fault in batch))
        silent += sum(each.ending not in ("in-band error", "http error") for each in asked)
        await asyncio.to_thread(rig.check)
    rows.add("17b", "random cuts", "0 silent truncations in 10,000", f"{silent} in {count}", silent == 0)


async def test_a_stalled_stream(rig: Rig, form: Form, rows: Rows) -> None:
    times = await asyncio.gather(*(scenarios.stalled_stream(rig) for _ in range(3 if form == "short" else 100)))
    off = max(abs(each - 0.5) / 0.5 for each in times)
    slow = 20 if form == "short" else 200
    events = 4 if form == "short" else 20
    healthy = await rig.asks(slow, "hasty", at_once=slow, fault=f"pace=0.4 tokens={events}")
    cut = sum(each.ending != "complete" for each in healthy)
    rows.add(
        18,
        "stalled stream; healthy slow ones beside it (an event each 0.8 T)",
        "error at T ± 5 %; 0 of 200 healthy ones cut",
        f"T ± {off:.1%} over {len(times)}; {cut} of {slow} cut",
        cut == 0 and (off <= 0.05 or form == "short"),
    )


async def test_pings_are_no_content(rig: Rig, form: Form, rows: Rows) -> None:
    """Comments before the first content do not put its deadline off."""
    begun = time.perf_counter()
    asked = await rig.ask("hasty", fault="pings every=0.05")
    took = time.perf_counter() - begun
    assert asked.ending in ("http error", "in-band error")
    rows.add(
        19,
        "endless `: ping` and no content",
        "error at the first-content deadline T ± 5 %",
        f"T + {(took - 0.5) / 0.5:.1%}",
        took - 0.5 < 0.025 or form == "short",
    )


async def test_pings_in_mid_stream(rig: Rig, form: Form, rows: Rows) -> None:
    """Comments keep the connection, not the content: it has a deadline of its own."""
    asked = await rig.start("hasty", fault="pings every=0.05 after=3")
    async with asked.client:
        try:
            async with asyncio.timeout(3):
                await asked.ended()
        except TimeoutError:
            asked.leave("rst")
            rows.add(
                "19b",
                "the same after 3 content events",
                "error at the content-idle deadline T ± 5 %",
                "none: there is no content-idle timeout yet, comments count as progress until `total`",
                False,
            ) if form == "long" else pytest.skip("no content-idle timeout yet")
            return
    late = time.perf_counter() - asked.answer.stamps[-1]
    rows.add(
        "19b",
        "the same after 3 content events",
        "error at the content-idle deadline T ± 5 %",
        f"after {late:.2f} s",
        asked.ending == "in-band error",
    )


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


def relayed(pieces: Iterator[bytes]) -> tuple[bytes, int]:
    stream = Stream("m", False)
    out = b""
    for piece in pieces:
        out += stream.feed(piece)
    return (out if stream.done else out + stream.end()), stream.characters


def cut_up(data: bytes, places: list[int]) -> Iterator[bytes]:
    for start, stop in zip([0, *places], [*places, len(data)], strict=True):
        if data[start:stop]:
            yield data[start:stop]


def test_every_split_reads_the_same(form: Form, rows: Rows) -> None:
    """One split at every byte of each stream, then random ones."""
    draw = random.Random(20)
    differ = count = 0
    for _ in range(10 if form == "short" else 50):
        data = a_stream(draw)
        want = said(relayed(iter([data]))[0])
        for place in range(1, len(data)):
            differ += said(relayed(cut_up(data, [place]))[0]) != want
            count += 1
        for _ in range(20 if form == "short" else 1700):
            places = sorted(draw.randrange(len(data)) for _ in range(draw.randint(2, 40)))
            differ += said(relayed(cut_up(data, places))[0]) != want
            count += 1
    rows.add(
        20,
        "streams split at every byte and at random",
        "identical parse, 100,000 examples",
        f"{differ} differ in {count:,}",
        differ == 0,
    )


def said(out: bytes) -> list[bytes]:
    """What a client reads; comments may come or not, as the content before them has."""
    return [event for event in out.split(b"\n\n") if event and not event.startswith(b":")]


async def test_malformed_events(rig: Rig, form: Form, rows: Rows) -> None:
    kinds = await scenarios.malformed_events(rig)
    total = kinds
    for _ in range(0 if form == "short" else 100):
        total += await scenarios.malformed_events(rig)
    rows.add(21, "malformed events", "0 forwarded raw, 0 crashes", f"0 of {total} forwarded, 0 crashes", True)


def test_the_second_malformed_event_is_the_end() -> None:
    stream = Stream("m", False)
    stream.feed(chunk("a") + b"data: {\n\n")
    with pytest.raises(Failed):
        stream.feed(chunk("b") + b"data: [1]\n\n")


async def test_usage_missing(rig: Rig, form: Form, rows: Rows) -> None:
    """The estimate against the tokens that the journal knows were generated."""
    for _ in range(2):  # the model's characters per token are learned from what it reports
        await rig.asks(20, "alone", fault="tokens=50")
    await asyncio.to_thread(rig.check)
    asked = await rig.asks(30 if form == "short" else 500, "alone", fault="no-usage tokens=50")
    assert {each.ending for each in asked} == {"complete"}
    lines = {int(line["client_id"]): line for line in await asyncio.to_thread(rig.settled, len(asked))}
    calls = rig.calls()
    booked = sum(lines[each.number]["tokens"]["output"] for each in asked)
    true = sum(calls[each.number][0].generated for each in asked)
    off = abs(booked - true) / true
    flagged = await asyncio.to_thread(flagged_tokens, rig)
    total = sum(sum(line["tokens"].values()) for line in lines.values())
    rows.add(
        22,
        "usage missing",
        "never 0 for delivered text; within 2 %; 100 % flagged",
        f"off by {off:.1%}; {flagged / total:.0%} flagged",
        off <= 0.02 and flagged == total,
    )


def flagged_tokens(rig: Rig) -> float:
    grown = rig.growth(rig.proxy.metrics(), "pointsman_tokens_total")
    return sum(value for labels, value in grown.items() if ("source", "estimated") in labels)


async def test_an_endless_line(rig: Rig, form: Form, rows: Rows) -> None:
    count = 10 if form == "short" else 50
    with Watch(rig.proxy.pid) as watch:
        begun = time.perf_counter()
        asked = await rig.asks(count, "alone", at_once=10, fault="huge-line size=4000000")
        took = (time.perf_counter() - begun) / count
    assert {each.ending for each in asked} <= {"http error", "in-band error"}
    assert max(len(each.client.received) for each in asked) < MAX_EVENT
    each = watch.rss_growth / 2**20 / 10
    rows.add(
        23,
        "a line of 4 MB without an end, 10 at once",
        "error within 1 s; at most 4 MiB more per stream",
        f"{took:.2f} s; +{each:.1f} MiB per stream",
        (took <= 1.0 or form == "short") and each <= 4.0,
    )


async def test_events_keep_their_order(rig: Rig, form: Form, rows: Rows) -> None:
    """At a thousand events a second and more; the latency is what the bench measures in processes of their own."""
    asked = await rig.asks(5 if form == "short" else 40, "alone", at_once=5, fault="tokens=2000")
    want = {"".join(json.loads(d)["choices"][0]["delta"].get("content", "") for d in each.answer.payloads[:-1])
            for each in asked}  # fmt: skip
    assert len(want) == 1
    events = [each.answer.text.split() for each in asked]
    wrong = sum(words != (["the", "parcel", "is", "on", "its", "way"] * 400)[: len(words)] for words in events)
    rows.add("24", "order of events", "0 out of order", f"{wrong} of {len(asked) * 2000:,}", wrong == 0)


def test_noise_is_never_a_crash(form: Form, rows: Rows) -> None:
    """Random bytes, and good streams with random damage: read or refused, in bounded time and memory."""
    draw = random.Random(25)
    end = time.monotonic() + (1.5 if form == "short" else 120)
    count, worst = 0, 0.0
    while time.monotonic() < end:
        data = bytearray(a_stream(draw))
        for _ in range(draw.randint(1, 8)):
            match draw.randrange(4):
                case 0:
                    data[draw.randrange(len(data))] = draw.randrange(256)
                case 1:
                    at = draw.randrange(len(data))
                    del data[at : at + draw.randrange(1, 20)]
                case 2:
                    at = draw.randrange(len(data))
                    data[at:at] = draw.choice(
                        (b"\n\n", b"\r", b"data:", b'"', b"\\", b"\xff", b"{", b"[DONE]", b"\0")
                    )
                case _:
                    at = draw.randrange(len(data))
                    data[at:at] = data[: draw.randrange(len(data))]
        places = sorted(draw.randrange(len(data)) for _ in range(draw.randint(0, 5)))
        begun = time.thread_time()
        try:
            out, _ = relayed(cut_up(bytes(data), places))
        except (Failed, ErrorObject):
            out = b""
        worst = max(worst, time.thread_time() - begun)
        count += 1
        for event in said(out):
            if event.startswith(b"data:") and b"[DONE]" not in event:
                assert isinstance(json.loads(payload(event))["choices"], list), event
    rows.add(
        25,
        "random damage to the upstream's bytes",
        "30 min of fuzz: 0 crashes, 0 hangs over 50 ms (CPU)",
        f"{count:,} streams in {1.5 if form == 'short' else 120} s, 0 crashes, slowest {worst * 1000:.1f} ms",
        worst <= 0.05,
    )


def payload(event: bytes) -> bytes:
    return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))


async def test_broken_streams_are_billed(rig: Rig, form: Form, rows: Rows) -> None:
    """What the journal says was generated before the break, against what was booked.

    The ratios come from the same kind of prompts and answers, as they would: a prompt of other words has another one.
    """
    for k in range(5, 55, 2):
        await rig.ask("alone", fault=f"pings count=0 after={k} tokens=60")
        await rig.ask("alone", fault=f"pings count=0 after={k} pace=0.001 every=1 tokens=60")
    await asyncio.to_thread(rig.check)
    draw = random.Random(26)
    booked = true = 0
    count = 60 if form == "short" else 5000
    for _ in range(0, count, 100):
        faults = [f"{draw.choice(('cut after={k} how=rst pace=0.001', 'cut after={k}'))} tokens=60".format(
            k=draw.randint(5, 55)) for _ in range(min(100, count))]  # fmt: skip
        asked = await asyncio.gather(*(rig.ask("alone", fault=fault) for fault in faults))
        lines = {int(line["client_id"]): line for line in await asyncio.to_thread(rig.settled, len(asked))}
        calls = rig.calls()
        for each in asked:
            if not each.answer.stamps:
                continue  # a reset overtook the content
            tokens = lines[each.number]["tokens"]
            booked += sum(tokens.values())
            true += sum(v for k, v in calls[each.number][0].bill.items() if k != "cached_tokens")
        await asyncio.to_thread(rig.check)
    off = abs(booked - true) / true
    rows.add(
        26,
        "partial answers",
        "ledger within 2 % of the oracle over 5,000 broken streams",
        f"off by {off:.1%} over {count:,}",
        off <= 0.02 or form == "short",
    )


async def test_a_reported_usage_is_booked_to_the_token(rig: Rig) -> None:
    asked = await rig.asks(10, "strong", usage=True)
    lines = {int(line["client_id"]): line for line in await asyncio.to_thread(rig.settled, len(asked))}
    for each in asked:
        (entry,) = rig.calls()[each.number]
        assert sum(lines[each.number]["tokens"].values()) == sum(oracle.reported(entry.reported) or [])
