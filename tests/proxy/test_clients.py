"""The official `openai` client, sync and async, in the ways people use it; and clients that leave."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import httpx
import openai
import psutil
import pytest
from pydantic import BaseModel

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.conftest import KEY, PROMPT

CONFIG = """
version: 1
keys: [{{name: team, key: sk-team-0123456789abcdef, tenant: acme}}]
retries: {{pause: 0s}}
timeouts: {{connect: 20s, first_content: 60s, idle: 60s, total: 60s}}
upstreams:
  strong: {{base_url: "{strong}", api_key: sk-upstream-strong-canary, dialect: openai}}
  tuned: {{base_url: "{tuned}", api_key: sk-upstream-tuned-canary}}
  narrow: {{base_url: "{tuned}", api_key: sk-upstream-tuned-canary, max_connections: 5}}
models:
  strong: {{at: strong, price: {{input: 2.5, cached_input: 1.25, output: 10}}}}
  tuned: {{at: tuned, price: {{input: 0.1, output: 0.4}}}}
  narrow: {{at: narrow, price: {{input: 0.1, output: 0.4}}}}
prompts: {{support: prompts/support/}}
policies:
  support: {{baseline: strong, routes: {{strong: {{model: strong, prompt: support@1}}}}, default: strong}}
  tuned: {{routes: {{tuned: {{model: tuned}}}}, default: tuned}}
  narrow: {{routes: {{narrow: {{model: narrow}}}}, default: narrow}}
"""

ASK: list[Any] = [{"role": "user", "content": "where is my order 1234?"}]
LONG: list[Any] = [{"role": "user", "content": "tell me all [[fault tokens=400 pace=0.02]]"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
        },
    }
]


class Intent(BaseModel):
    intent: Literal["order_status", "refund", "other"]
    order_id: str


@pytest.fixture(scope="module")
def proxy(strong: StandIn, tuned: StandIn) -> Iterator[Proxy]:
    config = CONFIG.format(strong=strong.base_url, tuned=tuned.base_url)
    with Proxy(config, {"prompts/support/1.yaml": PROMPT}) as running:
        yield running
        assert "Traceback" not in running.text


@pytest.fixture(autouse=True)
def nothing_left_over(strong: StandIn, tuned: StandIn) -> None:
    for standin in (strong, tuned):
        standin.script.clear()
        standin.journal.clear()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0) as found:
        yield found


@pytest.fixture
async def async_client(proxy: Proxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0) as found:
        yield found


# --- the ways people use it


@pytest.mark.parametrize("model", ["support", "tuned"])
def test_structured_outputs_are_parsed(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=ASK, response_format=Intent)
    assert answer.choices[0].message.parsed == Intent(intent="order_status", order_id="1234")


def test_the_stream_helper_parses_too(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="support", messages=ASK, response_format=Intent) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Intent(intent="order_status", order_id="1234")
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_the_stream_helper_with_tools(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tuned", messages=ASK, tools=TOOLS, tool_choice="required", stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert call.function.name == "find_order"
    assert json.loads(call.function.arguments) == {"order_id": "1234"}
    assert "tool_calls.function.arguments.done" in kinds
    assert final.usage is not None
    assert final.usage.completion_tokens > 0


async def test_the_async_stream_helper(async_client: openai.AsyncOpenAI) -> None:
    async with async_client.chat.completions.stream(model="tuned", messages=ASK) as stream:
        text = "".join([event.delta async for event in stream if event.type == "content.delta"])
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == text
    assert json.loads(text)["intent"] == "order_status"


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_come_whole(client: openai.OpenAI, stream: bool) -> None:
    """Streamed ones take turns."""
    found: Any = client.chat.completions.create(model="tuned", messages=ASK, n=2, stream=stream)
    texts, ends = {0: "", 1: ""}, {}
    for part in found if stream else [found]:
        for choice in part.choices:
            texts[choice.index] += (choice.delta if stream else choice.message).content or ""
            ends[choice.index] = choice.finish_reason
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["intent"] == "order_status"
    assert ends == {0: "stop", 1: "stop"}


def test_raw_responses_have_the_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="support", messages=ASK)
    assert raw.headers["x-pointsman-route"] == "strong"
    assert raw.http_response.headers["x-request-id"].startswith("req_")
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    with client.chat.completions.with_streaming_response.create(model="tuned", messages=ASK) as streamed:
        assert streamed.headers["x-pointsman-served-by"] == "tuned"
        assert streamed.parse().choices[0].finish_reason == "stop"


async def test_many_at_once(async_client: openai.AsyncOpenAI) -> None:
    """Answers do not cross: each is about its own order."""

    async def one(number: int) -> None:
        ask: Any = [{"role": "user", "content": f"where is order {number}?"}]
        if number % 2:
            answer = await async_client.chat.completions.create(model="tuned", messages=ask)
            text = answer.choices[0].message.content or ""
        else:
            stream = await async_client.chat.completions.create(model="tuned", messages=ask, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert json.loads(text)["order_id"] == str(number)

    await asyncio.gather(*(one(number) for number in range(10_000, 10_100)))


# --- retries


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["status=500", "status=429 retry-after=1", "status=503", "reset after=head"])
def test_the_client_does_not_retry_what_was_tried(proxy: Proxy, tuned: StandIn, fault: str, stream: bool) -> None:
    """Retries multiply: ours are spent, so theirs are called off."""
    tuned.then(fault)
    client = openai.OpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=2)
    with client, pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(model="tuned", messages=ASK, stream=stream)
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(tuned.journal) == 1


# --- clients that leave


def inflight(proxy: Proxy) -> float:
    return proxy.metric("pointsman_inflight_requests")


@pytest.mark.parametrize("when", ["before content", "in a stream", "before a whole answer"])
def test_a_client_that_leaves_ends_its_upstream_call(proxy: Proxy, tuned: StandIn, when: str) -> None:
    before = proxy.metric("pointsman_requests_total", outcome="cancelled")
    tuned.then("ttft=30" if when == "before content" else "tokens=400 pace=0.05")
    body = {"model": "tuned", "messages": ASK, "stream": when != "before a whole answer"}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=proxy.base_url, headers=headers, timeout=0.5) as client:
        if when == "in a stream":
            with client.stream("POST", "/chat/completions", json=body) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/chat/completions", json=body)
    tuned.journal.wait(lambda journal: len(journal) == 1 and journal.last.ended is not None, timeout=5)
    assert tuned.journal.last.ended == "peer closed"
    proxy.wait_for_metric("pointsman_requests_total", before + 1, outcome="cancelled")
    assert inflight(proxy) == 0


async def test_a_cancelled_task_ends_its_upstream_call(async_client: openai.AsyncOpenAI, tuned: StandIn) -> None:
    stream = await async_client.chat.completions.create(model="tuned", messages=LONG, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await tuned.journal.until(lambda journal: journal.last.ended is not None)
    assert tuned.journal.last.ended == "peer closed"


@pytest.mark.parametrize("model", ["tuned", "narrow"])
async def test_a_hundred_cancels_leave_nothing_behind(proxy: Proxy, tuned: StandIn, model: str) -> None:
    """At random moments, also while they wait for one of few connections: no connection, task or gauge is left."""
    chance = random.Random(7)
    before = proxy.metric("pointsman_requests_total", outcome="cancelled", policy=model)
    process = psutil.Process(proxy.pid)

    async def one(client: openai.AsyncOpenAI, number: int) -> None:
        stream = number % 3 > 0
        async with asyncio.timeout(0.3 + chance.random()):
            found: Any = await client.chat.completions.create(model=model, messages=LONG, stream=stream)
            async for _ in found:
                pass

    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0) as client:
        ends = await asyncio.gather(*(one(client, number) for number in range(100)), return_exceptions=True)
    assert {type(end) for end in ends} == {TimeoutError}
    for _ in until(30.0, "all upstream calls to end, and to be booked"):
        booked = proxy.metric("pointsman_requests_total", outcome="cancelled", policy=model) - before
        if tuned.journal.running() == 0 and inflight(proxy) == 0 and booked >= len(tuned.journal):
            break
    assert len(tuned.journal) > 0
    for _ in until(10.0, "the connections to be closed"):
        data = [c for c in process.net_connections("tcp") if c.status == "ESTABLISHED" and c.raddr]
        if not [c for c in data if c.laddr.port == int(proxy.url.rpartition(":")[2])]:
            break
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0) as client:
        asked = (client.chat.completions.create(model=model, messages=ASK) for _ in range(20))
        assert all(answer.choices for answer in await asyncio.gather(*asked))  # every slot is free again
