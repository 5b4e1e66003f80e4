"""Rows 13 and 14: one of three endpoints cannot be reached because of its certificate, or of its name."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tests.faults import child, tls
from tests.faults.conftest import LONG, Form
from tests.faults.pools import KEY, SIZES, Pool, Sent, quantile, within
from tests.faults.rows import Rows


@pytest.mark.parametrize(
    "wrong", ["wrong name", "stalled", *(pytest.param(each, marks=LONG) for each in ("expired", "untrusted"))]
)
async def test_a_wrong_certificate(form: Form, rows: Rows, tmp_path: Path, wrong: str) -> None:
    size, ca = SIZES[form], trustme.CA()
    async with tls.server(wrong, ca) as heard:
        with Pool(size, urls={"c": heard.base_url}, ca=tls.trusted(ca, tmp_path)) as pool:
            rate = await pool.rate()
            async with pool.load(rate):
                await asyncio.sleep(size.fault)
            bad = sum(not each.good for each in pool.sent)
            tries = [each for calls in pool.tries(pool.sent).values() for each in calls if each.endpoint == "c"]
            pool.check()
    classes = {each.result for each in tries} - {"cancelled"}
    told = KEY.encode() in heard.plain
    right = {"timeout"} if wrong == "stalled" else {"connect"}
    rows.add(
        13,
        "TLS expired, wrong name, untrusted or stalled at 1 of 3",
        "0 errors; no byte of the key sent; class `connect`, of a stall `timeout`",
        f"{wrong}: {bad} errors of {len(pool.sent)}; {len(tries)} tries, {'/'.join(sorted(classes))}; told: {told}",
        bad == 0 and not told and tries != [] and classes <= right,
    )


async def test_a_dead_name_server(form: Form, rows: Rows, tmp_path: Path) -> None:
    """Warm names go on with their last addresses; a hundred look-ups that hang hold up nobody else."""
    lost = 20 if form == "short" else 100
    size = SIZES[form] if form == "short" else replace(SIZES[form], workers=1, rate=100.0, streams=20)
    env = {child.NAMES: "1", child.GAUGE: str(tmp_path / "gauge")}
    models = [
        f'  l{n}: {{base_url: "http://lost-{n}.test:9/v1", price: {{input: 1, output: 1}}}}' for n in range(lost)
    ]
    policies = [f"  l{n}: {{model: l{n}}}" for n in range(lost)]
    with Pool(size, env=env, models=models, policies=policies, names=True) as pool:
        async with pool.load(size.rate):
            await asyncio.sleep(size.healthy)
            began = time.time()
            await asyncio.to_thread(pool.gauge, "@dead")
            for name in pool.standins.values():  # who reconnects needs the name again
                name.keep_alive = 0.01
            await asyncio.sleep(0.3)
            hung = [asyncio.get_running_loop().create_task(pool.ask(policy=f"l{n}")) for n in range(lost)]
            await asyncio.gather(*hung)
            await asyncio.sleep(size.after)
        failed = {each.result().number for each in hung}
        codes = {each.result().answer.json["error"]["code"] for each in hung}
        warm = [each for each in pool.sent if each.number not in failed]
        bad = sum(not each.good for each in warm)
        before = quantile(_times(within(warm, 0.0, began)), 0.99)
        after = quantile(_times(within(warm, began)), 0.99)
        pool.check()
    rows.add(
        14,
        "the name server is dead",
        f"0 errors for warm names; {lost} hung look-ups add < 5 ms to the p99 of others",
        f"{bad} errors of {len(warm)}; p99 {before * 1000:.1f} ms before, {after * 1000:.1f} ms; {sorted(codes)}",
        bad == 0 and codes <= {"upstream_timeout"} and (form == "short" or after - before < 0.005),
    )


def _times(sent: list[Sent]) -> list[float]:
    return [each.took for each in sent]
