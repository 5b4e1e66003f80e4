"""Rows 17 to 26: what goes wrong after the first content event. The parser alone is in `test_parser.py`."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

from proxy.wire.stream import MAX_EVENT
from tests.faults import scenarios
from tests.faults.conftest import Form
from tests.faults.probe import Watch
from tests.faults.rig import Asked, Rig
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


async def test_a_stalled_stream(form: Form, rows: Rows) -> None:
    """Streams that stall, and beside them streams that are slow, begun one after the other over an event's time.

    A stream that its server left without an event for longer than the timeout (the server is a thread of this
    process, and late where the machine is) is no healthy one: the journal tells.
    """
    idle, stalled, slow, events = (0.5, 3, 20, 4) if form == "short" else (2.0, 100, 200, 20)
    pace = 0.8 * idle
    patience = {"hasty": f"{idle * 1000:.0f}ms", "hasty_first": "20s", "hasty_total": "120s"}
    with Rig(settings=patience) as rig:

        async def after(share: float, work: Coroutine[None, None, Any]) -> Any:
            await asyncio.sleep(share * pace)
            return await work

        fault = f"pace={pace} tokens={events}"
        streams = asyncio.gather(*(after(n / slow, rig.ask("hasty", fault=fault)) for n in range(slow)))
        times = await asyncio.gather(
            *(after(n / stalled, scenarios.stalled_stream(rig, idle)) for n in range(stalled))
        )
        slow_ones = await streams
        pauses = {number: max(entry.pause for entry in entries) for number, entries in rig.calls().items()}
        healthy = [e for e in slow_ones if e.ending == "complete" or pauses.get(e.number, 0.0) < idle]
        cut = sum(each.ending != "complete" for each in healthy)
        await asyncio.to_thread(rig.check)
    off = max(abs(each - idle) / idle for each in times)
    rows.add(
        18,
        "stalled stream; healthy slow ones beside it (an event each 0.8 T)",
        "error at T ± 5 %; 0 of 200 healthy ones cut",
        f"T ± {off:.1%} over {len(times)}; {cut} of {len(healthy)} cut, {slow - len(healthy)} were not healthy",
        cut == 0 and (form == "short" or (off <= 0.05 and len(healthy) >= 0.9 * slow)),
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
    count = 3 if form == "short" else 50
    late = await asyncio.gather(*(scenarios.pings_in_mid_stream(rig) for _ in range(count)))
    off = max(abs(each - 0.5) / 0.5 for each in late)
    rows.add(
        "19b",
        "endless `: ping` after 3 content events",
        "error at the content-idle deadline T ± 5 %",
        f"T ± {off:.1%} over {count}",
        off <= 0.05 or form == "short",
    )


async def test_malformed_events(rig: Rig, form: Form, rows: Rows) -> None:
    """A hundredth of all events is none: as many streams have two of them as chance has it."""
    total = await scenarios.malformed_events(rig)
    draw = random.Random(21)
    skipped = ended = 0
    count, tokens = (40, 100) if form == "short" else (2000, 100)
    for _ in range(0, count, 100):
        wanted = [sum(draw.random() < 0.01 for _ in range(tokens)) for _ in range(min(100, count))]
        asked = await asyncio.gather(*(scenarios.malformed(rig, draw, bad, tokens) for bad in wanted))
        skipped += sum(each.ending == "complete" for each, bad in zip(asked, wanted, strict=True) if bad == 1)
        ended += sum(each.ending == "in-band error" for each, bad in zip(asked, wanted, strict=True) if bad > 1)
        assert all(each.ending == "complete" for each, bad in zip(asked, wanted, strict=True) if bad < 2)
        assert all(each.ending.endswith("error") for each, bad in zip(asked, wanted, strict=True) if bad > 1)
        total += sum(wanted)
        await asyncio.to_thread(rig.check)
    rows.add(
        21,
        "1 % of events malformed",
        "0 forwarded raw, 0 crashes; one is skipped, the second ends the stream",
        f"0 of {total} forwarded, 0 crashes; {skipped} streams with one are whole, {ended} with more end in band",
        bool(skipped) and bool(ended),
    )


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


async def test_broken_streams_are_billed(form: Form, rows: Rows) -> None:
    """What the journal says was generated before the break, against what was booked.

    Broken and whole answers are to the same kind of questions, as they would be: the ratios of tokens to characters
    come from the whole ones.
    """
    draw = random.Random(26)
    with Rig() as rig:  # one that has learned from nothing else

        async def ask(behaviours: list[str]) -> list[Asked]:
            rig.tuned.then(*behaviours)
            return await asyncio.gather(*(rig.ask("alone", fields=question(draw)) for _ in behaviours))

        await ask(["tokens=60"] * 50)
        await asyncio.to_thread(rig.check)
        booked = true = 0
        count = 60 if form == "short" else 5000
        for _ in range(0, count, 100):
            asked = await ask(
                [f"{draw.choice(BREAKS)} after={draw.randint(5, 55)} tokens=60" for _ in range(100)][:count]
            )
            lines = {int(line["client_id"]): line for line in await asyncio.to_thread(rig.settled, len(asked))}
            calls = rig.calls()
            for each in asked:
                if not each.answer.stamps:
                    continue  # a reset overtook the content
                booked += sum(lines[each.number]["tokens"].values())
                (entry,) = calls[each.number]
                true += entry.prompt + entry.generated
            await asyncio.to_thread(rig.check)
    off = abs(booked - true) / true
    rows.add(
        26,
        "partial answers",
        "ledger within 2 % of the oracle over 5,000 broken streams",
        f"off by {off:.1%} over {count:,}",
        off <= 0.02 or form == "short",
    )


BREAKS = ("cut", "cut how=rst pace=0.001")
QUESTION = (
    "where is my order and why does it take so long to get from your warehouse to Berlin, please tell me: the number "
    "on the invoice says 4711-X; I paid on Monday (by card), but nothing came; can you look it up, thank you"
)


def question(draw: random.Random) -> dict[str, object]:
    """A request's fields, with a question of some length."""
    text = " ".join(draw.choices(QUESTION.split(), k=draw.randint(10, 80)))
    return {"messages": [{"role": "user", "content": text}]}


async def test_a_reported_usage_is_booked_to_the_token(rig: Rig) -> None:
    asked = await rig.asks(10, "strong", usage=True)
    lines = {int(line["client_id"]): line for line in await asyncio.to_thread(rig.settled, len(asked))}
    for each in asked:
        (entry,) = rig.calls()[each.number]
        assert sum(lines[each.number]["tokens"].values()) == sum(oracle.reported(entry.reported) or [])
