"""Row 1: nothing is wrong. What the proxy adds to a call, and that no answer of a hundred thousand is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.figures import Figure
from tests.bench.run import FULL, Bench
from tests.bench.subjects import pointsman
from tests.faults.conftest import Form
from tests.faults.rows import Rows

ROUNDS = 5
REQUESTS = 20_000  # of each round


@pytest.mark.needs("nginx")
def test_nothing_is_wrong(form: Form, rows: Rows, tmp_path: Path) -> None:
    """At full load and at half of it, by the bench's own rules: there each answer is held against what was sent."""
    rounds, requests = (1, 1000) if form == "short" else (ROUNDS, REQUESTS)
    plan = replace(FULL, rounds=rounds, json=requests, open_streams=(1000,))
    with Bench(plan, tmp_path, print) as bench:
        bench.start("pointsman", pointsman)
        (subject,) = bench.subjects
        measured = bench.run.subjects["pointsman"]
        for _ in range(rounds):  # an answer that is wrong is an exception: how many and how, it says
            bench.cpu_round(subject, "json")
        for _ in range(rounds):
            bench.latency_round(subject)
    p50, p99 = Figure.of(measured.added_p50_ms), Figure.of(measured.added_p99_ms)
    asked = rounds * requests + int(rounds * measured.rate * plan.latency_s)
    rows.add(
        1,
        "none, at half load",
        "p50 added ≤ 0.3 ms, p99 ≤ 2 ms; 0 errors in 100,000",
        f"{p50.show('ms')}, {p99.show('ms')} at {measured.rate:,.0f}/s; 0 wrong of {asked:,}",
        form == "short" or (p50.middle <= 0.3 and p99.middle <= 2 and asked >= 100_000),
    )
