"""Rows 2 to 11: one of three equal endpoints fails, in each way, while requests come at a fixed rate."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from proxy.standins.journal import Entry
from tests.faults.conftest import LONG, Form
from tests.faults.lossy import black_hole
from tests.faults.pools import SIZES, Pool, Sent, Server, Try, extra, quantile, share, within
from tests.faults.rows import Rows
from tests.harness import until

UNDER_WAY = 0.25  # seconds from one side to the other, at most, with the machine full of our own load


def errors(sent: list[Sent]) -> int:
    return sum(not each.good for each in sent)


def calls_of(endpoint: str, tries: Mapping[int, Sequence[Try]]) -> list[Try]:
    """In the order in which they began."""
    found = [each for calls in tries.values() for each in calls if each.endpoint == endpoint]
    return sorted(found, key=lambda each: each.at)


def ejected(pool: Pool, endpoint: str) -> None:
    """Wait until it is, by each worker."""
    for _ in until(30.0, f"{endpoint} to be ejected"):
        if pool.proxy.metric("pointsman_ejections_total", endpoint=endpoint) >= pool.size.workers:
            return


async def timeline(pool: Pool, rate: float, begin: object, end: object = None) -> tuple[float, float]:
    """Load: well for a while, `begin`, and after the fault's time `end`. Returns when it began and ended."""
    size = pool.size
    async with pool.load(rate):
        await asyncio.sleep(size.healthy)
        began = time.time()
        await asyncio.to_thread(begin)  # type: ignore[arg-type]
        await asyncio.sleep(size.fault)
        ended = time.time()
        if end is not None:
            await asyncio.to_thread(end)  # type: ignore[arg-type]
            await asyncio.sleep(size.after)
    return began, ended


async def test_a_killed_endpoint(form: Form, rows: Rows) -> None:
    """And its return: one probe of each worker, then a ramp.

    All three are processes, so that they are equal: a thread of this one is late where the load keeps it busy.
    """
    size, server = SIZES[form], Server()
    with Pool(size, servers={"a": server, "b": Server(), "c": Server()}) as pool:
        rate = await pool.rate()
        streamed: list[Sent] = []

        def kill() -> None:
            streamed.extend(pool.streams)
            server.signal(signal.SIGKILL)

        async with pool.load(rate):
            await asyncio.sleep(size.healthy)
            began = time.time()
            await asyncio.to_thread(kill)
            await asyncio.sleep(size.fault / 2)
            back = time.time()
            await asyncio.to_thread(server.start)
            await asyncio.sleep(35.0 if form == "long" else 1.5)
        sent = within(pool.sent, began)
        tries = pool.tries(sent)
        during = {n: calls for n, calls in tries.items() if calls[0].at < back}
        bad, more = errors(sent), extra(during)
        ended = {each.number for each in pool.streams}  # else we have left it ourselves
        told = sum(each.answer.ending == "in-band error" for each in streamed)
        broken = sum(each.answer.ending.startswith("silent") and each.number in ended for each in streamed)
        pool.check()
    rows.add(
        2,
        "1 of 3 endpoints killed",
        "0 errors; extra load ≤ 1 %; its streams end in an error event",
        f"{bad} errors of {len(sent)} at {rate:.0f}/s; extra load {more:.2%}; {told} streams told, {broken} cut",
        bad == 0 and not broken and (form == "short" or (told > 0 and more <= 0.01)),
    )
    calls = calls_of("a", tries)
    good = [each for each in calls if each.at >= back and each.result == "ok"]
    assert good, "it never came back"
    probes = sum(each.at < good[0].at + good[0].took for each in good)
    fair = rate / 3
    flow = Counter(int((each.at - good[0].at) / 2) for each in good)
    most = max((count for second, count in flow.items() if second < 10), default=0) / 2 / fair
    rows.add(
        3,
        "and restarted after half of it",
        "back ≤ 20 s; 1 probe of each worker first; ≤ 1.2 × its fair share",
        f"back after {good[0].at - back:.1f} s; {probes} probes of {size.workers} workers; {most:.2f} × its share",
        form == "short" or (good[0].at - back <= 20 and probes <= size.workers and most <= 1.2),
    )


async def test_an_endpoint_that_always_fails(form: Form, rows: Rows) -> None:
    size = SIZES[form]
    with Pool(size) as pool:
        rate = await pool.rate()
        began, _ = await timeline(pool, rate, lambda: pool.misbehave("a", "status=500"))
        sent = within(pool.sent, began)
        calls = [each for each in calls_of("a", pool.tries(sent)) if each.result != "ok"]
        bad = errors(sent)
        pool.check()
    first = sum(each.at < began + 1.0 for each in calls)
    later = len(calls) - first
    windows = int(size.fault / 5)
    rows.add(
        4,
        "1 of 3 answers 500 always",
        "0 errors; of each worker ≤ 5 calls and those under way, then a probe each window",
        f"{bad} errors of {len(sent)}; {first} calls at first, {later} later, {size.workers} workers",
        bad == 0 and (form == "short" or (first <= 8 * size.workers and later <= windows * size.workers)),
    )


@pytest.mark.parametrize("form", [pytest.param("long", marks=LONG)])  # shares need time
async def test_an_endpoint_that_fails_now_and_then(form: Form, rows: Rows) -> None:
    size = SIZES[form]
    with Pool(size) as pool:
        rate = await pool.rate()
        began, ended = await timeline(pool, rate, lambda: pool.misbehave("a", "status=500", every=3))
        sent = within(pool.sent, began)
        part = share(pool.tries(sent), "a", began + 5.0, ended)
        bad = errors(sent)
        pool.check()
    rows.add(
        5,
        "1 of 3 answers 500 each third time",
        "≥ 99.99 % success; its share ≤ 10 % after 5 s",
        f"{bad} errors of {len(sent)}; share {part:.1%}",
        bad <= len(sent) / 10_000 and (part <= 0.1 or form == "short"),
    )


async def test_all_fail(form: Form, rows: Rows) -> None:
    size = SIZES[form]
    with Pool(size) as pool:
        rate = await pool.rate()

        def all_of(fault: str) -> None:
            for name in pool.standins:
                pool.misbehave(name, fault)

        began, ended = await timeline(pool, rate, lambda: all_of("status=503"), lambda: all_of(""))
        failed = [each for each in within(pool.sent, began, ended) if not each.good]
        tries = pool.tries(within(pool.sent, began, ended))
        more = extra(tries)
        late = max((pool.times[e.number] - sum(call.took for call in tries[e.number]) for e in failed), default=0.0)
        after = within(pool.sent, ended + (2.0 if form == "long" else 0.3))
        bad = errors(after)
        pool.check()
    rows.add(
        6,
        "all 3 answer 503",
        "extra load ≤ 20 %; error ≤ 100 ms after the last refusal; ≥ 99 % success 2 s after repair",
        f"extra load {more:.1%}; {late * 1000:.0f} ms; {bad} errors of {len(after)} after",
        (more <= 0.2 or form == "short") and bad <= len(after) / 100 and (late <= 0.1 or form == "short"),
    )


async def test_a_key_is_rate_limited(form: Form, rows: Rows) -> None:
    """One worker: it knows of its own refusals only, and which of several has asked, nobody tells us."""
    size = SIZES[form] if form == "short" else replace(SIZES[form], workers=1, rate=150.0)
    with Pool(size) as pool:
        rate = await pool.rate()
        began, _ = await timeline(pool, rate, lambda: pool.misbehave("a", "status=429 retry-after=2"))
        sent = within(pool.sent, began)
        refusals = [entry for entry in pool.standins["a"].journal if entry.status == 429 and entry.finished]
        ejected = pool.proxy.metric("pointsman_ejections_total")
        bad = errors(sent)
        pool.check()
    pauses: list[Entry] = []  # the refusal that each began with; what was under way then comes too
    early = 0
    for entry in refusals:
        if not pauses or entry.received > pauses[-1].received + 2.0:  # it was said then, or a little later
            pauses.append(entry)
        early += entry.received > (pauses[-1].finished or 0.0) + UNDER_WAY
    rows.add(
        7,
        "1 key answers 429 with Retry-After: 2",
        "0 errors; ≤ 1 request in its pauses but those under way; no ejection",
        f"{bad} errors of {len(sent)}; {len(refusals)} refusals, {len(pauses)} pauses, {early} in them; "
        f"{ejected:.0f} ejections",
        bad == 0 and (form == "short" or (ejected == 0 and early <= 1 and len(pauses) > 1)),
    )


async def test_all_keys_are_rate_limited(form: Form, rows: Rows) -> None:
    """At once, with the smallest of the waits that are left."""
    size = SIZES[form]
    with Pool(size) as pool:
        rate = await pool.rate()
        due: dict[str, float] = {}

        def limit() -> None:
            for name, wait in (("a", 60), ("b", 40), ("c", 50)):
                pool.misbehave(name, f"status=429 retry-after={wait}")
                due[name] = time.time() + wait

        began, _ = await timeline(pool, rate, limit)
        refused = [each for each in within(pool.sent, began) if each.answer.status == 429]
        other = [each for each in within(pool.sent, began) if each.answer.status not in (200, 429)]
        tries = pool.tries(refused)
        settled = [each for each in refused if each.at > began + 1.0] or refused[-5:]
        off = max(abs(float(each.answer.headers["retry-after"]) - (due["b"] - each.at)) for each in settled)
        calls = sum(len(cs) for cs in tries.values())
        pool.check()
    rows.add(
        8,
        "all keys answer 429",
        "the smallest wait ± 1 s; no call in the pause",
        f"± {off:.1f} s, {calls} calls for {len(refused)} refusals, {len(other)} other errors",
        not other and (form == "short" or (off <= 1.5 and calls <= 3 * 8 * size.workers)),
    )


async def test_a_black_hole(form: Form, rows: Rows) -> None:
    size = SIZES[form]
    with black_hole() as port, Pool(size, urls={"c": f"http://127.0.0.1:{port}/v1"}) as pool:
        rate = await pool.rate()
        async with pool.load(rate):
            await asyncio.sleep(size.fault)
        tries = calls_of("c", pool.tries(pool.sent))
        first = sum(each.at < tries[0].at + 2.0 for each in tries)
        longest = max(each.took for each in tries)
        bad = errors(pool.sent)
        pool.check()
    rows.add(
        9,
        "SYN black hole of 1 of 3",
        "0 errors; ≤ 16 delayed at first, then probes; each ≤ 2.2 s",
        f"{bad} errors of {len(pool.sent)}; {first} delayed at first, {len(tries)} in all, each ≤ {longest:.2f} s",
        bad == 0 and (form == "short" or (first <= 16 and longest <= 2.2)),
    )


async def test_an_endpoint_stops(form: Form, rows: Rows) -> None:
    """It takes connections, and answers nothing: it is left long before a timeout would say so."""
    size, server = SIZES[form] if form == "long" else replace(SIZES[form], rate=80.0, answer=0.2), Server()
    with Pool(size, servers={"a": server, "b": Server(), "c": Server()}) as pool:
        rate = await pool.rate()
        async with pool.load(rate):
            await asyncio.sleep(max(size.healthy, 2.0))
            began = time.time()
            server.signal(signal.SIGSTOP)
            await asyncio.to_thread(ejected, pool, "a")
            await asyncio.sleep(size.fault)
            ended = time.time()
            server.signal(signal.SIGCONT)
            await asyncio.sleep(size.after)
        sent = within(pool.sent, began, ended)
        tries = pool.tries(sent)
        part = share(tries, "a", began + 3.0, ended)
        usual = quantile([each.took for each in within(pool.sent, 0.0, began)], 0.99)
        late = [each.took for each in sent if each.took > usual + 0.5]
        bad = errors(within(pool.sent, began))
        pool.check()
    rows.add(
        10,
        "1 of 3 stopped (accepts, silent)",
        "0 errors; its share ≤ 5 % after 3 s",
        f"{bad} errors of {len(sent)}; share {part:.1%}; {len(late)} delayed, at most {max(late, default=0):.1f} s",
        bad == 0 and (part <= 0.05 or form == "short"),
    )


@pytest.mark.parametrize("form", [pytest.param("long", marks=LONG)])  # shares need time
async def test_an_endpoint_is_ten_times_slower(form: Form, rows: Rows) -> None:
    """The servers are processes: as threads of the client they would be late with it."""
    size, server = SIZES[form], Server()
    with Pool(size, servers={"a": server, "b": Server(), "c": Server()}) as pool:
        rate = await pool.rate()
        began, ended = await timeline(pool, rate, lambda: server.misbehave(f"ttft={10 * size.answer}"))
        before = quantile([each.took for each in within(pool.sent, began - size.healthy, began)], 0.99)
        slow = within(pool.sent, began + 5.0, ended)
        after = quantile([each.took for each in slow], 0.99)
        part = share(pool.tries(slow), "a") if slow else 0.0
        bad = errors(pool.sent)
        pool.check()
    rows.add(
        11,
        "1 of 3 ten times slower",
        "0 errors; p99 ≤ 1.5 × healthy after 5 s",
        f"{bad} errors; p99 {after * 1000:.0f} ms, healthy {before * 1000:.0f} ms; share {part:.1%}",
        bad == 0 and (form == "short" or (after <= 1.5 * before and before <= 1.2 * size.answer)),
    )
