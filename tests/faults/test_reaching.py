"""Rows 13 and 14: one of three endpoints cannot be reached because of its certificate, or of its name."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tests.faults import child, tls
from tests.faults.conftest import LONG, Form
from tests.faults.lossy import black_hole
from tests.faults.pools import KEY, NAMES, SIZES, Pool, Sent, Server, quantile, within
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
    measured = f"{bad} errors of {len(pool.sent)}; {len(tries)} tries, {'/'.join(sorted(classes))}; told: {told}"
    met = bad == 0 and not told and tries != [] and classes <= right
    if wrong == "stalled":
        required = "0 errors; no byte of the key sent; class `timeout`"
        rows.add("13b", "a TLS handshake stalls at 1 of 3", required, measured, met)
    else:
        required = "0 errors; no byte of the key sent; class `connect`"
        rows.add(13, "TLS expired, wrong name or untrusted at 1 of 3", required, f"{wrong}: {measured}", met)


async def test_a_dead_name_server(form: Form, rows: Rows, tmp_path: Path) -> None:
    """Warm names go on with their last addresses; a hundred look-ups that hang hold up nobody else.

    What a hundred more requests cost is not the look-ups': in turns, as many are sent to an address that does not
    answer, and take as long. All connections are new in both turns: they need the name. Times are the proxy's own,
    from a request's head to its answer's end, and beside them how late its loop was to read: the client, which sends
    all of these at once, is late by more than what is looked for. The models are processes, not threads of it.
    """
    lost, turns = (20, 1) if form == "short" else (100, 4)
    size = SIZES[form] if form == "short" else replace(SIZES[form], workers=1, rate=100.0, streams=20)
    pause = 0.5 if form == "short" else 8.0  # longer than the look-ups hang
    env = {child.NAMES: "1", child.GAUGE: str(tmp_path / "gauge")}
    warm: dict[str, list[Sent]] = {"good": [], "dead": []}
    codes, late = set(), 0.0
    with black_hole() as port:
        urls = {f"l{n}": f"http://lost-{n}.test:9/v1" for n in range(lost)}
        urls |= {f"h{n}": f"http://127.0.0.1:{port}/v1" for n in range(lost)}
        models = [f'  {name}: {{base_url: "{url}", price: {{input: 1, output: 1}}}}' for name, url in urls.items()]
        policies = [f"  {name}: {{model: {name}}}" for name in urls]
        servers = {name: Server("--keep-alive=0.01") for name in NAMES}
        with Pool(size, servers=servers, env=env, models=models, policies=policies, names=True) as pool:
            async with pool.load(size.rate):
                await asyncio.sleep(size.healthy)
                for mode in ("good", "dead") * turns:
                    began = time.time()
                    await asyncio.to_thread(pool.gauge, f"@{mode}")
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(pool.gauge, "!")
                    asked = [pool.ask(policy=f"{'l' if mode == 'dead' else 'h'}{n}") for n in range(lost)]
                    hung = {each.number: each for each in await asyncio.gather(*asked)}
                    codes |= {each.answer.json["error"]["code"] for each in hung.values()}
                    await asyncio.sleep(max(0.0, began + pause - time.time()))
                    late = max(late, (await asyncio.to_thread(pool.gauge, "?"))["lag_p99"])
                    warm[mode] += [each for each in within(pool.sent, began) if each.number not in hung]
            pool.check()
            times = pool.times
    bad = sum(not each.good for each in warm["dead"])
    before, after = (quantile([times[each.number] for each in warm[mode]], 0.99) for mode in ("good", "dead"))
    rows.add(
        14,
        "the name server is dead",
        f"0 errors for warm names; {lost} hung look-ups add < 5 ms to the p99 of others",
        f"{bad} errors of {len(warm['dead'])}; p99 {after * 1000:.1f} ms, and {before * 1000:.1f} ms with as many "
        f"hung connects; loop late by {late * 1000:.1f} ms (p99); {sorted(codes)}",
        bad == 0 and codes <= {"upstream_timeout"} and (form == "short" or (after - before < 0.005 and late < 0.005)),
    )
