"""A worker in the test's own event loop, where its tasks can be counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from proxy.config.load import load
from proxy.errors import ConfigError
from proxy.life import Life
from proxy.listener import address_of, bind
from proxy.runtime import Snapshot
from proxy.standins.standin import StandIn
from proxy.worker import Worker
from tests.proxy.callers import body, paced

CONFIG = """
version: 1
upstreams:
  tuned: {base_url: "TUNED"}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
policies:
  p: {default: {model: tuned}}
"""


def compiled(folder: Path, text: str) -> Snapshot:
    (folder / "pointsman.yaml").write_text(text)
    loaded = load(folder / "pointsman.yaml")
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot


@asynccontextmanager
async def serving(snapshot: Snapshot) -> AsyncIterator[tuple[Worker, str]]:
    sock = bind("127.0.0.1:0")
    url = f"http://{address_of(sock)}/v1/chat/completions"
    worker = Worker(snapshot, sock, lambda settled: None, Life())
    await worker.start()
    try:
        yield worker, url
    finally:
        await worker.drain(0.0, 5.0)


async def test_requests_leave_no_task_behind(tmp_path: Path) -> None:
    """Served, streamed, cancelled while they wait and cancelled in the middle of a stream."""
    with StandIn("tuned") as tuned:
        async with serving(compiled(tmp_path, CONFIG.replace("TUNED", tuned.base_url))) as (worker, url):
            before = len(asyncio.all_tasks())

            async def ask(client: httpx.AsyncClient, number: int) -> None:
                if number % 3:
                    assert (await client.post(url, json=body(stream=number % 3 == 1))).status_code == 200
                    return
                async with client.stream("POST", url, json=body(paced(500), stream=True)) as answer:
                    await anext(answer.aiter_lines())

            async with httpx.AsyncClient(timeout=20) as client:
                await asyncio.gather(*(ask(client, number) for number in range(150)))
            async with asyncio.timeout(20):
                while len(asyncio.all_tasks()) > before:
                    await asyncio.sleep(0.01)
            assert sum(value for _, value in (await worker.state())["pointsman_inflight_requests"]) == 0


async def test_the_last_counters_are_complete(tmp_path: Path) -> None:
    """After a drain everything served is in the state that the supervisor keeps."""
    with StandIn("tuned") as tuned:
        async with serving(compiled(tmp_path, CONFIG.replace("TUNED", tuned.base_url))) as (worker, url):
            for _ in range(7):
                await asyncio.to_thread(httpx.post, url, json=body())
        state = await worker.state()
        assert sum(value for _, value in state["pointsman_requests_total"]) == 7


async def test_a_config_that_cannot_be_served_leaves_the_old_one(tmp_path: Path) -> None:
    """The CA bundle was there when the config was checked, and is gone when the client is made."""
    good = compiled(tmp_path, CONFIG.replace("TUNED", "http://127.0.0.1:1/v1"))
    async with serving(good) as (worker, _):
        ca = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(ca))
        text = CONFIG.replace('"TUNED"', f'"https://127.0.0.1:1/v1", tls: {{ca: {ca}}}')
        bad = compiled(tmp_path, text)
        ca.unlink()
        with pytest.raises(ConfigError, match=r"an upstream cannot be called: .*No such file"):
            await worker.use(bad)
        assert worker.holder.snapshot is good
