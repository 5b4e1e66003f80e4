"""Rows 55 and 57 to 60, and F45: the process's life, from reload to kill."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.faults.conftest import Form
from tests.faults.load import Load, rate, said, wait_for
from tests.faults.probe import family
from tests.faults.rig import Rig
from tests.faults.rows import Rows


async def test_reloads_under_load(form: Form, rows: Rows) -> None:
    reloads, pause = (8, 0.3) if form == "short" else (50, 0.5)
    with Rig() as rig:
        good = rig.proxy.config.read_text()
        slowest = 0.0
        async with Load(rig, 20 if form == "short" else await rate(rig)) as load:
            for number in range(reloads):
                begun = time.perf_counter()
                if number % 5 == 4:
                    rig.proxy.config.write_text(good.replace("version: 1", "version: 1\nnonsense: 1"))
                    await wait_for(said(rig, "config refused", number // 5 + 1), 10)
                else:
                    rig.proxy.config.write_text(
                        f"{good}# {number}\n".replace("output: 0.4", f"output: 0.{number + 10}1")
                    )
                    want = len(load.configs) + 1
                    await wait_for(lambda want=want: len(load.configs) >= want, 10)  # type: ignore[misc]
                    slowest = max(slowest, time.perf_counter() - begun)
                await asyncio.sleep(pause)
        rig.proxy.config.write_text(good)
        prices = priced(await asyncio.to_thread(rig.settled, load.endings.total()))
        await asyncio.to_thread(rig.check)
    rows.add(
        55,
        f"{reloads} config reloads under load, a fifth of them bad",
        "0 failed, 0 mixed; effective ≤ 1 s",
        f"{load.bad} failed of {load.endings.total()} at {load.measured:.0f}/s; "
        f"{sum(len(found) > 1 for found in prices.values())} of {len(prices)} configs mixed; {slowest:.2f} s",
        load.bad == 0
        and all(len(found) == 1 for found in prices.values())
        and prices.keys() == load.configs.keys()
        and (slowest <= 1.0 or form == "short"),
    )


def priced(records: list[dict[str, Any]]) -> dict[str, set[float]]:
    """The output prices that requests of each config were billed at: more than one, and snapshots were mixed."""
    found: dict[str, set[float]] = {}
    for record in records:
        tokens = record["tokens"]
        output = record["cost_usd"] * 1e6 - 0.1 * tokens["input"]
        found.setdefault(record["config"], set()).add(round(output / tokens["output"], 4))
    return found


async def test_sigterm_with_live_streams(form: Form, rows: Rows) -> None:
    count = 20 if form == "short" else 200
    with Rig(settings={"announce": "500ms"}) as rig:
        refused = 0
        async with rig.streams(count, fault="pace=0.02 tokens=100") as streams:
            rig.proxy.signal(signal.SIGTERM)
            while await asyncio.to_thread(rig.proxy._is_ready):  # until the balancer sees it, requests still come
                refused += (await rig.ask("alone", stream=False)).ending != "complete"
            await asyncio.gather(*(asked.ended() for asked in streams))
            last = time.perf_counter()
            endings = Counter(asked.ending for asked in streams)
        code = await asyncio.to_thread(ended, rig)
        late = time.perf_counter() - last
        records = len(rig.records())
    rows.add(
        57,
        f"SIGTERM with {count} live streams",
        "0 cut, 0 refused; exit ≤ longest + 2 s",
        f"{endings['complete']}/{count} whole, {refused} refused, exit {code} after {late:.1f} s",
        endings["complete"] == count
        and not refused
        and code == 0
        and records >= count
        and (late <= 2 or form == "short"),
    )


def ended(rig: Rig) -> int:
    """The exit code of a proxy that was told to stop; a second signal would end it at once."""
    assert rig.proxy.process is not None
    return rig.proxy.process.wait(60)


async def test_the_drains_limit(form: Form, rows: Rows) -> None:
    count = 20 if form == "short" else 200
    with Rig(settings={"drain": "1s"}) as rig:
        async with rig.streams(count, fault="pace=0.05 tokens=2000") as streams:
            rig.proxy.signal(signal.SIGTERM)
            await asyncio.gather(*(asked.ended() for asked in streams))
            endings = Counter(asked.ending for asked in streams)
            told = sum(b"server_shutting_down" in asked.answer.body for asked in streams)
        code = await asyncio.to_thread(ended, rig)
        records = rig.records()
        booked = sum(bool(line["tokens"]) for line in records)
    rows.add(
        58,
        "SIGTERM, the drain's limit before the streams' end",
        "100 % told in band, 0 bare ends, ledger complete",
        f"{endings['in-band error']}/{count} told ({told} by code), {len(records)} records, {booked} with tokens",
        endings["in-band error"] == told == count == len(records) == booked and code == 0,
    )


async def test_a_second_sigterm(form: Form, rows: Rows) -> None:
    """Neither row nor fault of the table: whoever cannot wait for the drain loses no bill."""
    count = 20 if form == "short" else 200
    with Rig() as rig:
        async with rig.streams(count, fault="pace=0.05 tokens=2000") as streams:
            rig.proxy.signal(signal.SIGTERM)
            await wait_for(said(rig, '"draining"'), 10)
            rig.proxy.signal(signal.SIGTERM)
            await asyncio.gather(*(asked.ended() for asked in streams))
            endings = Counter(asked.ending for asked in streams)
        code = await asyncio.to_thread(ended, rig)
        booked = sum(bool(line["tokens"]) for line in rig.records())
    rows.add(
        "58b",
        "a second SIGTERM while streams run",
        "100 % told in band, ledger complete, exit 1",
        f"{endings['in-band error']}/{count} told, {booked} with tokens, exit {code}",
        endings["in-band error"] == booked == count and code == 1,
    )


async def test_rolling_replacement(form: Form, rows: Rows) -> None:
    with Rig(workers=2, gauge=False) as rig:
        before = set(family(rig.proxy.pid))
        async with (
            Load(rig, 20 if form == "short" else await rate(rig)) as load,
            rig.streams(10, fault="pace=0.02 tokens=150") as live,
        ):
            for each in range(1 if form == "short" else 3):
                rig.proxy.signal(signal.SIGUSR2)
                await wait_for(said(rig, "a worker was replaced", 2 * each + 2), 60)
            await asyncio.gather(*(asked.ended() for asked in live))
            cut = sum(asked.ending != "complete" for asked in live)
        await wait_for(lambda: len(before & set(family(rig.proxy.pid))) == 1, 20)
        after = set(family(rig.proxy.pid))
        rig.forget()
    rows.add(
        59,
        "rolling replacement of all workers at R",
        "0 errors, 0 refused; live streams finish",
        f"{load.bad} of {load.endings.total()} failed at {load.measured:.0f}/s, {cut} of 10 streams cut; "
        f"{len(before - after)} processes replaced",
        load.bad == 0 and cut == 0 and len(before - after) >= 2,
    )


async def test_kill_of_a_worker(form: Form, rows: Rows) -> None:
    """What it had finished stays counted, but for the last second; what it was serving is lost, as the log says."""
    with Rig(workers=2, gauge=False) as rig:
        await rig.asks(40, stream=False)
        counted = rig.proxy.metric("pointsman_requests_total")
        workers = family(rig.proxy.pid)[1:]
        count = 20 if form == "short" else 200
        async with rig.streams(count, fault="pace=0.05 tokens=100") as live:
            os.kill(workers[0], signal.SIGKILL)
            begun = time.perf_counter()
            await wait_for(said(rig, "a worker was started"), 30)
            took = time.perf_counter() - begun
            async with Load(rig, 20) as load:
                await asyncio.gather(*(asked.ended() for asked in live))
            lost = sum(asked.ending != "complete" for asked in live)
        booked = len(await asyncio.to_thread(rig.settled, 40 + count - lost + load.endings.total()))
        kept = rig.proxy.metric("pointsman_requests_total") - counted
        flagged = rig.proxy.metric("pointsman_workers_lost_total", reason="ended")
        rig.forget()
    finished = count - lost + load.endings.total()
    met = load.bad == 0 and booked == 40 + finished and kept == finished and flagged == 1
    rows.add(
        60,
        "kill -9 of one of two workers",
        "only its in-flight lost; replaced ≤ 2 s; ledger loss ≤ 1 s of events, flagged",
        f"{lost} of {count} streams lost, {load.bad} of {load.endings.total()} after it; replaced in {took:.1f} s; "
        f"{booked} records and {kept:.0f} counts of {finished} finished since; the dead one's metrics kept",
        met and ((took <= 2 and 0 < lost < count) or form == "short"),
    )


async def test_a_worker_that_hangs(form: Form, rows: Rows) -> None:
    """F45: it still takes connections that it never answers, until its supervisor ends it."""
    with Rig(workers=2, gauge=False) as rig:
        async with Load(rig, 20 if form == "short" else 100, stream=False) as load:
            stopped = family(rig.proxy.pid)[1]
            os.kill(stopped, signal.SIGSTOP)
            begun = time.perf_counter()
            await wait_for(said(rig, "a worker is stuck"), 30)
            noticed = time.perf_counter() - begun
            await wait_for(said(rig, "a worker was started"), 30)
            serving = time.perf_counter() - begun
            is_gone = stopped not in family(rig.proxy.pid)
        before = load.bad
        async with Load(rig, 20) as after:
            await asyncio.sleep(0.5)
        stuck = rig.proxy.metric("pointsman_workers_lost_total", reason="stuck")
        rig.forget()
    rows.add(
        "60b",
        "a worker's loop hangs (SIGSTOP)",
        "noticed ≤ 5 s and replaced; no client waits > 5 s",
        f"noticed after {noticed:.1f} s, replaced after {serving:.1f} s; {before} of {load.endings.total()} lost, "
        f"longest wait {load.longest:.1f} s; {after.bad} failed after it",
        is_gone and stuck == 1 and after.bad == 0 and (max(noticed, load.longest) <= 5 or form == "short"),
    )


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """So many processes that want a whole core each."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


async def test_no_false_alarm(form: Form, rows: Rows) -> None:
    """A machine that sleeps stops everybody, and one that is busy makes everybody late: no worker is at fault."""
    with Rig(workers=2, gauge=False) as rig:
        before = family(rig.proxy.pid)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(6)  # it is the fault: longer than a worker may hang
        for pid in reversed(before):
            os.kill(pid, signal.SIGCONT)
        with hogs((os.cpu_count() or 1) * 4):
            async with Load(rig, 10) as load:
                await asyncio.sleep(2 if form == "short" else 20)
        same = family(rig.proxy.pid) == before
        rig.forget()
    rows.add(
        "60c",
        "the machine sleeps 6 s, then has four times as much to do as it can",
        "0 workers replaced, 0 requests failed",
        f"the same workers: {same}; {load.bad} of {load.endings.total()} failed",
        same and load.bad == 0,
    )
