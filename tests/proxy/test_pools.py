"""Three endpoints behind one model, over real sockets: what callers see when one fails, and what it is sent."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.callers import ask, asks, body, paced, streams

CONFIG = """
version: 1
server: {{hold: 200ms, keep_alive_comment: 100ms}}
timeouts: {{connect: 1s, first_content: 1s, idle: 5s, total: 20s}}
ejection: {{base: {base}, slow_start: 500ms}}
upstreams:
  a: {{base_url: "{a}"}}
  b: {{base_url: "{b}"}}
  c: {{base_url: "{c}"}}
models:
  m: {{endpoints: [{{at: a}}, {{at: b}}, {{at: c}}], price: {{input: 1, output: 1}}}}
  other: {{at: b, price: {{input: 1, output: 1}}}}
policies:
  p: {{model: m}}
  helped: {{routes: {{m: {{model: m, fallback: other}}, other: {{model: other}}}}, default: m}}
"""
RATE_LIMIT = "status=429 retry-after=30"

Three = dict[str, StandIn]


@pytest.fixture
def three() -> Iterator[Three]:
    with StandIn() as a, StandIn() as b, StandIn() as c:
        yield {"a": a, "b": b, "c": c}


def config(three: Three, base: str = "60s") -> str:
    return CONFIG.format(base=base, **{name: standin.base_url for name, standin in three.items()})


@pytest.fixture
def proxy(three: Three) -> Iterator[Proxy]:
    with Proxy(config(three)) as running:
        yield running


def always(standin: StandIn, fault: str) -> None:
    standin.then(*[fault] * 1000)


def statuses(proxy: Proxy, count: int, policy: str = "p") -> Counter[int]:
    """Each asks something else: a request that fails everywhere would be held against no one."""
    return Counter(ask(proxy, f"where is order {number}?", model=policy).status_code for number in range(count))


def state(proxy: Proxy, endpoint: str) -> float:
    return proxy.metric("pointsman_endpoint_state", model="m", endpoint=endpoint)


def test_without_faults_everyone_gets_a_share(proxy: Proxy, three: Three) -> None:
    assert statuses(proxy, 90) == {200: 90}
    assert all(10 < len(standin.journal) < 50 for standin in three.values())
    assert proxy.metric("pointsman_retries_total", model="m") == 0


def test_one_that_always_fails_is_seen_by_nobody(proxy: Proxy, three: Three) -> None:
    """Five failures, and it is out; each was answered by another."""
    always(three["a"], "status=500")
    assert statuses(proxy, 90) == {200: 90}
    assert len(three["a"].journal) == 5
    assert state(proxy, "a") == 2
    assert proxy.metric("pointsman_ejections_total", model="m", endpoint="a") == 1
    assert proxy.metric("pointsman_retries_total", model="m", reason="upstream_5xx") == 5
    assert proxy.metric("pointsman_upstream_attempts_total", model="m", endpoint="a", result="upstream_5xx") == 5
    lines = [line for line in proxy.log if line["event"] == "endpoint ejected"]
    assert [(line["model"], line["endpoint"]) for line in lines] == [("m", "a")]


def test_a_retry_is_told_in_the_answer(proxy: Proxy, three: Three) -> None:
    for standin in three.values():
        standin.then("status=500")
    answers = asks(proxy, 4)
    assert [answer.status_code for answer in answers] == [502, 200, 200, 200], "three attempts, no more"
    assert answers[0].headers["x-pointsman-attempts"] == "3"


FAULTS = ("reset", "status=401", "error-event", "cut after=head", "stall after=head")


def test_what_fails_before_content_is_tried_elsewhere(proxy: Proxy, three: Three) -> None:
    """Also an error as a stream's first event, and a head without anything after it."""
    three["a"].then(*FAULTS)
    with httpx.Client(timeout=20) as client:
        for number in range(200):
            answer = client.post(f"{proxy.base_url}/chat/completions", json=body(f"{number}", stream=True))
            assert answer.text.endswith("data: [DONE]\n\n")
            assert '"error"' not in answer.text
            if not three["a"].script:
                break
    assert not three["a"].script
    assert proxy.metric("pointsman_retries_total", model="m") == len(FAULTS)


async def test_a_killed_endpoint_loses_only_its_streams(three: Three) -> None:
    """Streams on it end with the error event; whatever had no content yet is answered by another."""
    victim = StandIn()
    with ExitStack() as life, Proxy(config({**three, "a": life.enter_context(victim)}, base="300ms")) as proxy:
        async with streams(proxy, 9, paced(400)) as opened:
            victims = len(victim.journal)
            await asyncio.to_thread(life.close)
            found = await asyncio.to_thread(statuses, proxy, 60)
            assert found == {200: 60}
            broken = [stream for stream in opened if stream.events and '"error"' in stream.events[-1]]
            assert len(broken) == victims > 0
            assert all(json.loads(stream.events[-1])["error"]["type"] == "upstream_error" for stream in broken)
        assert state(proxy, "a") in (2, 3)

        with StandIn(port=victim.port) as again:  # it comes back: one probe, then a ramp
            for _ in until(20, "a good probe"):
                assert (await asyncio.to_thread(statuses, proxy, 3)) == {200: 3}
                if state(proxy, "a") == 0:
                    break
            for _ in until(20, "its full share"):
                before = len(again.journal)
                assert (await asyncio.to_thread(statuses, proxy, 30)) == {200: 30}
                if len(again.journal) - before >= 8:
                    break


def test_one_probe_at_a_time(three: Three) -> None:
    """While the probe is under way, however long, nobody else is sent there."""
    with Proxy(config(three, base="100ms")) as proxy:
        always(three["a"], "status=500")
        assert statuses(proxy, 60) == {200: 60}
        three["a"].script.clear()
        before = len(three["a"].journal)
        three["a"].then("ttft=0.8")
        for _ in until(20, "the probe"):
            if len(three["a"].journal) > before:
                break
            assert statuses(proxy, 1) == {200: 1}


def test_a_429_is_obeyed_by_that_endpoint_alone(proxy: Proxy, three: Three) -> None:
    three["a"].then(RATE_LIMIT)
    assert statuses(proxy, 60) == {200: 60}
    assert len(three["a"].journal) == 1
    assert state(proxy, "a") == 1
    assert proxy.metric("pointsman_ejections_total", model="m") == 0
    assert statuses(proxy, 3, "helped") == {200: 3}


def test_if_all_ask_for_a_pause_the_caller_gets_the_smallest(proxy: Proxy, three: Three) -> None:
    """At once, and without a call: no one is asked before the time."""
    for standin, wait in zip(three.values(), (60, 40, 50), strict=True):
        standin.then(f"status=429 retry-after={wait}")
    first, second = asks(proxy, 2)
    for answer in (first, second):
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert 30 <= int(answer.headers["retry-after"]) <= 40
        assert answer.headers["x-should-retry"] == "false"
    assert second.headers["x-pointsman-attempts"] == "0"
    assert sum(len(standin.journal) for standin in three.values()) == 3
    helped = ask(proxy, model="helped")
    assert helped.headers["x-pointsman-served-by"] == "other", "another model takes over"
    fell = {"policy": "helped", "from": "m", "to": "other", "reason": "rate_limited"}
    assert proxy.metric("pointsman_fallbacks_total", **fell) == 1, "although m was not called"
    refused = {"policy": "p", "route": "m", "model": "m", "outcome": "upstream_error"}
    assert proxy.metric("pointsman_requests_total", **refused) == 2, "also the one that called nobody"


def test_if_all_fail_the_load_grows_by_a_fifth_at_most(proxy: Proxy, three: Three) -> None:
    for standin in three.values():
        always(standin, "status=503")
    assert statuses(proxy, 100) == {502: 100}
    assert sum(len(standin.journal) for standin in three.values()) <= 120
    for standin in three.values():
        standin.script.clear()
    assert statuses(proxy, 30) == {200: 30}, "the last one is never out, so repair is seen at once"


def test_a_query_of_death_ejects_nobody(proxy: Proxy, three: Three) -> None:
    """One request that fails wherever it goes, over and over: it is not walked round, and nobody is blamed."""
    deadly = "[[fault status=500]] die"
    assert {answer.status_code for answer in asks(proxy, 20, deadly)} == {502}
    assert [state(proxy, name) for name in three] == [0, 0, 0]
    assert sum(len(standin.journal) for standin in three.values()) == 22, "three attempts once, then one each"


def test_a_fallback_keeps_one_of_three_attempts(proxy: Proxy, three: Three) -> None:
    """Two of the model's own endpoints fail; the third attempt is the other model's, whoever else there is."""
    deadly = "[[fault status=500]] die"
    answer = ask(proxy, deadly, model="helped")
    assert answer.headers["x-pointsman-attempts"] == "3"
    assert answer.headers["x-pointsman-served-by"] == "other"
