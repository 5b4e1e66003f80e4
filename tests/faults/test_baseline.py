"""Row 1: nothing is wrong. What the proxy adds to a call, and that no answer of a hundred thousand is wrong."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pytest

from tests.bench.figures import Figure
from tests.bench.load import Outcome
from tests.bench.process import Process
from tests.bench.run import FULL, LATENCY_CONNECTIONS, TOP_RATE, Bench, Reading, drive
from tests.bench.subjects import Subject, nginx, pointsman
from tests.faults.conftest import Form
from tests.faults.rig import Rig
from tests.faults.rows import Rows

FAULT = "none: healthy traffic, at half load"
REQUIRED = "0 errors in 100,000; p50 added ≤ 0.3 ms, p99 ≤ 2 ms"
ROUNDS = 8  # of latency
SECONDS = 2.0  # each, for each of three
ENOUGH = 4  # undisturbed rounds
DISTURBED = 0.03  # of a round's time, a subject waited for its core; alone, it waits 0.01 for its own threads


async def test_all_books_are_right(rig: Rig, form: Form, rows: Rows) -> None:
    """By the rig's invariants; the bench holds each answer against what was sent, byte by byte."""
    count = 300 if form == "short" else 20_000
    bad = 0
    for _ in range(0, count, 1000):
        asked = await rig.asks(min(count, 1000), "alone", stream=False, tenant="bolt")
        bad += sum(each.ending != "complete" for each in asked)
        await asyncio.to_thread(rig.check)
    rows.add(1, FAULT, REQUIRED, f"{bad} errors in {count:,} with all books right", bad == 0)


@pytest.mark.needs("nginx")
def test_nothing_is_wrong(form: Form, rows: Rows, tmp_path: Path) -> None:
    """As fast as it goes: an answer that is wrong is an exception, which says how many were and how."""
    rounds, requests = (1, 1000) if form == "short" else (5, 20_000)
    with Bench(replace(FULL, json=requests, open_streams=(1000,)), tmp_path, print) as bench:
        bench.start("pointsman", pointsman)
        for _ in range(rounds):
            bench.cpu_round(bench.subjects[0], "json")
    asked = rounds * requests
    rows.add(1, FAULT, REQUIRED, f"0 errors in {asked:,} at full load", form == "short" or asked >= 100_000)


@pytest.mark.needs("nginx")
def test_what_is_added(form: Form, rows: Rows, tmp_path: Path) -> None:
    """In turns: the model server directly, through nginx, through the proxy, at half of what the proxy can do.

    A neighbour on our cores multiplies all latencies, nginx's too, until what it does is all that is measured. So
    ours take precedence, where we may, and rounds in which the proxy still had to wait for its core do not count.
    What a neighbour does to the caches in the proxy's pauses remains: its share is told, and what it costs nginx."""
    rounds, seconds = (1, 0.2) if form == "short" else (ROUNDS, SECONDS)
    plan = replace(FULL, json=500 if form == "short" else 8000, open_streams=(1000,))
    direct, beside, through = list[Round](), list[Round](), list[Round]()
    taking = precedence() if form == "long" else contextlib.nullcontext(lambda: None)
    with taking as load_last, Bench(plan, tmp_path, print) as bench:
        bench.start("nginx", nginx)
        bench.start("pointsman", pointsman)
        load_last()  # it shares the model server's core
        reference, subject = bench.subjects
        for _ in range(1 if form == "short" else 3):
            bench.cpu_round(subject, "json")
        rate = min(median(bench.run.subjects["pointsman"].per_second) / 2, TOP_RATE)
        for _ in range(rounds):
            direct.append(measured(bench, bench.direct(subject), rate, seconds))
            pair = measured(bench, reference, rate, seconds), measured(bench, subject, rate, seconds)
            if form == "short" or max(each.waited for each in pair) <= DISTURBED:
                beside.append(pair[0])
                through.append(pair[1])
    if form == "long" and len(through) < ENOUGH:
        rows.add(1, FAULT, REQUIRED, "latency unknown: others took the core", False)
    p50, p99 = added(through, direct)
    floor50, floor99 = added(beside, direct)
    rows.add(
        1,
        FAULT,
        REQUIRED,
        f"p50 +{p50.show('ms')}, p99 +{p99.show('ms')} at {rate:,.0f}/s, of nginx +{floor50.middle:.2f} and "
        f"+{floor99.middle:.2f}; others had {median(each.others for each in through):.0%} of its core meanwhile",
        form == "short" or (p50.middle <= 0.3 and p99.middle <= 2),
    )


@dataclass(frozen=True)
class Round:
    outcome: Outcome
    waited: float  # the share of the time that the subject waited for its core
    others: float  # the share of its core that others had, while it was idle too


def measured(bench: Bench, subject: Subject, rate: float, seconds: float) -> Round:
    changes = {"kind": "open", "rate": rate, "requests": int(rate * seconds), "connections": LATENCY_CONNECTIONS}
    job = bench.job(subject, "json", warm=400, **changes)
    begun, waited = Reading(), 0

    def held() -> None:
        nonlocal waited
        begun.take(subject.process)
        waited = -waited_ns(subject.process)

    outcome = drive(job, held)
    waited += waited_ns(subject.process)
    ended = Reading().take(subject.process)
    return Round(outcome, waited / (ended.wall_ns - begun.wall_ns), ended.others_since(begun))


def added(rounds: list[Round], direct: list[Round]) -> tuple[Figure, Figure]:
    """To p50 and p99, in ms. Both over the p50 of direct calls in their best round: never too little."""
    least = min(each.outcome.p50_us for each in direct)
    return (
        Figure.of([(each.outcome.p50_us - least) / 1000 for each in rounds]),
        Figure.of([(each.outcome.p99_us - least) / 1000 for each in rounds]),
    )


def waited_ns(process: Process) -> int:
    """How long the processes were ready to run while others did: of each the main thread, which is the event loop."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in process.family())


@contextlib.contextmanager
def precedence() -> Iterator[Callable[[], None]]:
    """What is started in here gets a core before all that is not, and before what is started once it has been called;
    without the right to that, as everything else."""

    def last() -> None:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    try:
        yield last
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
