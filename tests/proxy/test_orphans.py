"""Calls that outlive their clients: read to their reported usage, so many and no more, and each booked once."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.orphans import MOST, Orphans
from proxy.standins.behaviour import Behaviour
from proxy.standins.standin import StandIn
from proxy.upstreams.silence import KNOWN, MANY
from tests.harness import Proxy, until
from tests.proxy import callers
from tests.proxy.raw import Raw, post

CONFIG = """
version: 1
server: {{max_body: 1MiB, body_memory: 2MiB}}
upstreams: {{tuned: {{base_url: "{tuned}", bills_after_disconnect: true}}}}
models:
  tuned: {{at: tuned, price: {{input: 1, output: 1}}}}
  polite: {{at: tuned, bills_after_disconnect: false, price: {{input: 1, output: 1}}}}
policies:
  billed: {{baseline: tuned, routes: {{tuned: {{model: tuned}}}}, default: tuned}}
  polite: {{default: {{model: polite}}}}
"""


@pytest.fixture
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture
def proxy(tuned: StandIn) -> Iterator[Proxy]:
    with Proxy(CONFIG.format(tuned=tuned.base_url)) as running:
        yield running
        assert "Traceback" not in running.text


def asking(model: str, *, stream: bool, fault: str) -> bytes:
    messages = [{"role": "user", "content": f"where is it? [[fault {fault}]]"}]
    return post(json.dumps({"model": model, "messages": messages, "stream": stream}).encode())


def leave(proxy: Proxy, tuned: StandIn, model: str, *, stream: bool, fault: str) -> None:
    """Ask, and leave once the call is with the model, or once there is content."""
    with Raw(proxy.url) as raw:
        raw.send(asking(model, stream=stream, fault=fault))
        tuned.journal.wait(lambda journal: len(journal) == 1, timeout=10)
        if stream and "ttft" not in fault:
            raw.read_until(b'"content":" the')


def booked(line: dict[str, Any]) -> int:
    return sum(line["tokens"].values())


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(True, "tokens=60 pace=0.005"), (True, "ttft=0.3 tokens=20"), (False, "tokens=60 pace=0.005")],
    ids=["in a stream", "before its content", "before a whole answer"],
)
def test_a_bill_that_goes_on_is_read_to_its_end(proxy: Proxy, tuned: StandIn, stream: bool, fault: str) -> None:
    leave(proxy, tuned, "billed", stream=stream, fault=fault)
    tuned.journal.wait(lambda journal: journal.last.ended is not None, timeout=10)
    assert tuned.journal.last.ended == "complete"
    (line,) = proxy.requests(1)
    assert (line["outcome"], line["status"]) == ("cancelled", 499)
    assert line["attempts"][0]["result"] == "ok"
    assert (line["ttft_ms"] is None) == (not stream or "ttft" in fault)  # of the caller: it had none
    assert booked(line) == tuned.journal.last.reported["total_tokens"]
    assert line["baseline_usd"] == line["cost_usd"]  # the baseline answered: it cost what it cost
    assert proxy.metric("pointsman_tokens_total", source="estimated") == 0
    assert proxy.metric("pointsman_inflight_requests") == 0


def test_one_that_ends_with_its_client_is_closed(proxy: Proxy, tuned: StandIn) -> None:
    leave(proxy, tuned, "polite", stream=True, fault="tokens=400 pace=0.05")
    tuned.journal.wait(lambda journal: journal.last.ended is not None, timeout=5)
    assert tuned.journal.last.ended == "peer closed"


def test_one_that_fails_without_its_client_is_booked_as_estimated(proxy: Proxy, tuned: StandIn) -> None:
    leave(proxy, tuned, "billed", stream=True, fault="cut after=30 pace=0.005 tokens=60")
    (line,) = proxy.requests(1)
    assert (line["outcome"], line["attempts"][0]["result"]) == ("cancelled", "bad_answer")
    assert booked(line) == proxy.metric("pointsman_tokens_total", source="estimated") > 30


def test_too_many_are_closed_and_estimated(proxy: Proxy, tuned: StandIn) -> None:
    more = 3
    with ExitStack() as opened:
        clients = [opened.enter_context(Raw(proxy.url)) for _ in range(MOST + more)]
        for client in clients:
            client.send(asking("billed", stream=True, fault="tokens=100 pace=0.03"))
        for client in clients:
            client.read_until(b'"content":" the')
    lines = proxy.requests(MOST + more)
    assert sorted(str(entry.ended) for entry in tuned.journal) == ["complete"] * MOST + ["peer closed"] * more
    assert {line["outcome"] for line in lines} == {"cancelled"}
    assert sum(line["attempts"][0]["result"] == "cancelled" for line in lines) == more
    assert min(map(booked, lines)) > 0


def test_the_body_of_one_takes_of_the_memory_until_it_ends(proxy: Proxy, tuned: StandIn) -> None:
    def large(content: str) -> bytes:  # two do not fit
        messages = [{"role": "user", "content": content}]
        return post(json.dumps({"model": "billed", "messages": messages, "user": "u" * 600_000}).encode())

    with Raw(proxy.url) as raw:
        raw.send(large("where is it? [[fault ttft=2]]"))
        tuned.journal.wait(lambda journal: len(journal) == 1, timeout=10)
    proxy.wait_for_metric("pointsman_inflight_requests", 0)
    with Raw(proxy.url) as raw:
        answer = raw.send(large("and now?")).answer()
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
    tuned.journal.wait(lambda journal: journal.last.ended is not None, timeout=10)
    proxy.requests(2)  # the refused one, too
    with Raw(proxy.url) as raw:
        assert raw.send(large("and now?")).answer().status == 200


def test_a_stop_does_not_wait_for_them_but_books_them(proxy: Proxy, tuned: StandIn) -> None:
    leave(proxy, tuned, "billed", stream=True, fault="tokens=400 pace=0.1")
    assert proxy.stop(timeout=10) == 0
    (line,) = proxy.requests(1)
    assert (line["outcome"], line["attempts"][0]["result"]) == ("cancelled", "cancelled")
    assert booked(line) > 0


def test_a_silent_endpoint_keeps_them(tuned: StandIn) -> None:
    """Nobody waits for them elsewhere, and their bill is known there alone."""
    with StandIn() as other, ExitStack() as opened:
        config = CONFIG.format(tuned=tuned.base_url)
        config = config.replace("}}\nmodels:", f'}}, other: {{base_url: "{other.base_url}"}}}}\nmodels:')
        config = config.replace("tuned: {at: tuned,", "tuned: {endpoints: [{at: tuned}, {at: other, priority: 1}],")
        config += "  p: {model: tuned}\n"
        proxy = opened.enter_context(Proxy(config))
        callers.asks(proxy, KNOWN + 1)
        tuned.journal.clear()
        tuned.every = (1, Behaviour.parse("ttft=4"))
        with ExitStack() as clients:
            for _ in range(MANY):
                callers.asking(proxy, clients, model="billed")
            tuned.journal.wait(lambda journal: len(journal) == MANY, timeout=10)
        callers.poke(proxy, "tuned")
        tuned.journal.wait(lambda journal: not journal.running(), timeout=15)
        for _ in until(10.0, "their records"):
            left = [line for line in proxy.requests(1) if line["policy"] == "billed"]
            if len(left) == MANY:
                break
        assert [line["attempts"][0]["result"] for line in left] == ["ok"] * MANY


async def test_only_so_many_are_adopted_and_all_are_ended() -> None:
    orphans, forever = Orphans(most=2), asyncio.Event()
    calls = [asyncio.create_task(forever.wait()) for _ in range(3)]
    assert [orphans.adopt(call) for call in calls] == [True, True, False]
    assert len(orphans) == 2
    await orphans.close()
    assert [call.cancelled() for call in calls] == [True, True, False]
    assert not orphans.adopt(calls[2])
    calls[2].cancel()


async def test_a_defect_in_one_is_told() -> None:
    async def fails() -> None:
        raise RuntimeError("of ours")

    orphans = Orphans()
    with capture_logs() as logs:
        assert orphans.adopt(asyncio.create_task(fails()))
        while len(orphans):
            await asyncio.sleep(0)
    assert [line["event"] for line in logs] == ["defect: a call whose client had left"]
