"""Rows 27 to 32: clients that leave, dawdle, or come in great numbers."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest

from proxy.pressure import room_of
from tests.bench.figures import percentile
from tests.bench.process import OTHER_CORE, SUBJECT_CORE, many_files
from tests.faults import scenarios
from tests.faults.client import Client, request
from tests.faults.conftest import Form
from tests.faults.firehose import Firehose
from tests.faults.probe import Watch, sample
from tests.faults.rig import KEYS, Asked, Rig
from tests.faults.rows import Rows


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
async def test_clients_vanish_in_mid_stream(rig: Rig, form: Form, rows: Rows, how: str) -> None:
    count = 20 if form == "short" else 200
    await scenarios.vanishing_clients(rig, count, how)
    await asyncio.to_thread(rig.settled, count)
    late = sorted(await asyncio.to_thread(lateness, rig))
    p99 = late[int(len(late) * 0.99)]
    met = len(late) == count and late[-1] <= 1 and (p99 <= 0.25 or form == "short")
    rows.add(
        27,
        "200 clients vanish in mid-stream (FIN, RST, half-close)",
        "upstream closed ≤ 1 s for all, p99 ≤ 250 ms; a record each",
        f"{how}: {len(late)}/{count}, p99 {p99 * 1000:.0f} ms",
        met,
    )


def lateness(rig: Rig) -> list[float]:
    """Seconds between each client's leaving and the end of its upstream call."""
    calls = rig.calls()
    return [calls[a.number][0].finished - a.left for a in rig.asked if a.left and calls[a.number][0].finished]  # type: ignore[operator]


async def test_clients_leave_before_the_answer(rig: Rig, form: Form, rows: Rows) -> None:
    count = 20 if form == "short" else 200
    await scenarios.vanishing_before_content(rig, count)
    lines = await asyncio.to_thread(rig.settled, count)
    late = await asyncio.to_thread(lateness, rig)
    right = sum(line["status"] == 499 and line["outcome"] == "cancelled" for line in lines)
    rows.add(
        28,
        "clients leave a call that has not answered",
        "upstream closed ≤ 1 s; record with 499",
        f"{len(late)}/{count} within {max(late):.2f} s; {right} records of 499",
        len(late) == right == count and max(late) <= 1,
    )


async def test_cancels_leave_the_pool_whole(form: Form, rows: Rows) -> None:
    """A pool of ten, twenty at a time, half of them cancelled at random points, connecting included."""
    count = 200 if form == "short" else 10_000
    draw = random.Random(29)
    with Rig(settings={"limits": ", max_connections: 10"}) as rig:
        gate = asyncio.Semaphore(20)

        async def one() -> None:
            async with gate:
                asked = await rig.start("alone", stream=draw.random() < 0.5, fault="ttft=0.004 pace=0.0005")
                async with asked.client:
                    if draw.random() < 0.5:
                        await asyncio.sleep(draw.random() * 0.02)
                        asked.leave(draw.choice(("fin", "rst")))
                    else:
                        await asked.ended()

        for _ in range(0, count, 500):
            await asyncio.gather(*(one() for _ in range(min(500, count))))
            await asyncio.to_thread(rig.check)
        begun = time.perf_counter()
        after = await rig.asks(10, "alone", at_once=10, fault="ttft=0.3", stream=False)
        took = time.perf_counter() - begun
        whole = sum(each.ending == "complete" for each in after)
        await asyncio.to_thread(rig.check)
    rows.add(
        29,
        "cancels at random points, a pool of 10",
        "10,000, and 10/10 slots afterwards, 0 pool timeouts",
        f"{count:,}; {whole}/10 in {took:.2f} s",
        (whole == 10 and took < 0.6) or (form == "short" and whole == 10),
    )


async def test_slow_readers(form: Form, rows: Rows) -> None:
    """A byte a second of 50 MB each; beside them, requests that must not feel it."""
    count, seconds = (20, 2) if form == "short" else (100, 20)
    async with Firehose(50_000_000) as hose:
        with Rig(upstreams={"tuned": hose.base_url}) as rig:
            await timed(rig, 200, "strong")
            quiet = await spread(rig, 5 if form == "long" else 1)
            with Watch(rig.proxy.pid) as watch:
                streams = [await rig.start("alone", receive_buffer=4096) for _ in range(count)]
                await asyncio.gather(*(asked.until(1) for asked in streams))
                readers = asyncio.gather(*(sipped(asked, seconds) for asked in streams))
                times = await spread(rig, seconds)
                await readers
                for asked in streams:
                    asked.leave("rst")
                await asyncio.gather(*(asked.client.__aexit__(None, None, None) for asked in streams))
            await asyncio.to_thread(rig.check)
    each = watch.rss_growth / count / 1024
    added = (percentile(times, 99) - percentile(quiet, 99)) * 1000
    rows.add(
        30,
        "100 readers at 1 B/s of 50 MB",
        "≤ 256 KiB per stream, +≤ 40 MB in all; others' p99 +< 5 ms",
        f"{each:.0f} KiB per stream, +{watch.rss_growth / 2**20:.0f} MB; others' p99 {added:+.1f} ms",
        watch.rss_growth <= 40 * 2**20 and (form == "short" or (each <= 256 and added < 5)),
    )


async def spread(rig: Rig, seconds: int) -> list[float]:
    """Seconds of good requests to a model of their own, fifty a second."""
    begun, times = time.monotonic(), []
    for second in range(1, seconds + 1):
        times += await timed(rig, 50, "strong")
        await asyncio.sleep(begun + second - time.monotonic())
    return times


async def sipped(asked: Asked, seconds: int) -> None:
    """Read a byte a second."""
    for _ in range(seconds):
        asked.answer.feed(await asked.client.read(1))
        await asyncio.sleep(1)


async def test_idle_streams(form: Form, rows: Rows) -> None:
    """In the long form 10,000 for ten minutes, where this user may open so many files: two for each stream."""
    with many_files(65_536) as files:
        room = room_of(files)[0] // 100 * 100 - 100  # connections that the proxy takes, without those beside them
        count, seconds = (300, 1.0) if form == "short" else (min(10_000, room), 600.0)
        settings = {"idle": "30m", "total": "1h", "limits": f", max_connections: {count + 100}"}
        with Rig(settings=settings) as rig:
            await timed(rig, 50, "strong")
            before = sample(rig.proxy.pid).rss
            held: list[Asked] = []
            for _ in range(0, count, 100):
                batch = await asyncio.gather(*(rig.start("alone", fault="stall after=2") for _ in range(100)))
                held += await asyncio.gather(*(asked.until(1) for asked in batch))
            assert all(asked.answer.stamps for asked in held)  # a refusal would be idle, too, and cost nothing
            times: list[float] = []
            end = time.monotonic() + seconds
            while not times or time.monotonic() < end:
                times += await timed(rig, 50, "strong")
                await asyncio.sleep(min(10.0, seconds))
            after = sample(rig.proxy.pid).rss
            dropped = sum(asked.client.reader.at_eof() for asked in held)
            for asked in held:
                asked.leave("rst")
            await asyncio.gather(*(asked.client.__aexit__(None, None, None) for asked in held))
            rig.forget()
    each, p99 = (after - before) / count / 1024, percentile(times, 99) * 1000
    rows.add(
        31,
        "10,000 idle streams",
        "RSS < 600 MB, ≤ 45 KiB each; new request p99 ≤ 50 ms; 0 dropped in 10 min",
        f"{count:,}: {after / 1e6:.0f} MB, {each:.1f} KiB each; p99 {p99:.0f} ms; {dropped} in {seconds:.0f} s",
        after < 600e6 and dropped == 0 and (form == "short" or (each <= 45 and p99 <= 50)),
    )


async def test_slow_clients(form: Form, rows: Rows) -> None:
    """Heads and bodies that never end, and readers that never read, beside good traffic."""
    count = 300 if form == "short" else 4000
    with many_files(20_000), Rig() as rig:
        slow = [await Client.open(rig.proxy.url, receive_buffer=4096) for _ in range(count)]
        for number, client in enumerate(slow):
            match number % 3:
                case 0:
                    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
                case 1:
                    client.send(
                        request(b"", f"authorization: Bearer {KEYS['acme']}").replace(b": 0\r\n", b": 500\r\n")
                    )
                case _:
                    client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        with Watch(rig.proxy.pid) as watch:
            for _ in range(3 if form == "short" else 20):
                await timed(rig, 50)  # each of them is answered
                for client in slow:
                    client.send(b"a")
        await asyncio.gather(*(client.__aexit__(None, None, None) for client in slow))
        rig.forget()
    rows.add(
        "32b",
        "slow heads, bodies and unread answers, from one program",
        "good traffic 100 %; RSS +≤ 100 MB",
        f"{count:,}: 100 %; +{watch.rss_growth / 2**20:.0f} MB",
        watch.rss_growth <= 100 * 2**20,
    )


# slowhttptest's ways: slow heads, slow bodies, ranges, slow reading
MODES = {
    "H": [],
    "B": ["-s", "8192"],
    "R": ["-t", "HEAD"],
    "X": ["-k", "3", "-w", "1", "-y", "16", "-n", "5", "-z", "1"],
}


GOOD = 100  # good requests a second beside them
FILLING = 6  # seconds until the connections are there; that many in two is a load of another kind
LEFT = 20  # descriptors: what may differ between one quiet time and another
FILLED = 0.7  # of the connections: R is not slow, its connections are answered and gone before the others are there


@pytest.mark.needs("slowhttptest")
async def test_slowloris(form: Form, rows: Rows) -> None:
    each, seconds = (50, 10) if form == "short" else (1000, 45)
    asked_for = each * len(MODES)
    around = 2 if form == "short" else 20  # seconds, before and after: neighbours on the machine hold it up at times
    with many_files(20_000), on_a_core_apart(), Rig() as rig:
        await timed(rig, 200)
        quiet, unserved = await traffic(rig, around)
        before, held = sample(rig.proxy.pid).descriptors, list[int]()
        attackers = {mode: await slowhttptest(rig, mode, each, seconds) for mode in MODES}
        counting = asyncio.create_task(count(rig, held))
        try:
            await asyncio.sleep(FILLING)
            times, failed = await traffic(rig, seconds - FILLING - 2)
            broken = [mode for mode, attacker in attackers.items() if attacker.returncode]
        finally:
            counting.cancel()
            for attacker in attackers.values():
                if attacker.returncode is None:
                    attacker.terminate()
                await attacker.wait()
        async with asyncio.timeout(30):  # until what the attackers have left is closed
            while sample(rig.proxy.pid).descriptors > before + LEFT:
                await asyncio.sleep(0.1)
        after, lost = await traffic(rig, around)
        rig.forget()
    good, ratio = 1 - failed / len(times), percentile(times, 99) / percentile(quiet + after, 99)
    most, middle = max(held) - before, int(median(held)) - before
    rows.add(
        32,
        "slowhttptest: H, B, R and X at once, 1,000 connections each",
        "good traffic ≥ 99.9 %, p99 ≤ 2 × that before and after",
        f"at most {most:,} at once, {middle:,} half of the time: {good:.2%} of {len(times):,}, p99 {ratio:.1f} ×: "
        f"{percentile(quiet, 99) * 1000:.1f} ms before, {percentile(times, 99) * 1000:.1f} under it, "
        f"{percentile(after, 99) * 1000:.1f} after",
        good >= 0.999
        and not unserved + lost
        and (ratio <= 2 or form == "short")
        and most >= FILLED * asked_for
        and not broken,
    )


async def traffic(rig: Rig, seconds: float) -> tuple[list[float], int]:
    """Seconds that good requests take, and how many fail. They are sent at a fixed rate, whatever becomes of those
    before them: of a caller who waits for each answer, a long stall would hold up only one."""
    times: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        begun = time.perf_counter()
        asked = await rig.ask("alone", stream=False)
        times.append(time.perf_counter() - begun)
        failed += asked.ending != "complete"

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * GOOD)):
            await asyncio.sleep(begun + number / GOOD - time.monotonic())
            group.create_task(one())
    return times, failed


async def count(rig: Rig, found: list[int]) -> None:
    """Note how many descriptors the proxy has, each second, until cancelled. To ask itself would hold up both."""
    while True:
        found.append(len(os.listdir(f"/proc/{rig.proxy.pid}/fd")))
        await asyncio.sleep(1)


async def slowhttptest(rig: Rig, mode: str, connections: int, seconds: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "taskset", "-c", str(OTHER_CORE),
        "slowhttptest", f"-{mode}", *MODES[mode], "-c", str(connections), "-r", "500",
        "-l", str(seconds), "-i", "5", "-x", "24", "-p", "3", "-u", f"{rig.proxy.url}/v1/models",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def on_a_core_apart() -> Iterator[None]:
    """This thread and all that it starts: who attacks others has machines of their own, and here all of one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SUBJECT_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def timed(rig: Rig, count: int, policy: str = "alone") -> list[float]:
    """Seconds of good requests, one after the other."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        asked = await rig.ask(policy, stream=False)
        times.append(time.perf_counter() - begun)
        assert asked.ending == "complete"
    return times
