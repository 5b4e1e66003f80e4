"""Nothing is left behind by requests, served or cancelled."""

import asyncio
import random
from collections.abc import Iterator

import httpx
import psutil
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.callers import body, paced

CONFIG = """
version: 1
upstreams:
  tuned: {base_url: "TUNED", keep_alive: 1s}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
policies:
  p: {default: {model: tuned}}
"""
REQUESTS = 1000
CANCELS = 300


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


def descriptors(proxy: Proxy) -> int:
    process = psutil.Process(proxy.pid)
    return sum(each.num_fds() for each in (process, *process.children()))


async def ask(client: httpx.AsyncClient, url: str, number: int) -> int:
    """One request; with probability CANCELS / REQUESTS it is left in the middle. Returns the status, 0 if left."""
    stream = number % 2 == 0
    if number * 7919 % REQUESTS >= CANCELS:
        return (await client.post(url, json=body(stream=stream))).status_code
    asked = client.post(url, json=body(paced(500), stream=stream))
    try:
        await asyncio.wait_for(asked, random.Random(number).uniform(0.001, 0.05))
    except TimeoutError:
        return 0
    raise AssertionError("a long answer came at once")


@pytest.mark.parametrize("workers", [1, 2])
async def test_requests_leave_nothing_behind(tuned: StandIn, workers: int) -> None:
    """After 1,000 requests, 300 of them cancelled: no request in flight, no connection or descriptor more."""
    config = CONFIG.replace("TUNED", tuned.base_url)
    with Proxy(config, args=(f"--workers={workers}",)) as proxy:
        await asyncio.to_thread(proxy.metrics)
        before = descriptors(proxy)
        url = f"{proxy.base_url}/chat/completions"
        limits = httpx.Limits(max_connections=20)
        queue = iter(range(REQUESTS))
        seen: list[int] = []

        async def caller(client: httpx.AsyncClient) -> None:
            for number in queue:
                seen.append(await ask(client, url, number))

        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            await asyncio.gather(*(caller(client) for _ in range(20)))
        assert seen.count(0) == CANCELS
        assert seen.count(200) == REQUESTS - CANCELS
        for _ in until(20, "no request in flight"):
            if await asyncio.to_thread(proxy.metric, "pointsman_inflight_requests") == 0:
                break
        ok = await asyncio.to_thread(proxy.metric, "pointsman_requests_total", outcome="ok")
        cancelled = await asyncio.to_thread(proxy.metric, "pointsman_requests_total", outcome="cancelled")
        assert ok == REQUESTS - CANCELS
        assert 0 < cancelled <= CANCELS, "some were cancelled before they were read"
        for _ in until(20, "all upstream calls and connections to end"):
            if tuned.journal.running() == 0 and not tuned.connections:
                break
        for _ in until(20, f"descriptors to be {before} again, not {descriptors(proxy)}"):
            if descriptors(proxy) <= before:
                break
        assert "Traceback" not in proxy.text
        assert "defect" not in proxy.text
