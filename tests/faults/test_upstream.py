"""Rows 12, 15 and 16, and 9 as far as one endpoint goes: what goes wrong before the first content event."""

import asyncio
import time

from tests.faults.client import Client
from tests.faults.conftest import Form
from tests.faults.load import wait_for
from tests.faults.lossy import Lossy, Trouble, black_hole
from tests.faults.rig import Rig
from tests.faults.rows import Rows


async def test_the_keep_alive_race(form: Form, rows: Rows) -> None:
    """The model server closes idle connections after T; requests come at T ± 1 ms."""
    idle = 0.02
    with Rig() as rig:
        rig.tuned.keep_alive = idle
        tries = 50 if form == "short" else 5000
        bad = 0
        async with await Client.open(rig.proxy.url) as client:
            for number in range(tries):
                asked = await rig.start("alone", stream=False, fault="ttft=0 pace=0 tokens=4", client=client)
                await asked.ended()
                bad += asked.ending != "complete"
                rig.heard += client.received  # else each of thousands would be taken to have received all of it
                client.received.clear()
                await asyncio.sleep(idle + (number % 9 - 4) * 0.00025)
            calls = len(rig.tuned.journal)
        await asyncio.to_thread(rig.check)
    twice = calls - tries
    rows.add(
        12,
        "keep-alive race at T ± 1 ms",
        "0 errors in 5,000; duplicates ≤ 0.1 %",
        f"{bad} errors in {tries:,}; {twice} duplicates",
        bad == 0 and twice <= tries / 1000,
    )


async def test_a_black_hole_is_left_at_the_connect_timeout(form: Form, rows: Rows) -> None:
    with black_hole() as port, Rig(upstreams={"tuned": f"http://127.0.0.1:{port}/v1"}) as rig:
        begun = time.perf_counter()
        asked = await rig.asks(8, "pair", stream=False)
        took = time.perf_counter() - begun
        assert {each.ending for each in asked} == {"complete"}
        await asyncio.to_thread(rig.check)
    rows.add(
        "9b",
        "SYN black hole of the first route's model, with a fallback",
        "0 errors, each ≤ the connect timeout of 2 s + 0.2 s",
        f"0 errors, {took:.2f} s for 8 at once",
        took <= 2.2 or form == "short",
    )


async def test_silence_after_the_head(form: Form, rows: Rows) -> None:
    seconds = 0.5 if form == "short" else 2.0  # that many switch at once here, and models share the cores
    with Rig(settings={"hasty_first": f"{seconds}s"}) as rig:
        begun = time.perf_counter()
        asked = await rig.asks(4 if form == "short" else 40, "switch", at_once=40, fault="stall after=head on=tuned")
        took = time.perf_counter() - begun
        assert {each.ending for each in asked} == {"complete"}
        firsts = rig.calls()
        await wait_for(lambda: all(calls[0].finished for calls in firsts.values()), 5)  # a thread notes it, later
        offs = [abs((calls[1].received - calls[0].received) - seconds) / seconds for calls in firsts.values()]
        closed = max((calls[0].finished or 1e12) - calls[1].received for calls in firsts.values())
        await asyncio.to_thread(rig.check)
    rows.add(
        15,
        "200, then silence",
        "switched at T ± 5 %; the old call closed ≤ 1 s; 0 errors",
        f"T = {seconds:g} s ± {max(offs):.1%}, closed after {closed:.2f} s, 0 errors of {len(asked)} ({took:.1f} s)",
        closed <= 1 and (max(offs) <= 0.05 or form == "short"),
    )


async def test_an_error_as_the_first_event(rig: Rig, form: Form, rows: Rows) -> None:
    count = 10 if form == "short" else 500
    hidden = 0
    for dialect in ("openai", "anthropic"):
        for after in ("head", "0"):
            fault = f"error-event dialect={dialect} after={after} on=tuned"
            asked = await rig.asks(count // 4 + 1, "pair", fault=fault)
            hidden += sum(each.ending == "complete" for each in asked)
    total = 4 * (count // 4 + 1)
    rows.add(
        16,
        "error as the first event under 200, with a healthy fallback",
        "100 % hidden",
        f"{hidden} of {total}",
        hidden == total,
    )


async def test_a_bad_network_between(form: Form, rows: Rows) -> None:
    """Late, slow, and cut after any number of bytes: never a silent end."""
    with Rig() as inner:
        async with Lossy(inner.tuned.port) as lossy:
            with Rig(upstreams={"tuned": lossy.base_url}) as rig:
                rig.tuned.key = None
                inner.tuned.key = None
                endings = set()
                for cut in range(10, 2500, 250 if form == "short" else 10):
                    for how in ("fin", "rst"):
                        lossy.trouble = Trouble(cut_after=cut, how=how)
                        endings.add((await rig.ask("alone", fault="tokens=20")).ending)
                lossy.trouble = Trouble(delay=0.005, jitter=0.01)
                endings.add((await rig.ask("alone", fault="tokens=20")).ending)
                assert not [each for each in endings if each.startswith("silent")]
                rig.forget()
    rows.add("17d", "the network cut after each 10th byte, FIN and RST", "no silent truncation", "none", True)
