"""Second calls, over real sockets: who answers, what is booked, and when none is made."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from proxy.standins.behaviour import Behaviour
from proxy.standins.standin import StandIn
from proxy.upstreams.budget import Stakes
from proxy.upstreams.silence import KNOWN, MANY
from tests.harness import Proxy
from tests.proxy.callers import ask, asking, asks, body, poke, streams
from tests.proxy.raw import Raw, post

CONFIG = """
version: 1
ejection: {{base: 60s}}
timeouts: {{connect: 5s, first_content: 20s, idle: 20s, total: 20s}}
upstreams:
  a: {{base_url: "{a}"}}
  b: {{base_url: "{b}"}}
  c: {{base_url: "{c}"}}
models:
  m:
    endpoints: [{{at: a}}, {{at: b, priority: 1}}, {{at: c, priority: 2}}]
    price: {{input: 1, output: 1}}
    hedge: {{after: 200ms, budget: 100%}}
  dear: {{at: a, price: {{input: 0, output: 10}}}}
policies:
  p: {{model: m}}
  q: {{routes: {{m: {{model: m, hedge: {{after: 200ms}}}}}}, default: m}}
  compared: {{baseline: dear, routes: {{m: {{model: m}}, dear: {{model: dear}}}}, default: m}}
"""
Three = dict[str, StandIn]


@pytest.fixture
def three() -> Iterator[Three]:
    with StandIn() as a, StandIn() as b, StandIn() as c:
        yield {"a": a, "b": b, "c": c}


@pytest.fixture
def proxy(three: Three) -> Iterator[Proxy]:
    with Proxy(CONFIG.format(**{name: standin.base_url for name, standin in three.items()})) as running:
        yield running


def attempts(proxy: Proxy, number: int = -1) -> list[tuple[str, str, str]]:
    wanted = number + 1 if number >= 0 else 1
    line: dict[str, Any] = proxy.requests(wanted)[number]
    return [(each["endpoint"], each.get("role", ""), each["result"]) for each in line["attempts"]]


def test_the_second_answers_where_the_first_is_late(proxy: Proxy, three: Three) -> None:
    three["a"].then("stall after=request")
    answer = ask(proxy)
    assert answer.status_code == 200
    assert attempts(proxy) == [("a", "hedge", "cancelled"), ("b", "", "ok")]
    assert answer.headers["x-pointsman-attempts"] == "2"
    (call,) = three["a"].journal
    assert call.ended is not None
    assert call.ended != "complete"


async def test_a_stream_has_one_beginning(proxy: Proxy, three: Three) -> None:
    """Also where the first call had sent a head, and its loser costs what it was sent."""
    three["a"].then("stall after=head")
    async with streams(proxy, 1, "hello") as (stream,):
        await stream.ended()
        assert stream.is_whole
    assert await asyncio.to_thread(attempts, proxy) == [("a", "hedge", "cancelled"), ("b", "", "ok")]
    ids = {json.loads(event)["id"] for event in stream.events[:-1]}
    assert len(ids) == 1
    spent = {role: proxy.metric("pointsman_cost_usd_total", role=role) for role in ("hedge", "primary")}
    assert 0 < spent["hedge"] < spent["primary"]
    assert proxy.metric("pointsman_retries_total", model="m") == 0


def test_the_first_answers_where_the_second_is_later(proxy: Proxy, three: Three) -> None:
    three["a"].then("ttft=0.6")
    three["b"].then("stall after=request")
    assert ask(proxy).status_code == 200
    assert attempts(proxy) == [("b", "hedge", "cancelled"), ("a", "", "ok")]


def test_one_that_is_in_time_is_alone(proxy: Proxy, three: Three) -> None:
    assert ask(proxy).status_code == 200
    assert attempts(proxy) == [("a", "", "ok")]
    assert not three["b"].journal


def test_one_that_fails_leaves_the_other(proxy: Proxy, three: Three) -> None:
    three["a"].then("ttft=0.6")
    three["b"].then("status=500")
    assert ask(proxy).status_code == 200
    assert attempts(proxy) == [("b", "hedge", "upstream_5xx"), ("a", "", "ok")]


def test_where_both_fail_a_third_is_asked(proxy: Proxy, three: Three) -> None:
    three["a"].then("ttft=0.6 status=500")
    three["b"].then("status=500")
    assert ask(proxy).status_code == 200
    found = attempts(proxy)
    assert len(found) == 3
    assert found[-1] == ("c", "", "ok")


async def test_a_client_that_leaves_takes_both_with_it(proxy: Proxy, three: Three) -> None:
    for name in "ab":
        three[name].then("stall after=head")
    _, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    data = json.dumps({"model": "p", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
    writer.write(f"{head}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    await three["b"].journal.until(lambda journal: len(journal) >= 1, 10.0)
    writer.close()
    for name in "ab":
        await three[name].journal.until(lambda journal: not journal.running(), 10.0)
    found = await asyncio.to_thread(attempts, proxy)
    assert sorted(endpoint for endpoint, _, _ in found) == ["a", "b"]
    assert {result for _, _, result in found} == {"cancelled"}


def test_what_was_delivered_is_the_winners(proxy: Proxy, three: Three) -> None:
    """Also to a client that leaves in its midst: the baseline would have answered as much."""
    three["a"].then("ttft=0.6 pace=0.05 tokens=400")
    three["b"].then("stall after=request")
    with Raw(proxy.url) as raw:
        raw.send(post(json.dumps(body(model="compared", stream=True)).encode()))
        raw.read_until(b'"content":" the')
    (line,) = proxy.requests(1)
    assert line["attempts"][0]["endpoint"] == "b"
    assert line["baseline_usd"] > 0


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "winner"])
def test_a_bill_that_goes_on_is_read_to_its_end(three: Three, alone: bool) -> None:
    config = CONFIG.replace('"}}\n', '", bills_after_disconnect: true}}\n')
    if alone:
        config = config.replace("hedge: {{after: 200ms", "hedge: {{after: 19s")
    with Proxy(config.format(**{name: standin.base_url for name, standin in three.items()})) as proxy:
        three["a"].then("ttft=0.6 pace=0.005 tokens=60")
        three["b"].then("stall after=request")
        with Raw(proxy.url) as raw:
            raw.send(post(json.dumps(body(stream=True)).encode()))
            if alone:
                three["a"].journal.wait(lambda journal: len(journal) == 1, timeout=10)
            else:
                raw.read_until(b'"content":" the')
        (line,) = proxy.requests(1)
        assert (line["outcome"], line["attempts"][-1]["result"]) == ("cancelled", "ok")
        assert len(line["attempts"]) == (1 if alone else 2)
        assert three["a"].journal.last.ended == "complete"
        reported = three["a"].journal.last.reported["total_tokens"]
        assert proxy.metric("pointsman_tokens_total", source="upstream") == reported
        assert "Traceback" not in proxy.text


@pytest.mark.parametrize("stream", [True, False], ids=["a stream", "a whole answer"])
def test_a_stop_books_both(three: Three, stream: bool) -> None:
    config = CONFIG.replace("version: 1\n", "version: 1\nserver: {{drain: 300ms}}\n")
    with ExitStack() as opened:
        urls = {name: standin.base_url for name, standin in three.items()}
        proxy = opened.enter_context(Proxy(config.format(**urls)))
        raw = opened.enter_context(Raw(proxy.url))
        for name in "ab":
            three[name].then("stall after=head")
        raw.send(post(json.dumps(body(stream=stream)).encode()))
        three["b"].journal.wait(lambda journal: len(journal) == 1, timeout=10)
        assert proxy.stop(timeout=10) == 0
        assert raw.answer().status == 503
        found = attempts(proxy)
        assert sorted(found) == [("a", "", "cancelled"), ("b", "hedge", "cancelled")]
        assert "Traceback" not in proxy.text


def test_without_a_second_call_silence_is_left(three: Three) -> None:
    config = CONFIG.replace("hedge: {{after: 200ms", "hedge: {{after: 19s")
    with ExitStack() as opened:
        urls = {name: standin.base_url for name, standin in three.items()}
        proxy = opened.enter_context(Proxy(config.format(**urls)))
        asks(proxy, KNOWN + 1)
        three["a"].every = (1, Behaviour.parse("stall after=request"))
        first, *_ = [asking(proxy, opened) for _ in range(MANY)]
        poke(proxy, "a")
        assert first.answer().status == 200


def test_two_out_of_rotation_are_reason_enough_not_to(three: Three) -> None:
    """More load is the last thing that the one left needs."""
    config = CONFIG.replace("priority: 1", "priority: 0").replace("priority: 2", "priority: 0")
    config = config.replace("ejection: {{", "ejection: {{consecutive: 1, ")
    with ExitStack() as life:
        fourth = life.enter_context(StandIn())
        config = config.replace("endpoints: [", "endpoints: [{{at: d}}, ").replace(
            "models:", f'  d: {{{{base_url: "{fourth.base_url}"}}}}\nmodels:'
        )
        every = {**three, "d": fourth}
        proxy = life.enter_context(
            Proxy(config.format(**{name: standin.base_url for name, standin in three.items()}))
        )
        for name in "ab":
            every[name].then(*["status=500"] * 50)
        number = 0
        while sum(proxy.metric("pointsman_ejections_total", endpoint=name) for name in "ab") < 2:
            ask(proxy, f"where is order {number}?")
            number += 1
        before = sum(len(standin.journal) for standin in every.values())
        assert ask(proxy, "[[fault ttft=0.5]] hello").status_code == 200
        assert sum(len(standin.journal) for standin in every.values()) == before + 1


def test_the_budget_is_a_share_of_the_requests(proxy: Proxy, three: Three) -> None:
    """2 % by default: of the first requests none is asked twice."""
    three["a"].then("ttft=0.6")
    assert ask(proxy, model="q").status_code == 200
    assert not three["b"].journal


def test_what_is_earned_can_be_taken() -> None:
    stakes = Stakes()
    for _ in range(48):
        stakes.begin(0.02)
        stakes.paid(1000, 0.02)
    assert stakes.take() is None
    for _ in range(4):
        stakes.begin(0.02)
        stakes.paid(1000, 0.02)
    stake = stakes.take()
    assert stake is not None
    assert stake == pytest.approx(1000, rel=0.01)
    assert stakes.take() is None


def test_a_dear_loser_must_be_earned_again() -> None:
    stakes = Stakes()
    for _ in range(100):
        stakes.begin(0.02)
        stakes.paid(1000, 0.02)
    stake = stakes.take()
    assert stake is not None
    stakes.lost(stake, 5000)
    assert stakes.take() is None, "it has cost five answers, and two were earned"
    cheap = Stakes()
    for _ in range(100):
        cheap.begin(0.02)
        cheap.paid(1000, 0.02)
    cheap.lost(cheap.take() or 0.0, 0)
    assert cheap.take() is not None, "nothing was lost"


def test_without_prices_only_requests_count() -> None:
    stakes = Stakes()
    stakes.begin(1.0)
    assert stakes.take() == 0.0
    assert stakes.take() is None
