"""Rows 55, 57 to 61 and 63 to 66: the process's life, and its resources."""

import asyncio
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.faults import scenarios
from tests.faults.client import Client
from tests.faults.conftest import Form
from tests.faults.probe import Watch, family, sample, scrape
from tests.faults.rig import Rig
from tests.faults.rows import Rows


class Load:
    """Requests at a fixed rate, each on a connection of its own, until the block ends."""

    def __init__(self, rig: Rig, rate: float, *, policy: str = "alone", stream: bool = False) -> None:
        self.rig, self.rate, self.policy, self.stream = rig, rate, policy, stream
        self.endings: Counter[str] = Counter()
        self.configs: Counter[str] = Counter()
        self._stop = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Load":
        self._main = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._main
        await asyncio.gather(*self._running)

    async def _run(self) -> None:
        while not self._stop.is_set():
            task = asyncio.get_running_loop().create_task(self._one())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(1 / self.rate)

    async def _one(self) -> None:
        try:
            asked = await self.rig.ask(self.policy, stream=self.stream)
        except OSError as error:
            self.endings[type(error).__name__] += 1
            return
        self.endings[asked.ending] += 1
        self.configs[asked.answer.headers.get("x-pointsman-config", "none")] += 1

    @property
    def bad(self) -> int:
        return self.endings.total() - self.endings["complete"]


async def test_reloads_under_load(form: Form, rows: Rows) -> None:
    reloads, pause = (8, 0.3) if form == "short" else (50, 0.5)
    with Rig() as rig:
        good = rig.proxy.config.read_text()
        slowest = 0.0
        async with Load(rig, 20 if form == "short" else 100) as load:
            for number in range(reloads):
                begun = time.perf_counter()
                if number % 5 == 4:
                    rig.proxy.config.write_text(good.replace("version: 1", "version: 1\nnonsense: 1"))
                    await wait_for(lambda: "config refused" in rig.proxy.text, 10)
                else:
                    rig.proxy.config.write_text(
                        f"{good}# {number}\n".replace("output: 0.4", f"output: 0.{number + 10}")
                    )
                    want = len(load.configs) + 1
                    await wait_for(partial(reached, load.configs, want), 10)
                    slowest = max(slowest, time.perf_counter() - begun)
                await asyncio.sleep(pause)
        rig.proxy.config.write_text(good)
        await asyncio.to_thread(rig.check)
    rows.add(
        55,
        f"{reloads} config reloads under load, a fifth of them bad",
        "0 failed, 0 mixed; effective ≤ 1 s",
        f"{load.bad} failed of {load.endings.total()}; {len(load.configs)} configs; {slowest:.2f} s",
        load.bad == 0 and (slowest <= 1.0 or form == "short"),
    )


def reached(counter: Counter[str], size: int) -> bool:
    return len(counter) >= size


def said(rig: Rig, text: str, times: int) -> bool:
    return rig.proxy.text.count(text) >= times


async def wait_for(what: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


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


async def test_rolling_replacement(form: Form, rows: Rows) -> None:
    with Rig(workers=2, gauge=False) as rig:
        before = set(family(rig.proxy.pid))
        async with (
            Load(rig, 20 if form == "short" else 100) as load,
            rig.streams(10, fault="pace=0.02 tokens=150") as live,
        ):
            for each in range(1 if form == "short" else 3):
                rig.proxy.signal(signal.SIGUSR2)
                await wait_for(partial(said, rig, "a worker was replaced", 2 * each + 2), 60)
            await asyncio.gather(*(asked.ended() for asked in live))
            cut = sum(asked.ending != "complete" for asked in live)
        await wait_for(lambda: len(before & set(family(rig.proxy.pid))) == 1, 20)
        after = set(family(rig.proxy.pid))
        rig.forget()
    rows.add(
        59,
        "rolling replacement of all workers under load",
        "0 errors, 0 refused; live streams finish",
        f"{load.bad} of {load.endings.total()} failed, {cut} of 10 streams cut; "
        f"{len(before - after)} processes replaced",
        load.bad == 0 and cut == 0 and len(before - after) >= 2,
    )


async def test_kill_of_a_worker(form: Form, rows: Rows) -> None:
    with Rig(workers=2, gauge=False) as rig:
        workers = family(rig.proxy.pid)[1:]
        count = 20 if form == "short" else 200
        async with rig.streams(count, fault="pace=0.05 tokens=100") as live:
            os.kill(workers[0], signal.SIGKILL)
            begun = time.perf_counter()
            await wait_for(lambda: "a worker was started" in rig.proxy.text, 30)
            took = time.perf_counter() - begun
            async with Load(rig, 20) as load:
                await asyncio.gather(*(asked.ended() for asked in live))
            lost = sum(asked.ending != "complete" for asked in live)
        booked = await asyncio.to_thread(rig.settled, count - lost + load.endings.total())
        rig.forget()
    met = load.bad == 0 and len(booked) >= count - lost and (0 < lost < count or form == "short")
    rows.add(
        60,
        "kill -9 of one of two workers",
        "only its streams are lost; replaced ≤ 2 s; ledger loss ≤ 1 s",
        f"{lost} of {count} streams lost, {load.bad} of {load.endings.total()} after it; replaced in {took:.1f} s; "
        "lost calls have no record (no spool yet)",
        met and (took <= 2 or form == "short"),
    )


async def test_descriptors_run_out(form: Form, rows: Rows) -> None:
    count = 400 if form == "short" else 1000
    with Rig() as rig:
        resource.prlimit(rig.proxy.pid, resource.RLIMIT_NOFILE, (256, 256))
        rig.records()
        async with rig.streams(20, fault="pace=0.05 tokens=80") as live:
            crowd = await asyncio.gather(*(Client.open(rig.proxy.url) for _ in range(count)), return_exceptions=True)
            await asyncio.sleep(2.0)
            size = len(rig.proxy.text.splitlines())
            await asyncio.gather(*(c.__aexit__(None, None, None) for c in crowd if isinstance(c, Client)))
            begun = time.perf_counter()
            while True:
                try:
                    async with asyncio.timeout(3):
                        if (await rig.ask("strong", stream=False)).ending == "complete":
                            break
                except (TimeoutError, OSError):
                    pass
                assert time.perf_counter() - begun < 30, "it never recovers"
            recovery = time.perf_counter() - begun
            await asyncio.gather(*(asked.ended() for asked in live))
            cut = sum(asked.ending != "complete" for asked in live)
        alive = rig.proxy.process is not None and rig.proxy.process.poll() is None
        rig.forget()
    rows.add(
        61,
        f"nofile 256, {count} clients",
        "0 crash; live streams unharmed; ≤ 10 log lines/s; recovery ≤ 2 s",
        f"alive: {alive}; {cut} of 20 streams cut; {size / 2:.0f} lines/s; recovery {recovery:.1f} s",
        alive and cut == 0 and size / 2 <= 10 and (recovery <= 2 or form == "short"),
    )


async def test_series_are_bounded(rig: Rig, form: Form, rows: Rows) -> None:
    await rig.asks(10, "alone")
    count = 300 if form == "short" else 50_000
    with Watch(rig.proxy.pid) as watch:
        await scenarios.unique_names(rig, count)
    page = await asyncio.to_thread(scrape, rig.proxy.admin)
    rows.add(
        64,
        f"{2 * count:,} unique models, paths, users and headers",
        "≤ 5,000 series; scrape ≤ 200 ms; RSS +≤ 20 MB",
        f"{page.series} series, {page.seconds * 1000:.0f} ms, +{watch.rss_growth / 2**20:.1f} MB",
        page.series <= 5000 and watch.rss_growth <= 20 * 2**20 and (page.seconds <= 0.2 or form == "short"),
    )


async def test_the_loop_is_free(rig: Rig, form: Form, rows: Rows) -> None:
    """Nothing waits on the loop's thread: no file, no look-up, no program; seen by audit hooks inside the process."""
    lag = await scenarios.loop_is_free(rig, 30 if form == "short" else 3000)
    rows.add(
        65,
        "loop-blocking calls (audit hooks)",
        "0 found; lag p99 ≤ 10 ms, max ≤ 50 ms",
        f"0 found; lag p99 {lag['lag_p99']:.1f}, max {lag['lag_max']:.0f} ms; "
        f"at most {lag['busiest']:.0f} ms of CPU in a row",
        lag["busiest"] <= 50 and ((lag["lag_max"] <= 50 and lag["lag_p99"] <= 10) or form == "short"),
    )


FAULTS = ("status=500", "status=429 retry-after=1", "cut after=3", "reset", "stall after=2", "error-event after=2",
          "malformed after=1", "truncated", "no-usage", "bad-chunk after=2")  # fmt: skip


async def test_soak(form: Form, rows: Rows) -> None:
    """Mixed traffic with 5 % faults and 5 % clients that leave; a short form of two hours."""
    seconds = 3 if form == "short" else 300
    draw = random.Random(66)
    with Rig(settings={"total": "2s"}) as rig:

        async def one() -> None:
            fault = draw.choice(FAULTS) if draw.random() < 0.05 else ""
            tenant, stream = draw.choice(("acme", "bolt")), draw.random() < 0.5
            asked = await rig.start(
                draw.choice(("pair", "strong", "alone")), tenant=tenant, stream=stream, fault=fault
            )
            async with asked.client:
                if draw.random() < 0.05:
                    await asyncio.sleep(draw.random() * 0.01)
                    asked.leave(draw.choice(("fin", "rst")))
                else:
                    await asked.ended()

        async def run(end: float) -> int:
            count = 0
            while time.monotonic() < end:
                await asyncio.gather(*(one() for _ in range(20)))
                count += 20
            return count

        count = await run(time.monotonic() + seconds / 3)
        await asyncio.to_thread(rig.check)
        start, begun = sample(rig.proxy.pid), time.monotonic()
        while time.monotonic() - begun < seconds:
            count += await run(min(time.monotonic() + 10, begun + seconds))
            await asyncio.to_thread(rig.check)
        end = sample(rig.proxy.pid)
        noise = await asyncio.to_thread(rig.resources)
        flat = noise <= rig.baseline
    grown = (end.rss - start.rss) / 2**20
    slope = grown * 3600 / seconds
    rows.add(
        66,
        f"soak of {seconds} s (the short form of 2 h), 5 % faults, 5 % leave",
        "RSS slope ≤ 1 MB/h; descriptors, tasks flat; errors 0",
        f"{count:,} requests, +{grown:.1f} MB ({slope:.0f} MB/h at this rate), flat: {flat}",
        flat and (grown <= 5 or form == "short"),
    )
