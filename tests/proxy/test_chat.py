"""Chat completions through the proxy with the real `openai` client: what a caller sees of each route and failure."""

import json
from typing import Any

import httpx
import openai
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.conftest import KEY

ASK: list[Any] = [{"role": "user", "content": "where is my order 1234?"}]


@pytest.fixture(autouse=True)
def nothing_left_over(strong: StandIn, tuned: StandIn) -> None:
    strong.script.clear()
    tuned.script.clear()


@pytest.fixture
def client(proxy: Proxy) -> openai.OpenAI:
    return openai.OpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0)


def ask(client: openai.OpenAI, tier: str | None = None, **more: Any) -> Any:
    headers = {"x-tier": tier} if tier else {}
    given = {"model": "support", "messages": ASK, **more}
    return client.chat.completions.with_raw_response.create(**given, extra_headers=headers)


def test_the_default_route_answers(client: openai.OpenAI, tuned: StandIn) -> None:
    raw = ask(client)
    answer = raw.parse()
    assert json.loads(answer.choices[0].message.content)["intent"] == "order_status"
    assert raw.headers["x-pointsman-rule"] == "default"
    assert raw.headers["x-pointsman-served-by"] == "tuned"
    assert float(raw.headers["x-pointsman-baseline-cost-usd"]) > float(raw.headers["x-pointsman-cost-usd"]) > 0
    assert tuned.journal.last.json["messages"] == ASK
    assert tuned.journal.last.json["model"] == "tuned"


def test_a_rule_routes_to_the_strong_model_with_its_prompt(client: openai.OpenAI, strong: StandIn) -> None:
    raw = ask(client, "gold", max_tokens=50, extra_body={"pointsman": {"variables": {"company": "Initech"}}})
    assert raw.headers["x-pointsman-route"] == "strong"
    assert raw.headers["x-pointsman-prompt"] == "support@1"
    sent = strong.journal.last.json
    assert sent["messages"][0]["role"] == "system"
    assert "assistant of Initech" in sent["messages"][0]["content"]
    assert sent["messages"][1:] == ASK
    assert sent["max_completion_tokens"] == 50
    assert not {"max_tokens", "pointsman"} & sent.keys()


def test_streams_come_whole(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="support", messages=ASK, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(text)["intent"] == "order_status"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_to_those_who_ask(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="support", messages=ASK, stream=True, stream_options=options))
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_a_dead_upstream_falls_back(client: openai.OpenAI) -> None:
    raw = ask(client, "dead")
    assert raw.headers["x-pointsman-route"] == "dead"
    assert raw.headers["x-pointsman-served-by"] == "strong"
    assert raw.headers["x-pointsman-attempts"] == "2"


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_upstream_alone_is_a_502(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client, "lost", stream=stream)
    assert failed.value.status_code == 502
    assert failed.value.code == "upstream_connect"
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert "dead" in failed.value.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=429 retry-after=7", 429, "upstream_rate_limited"),
        ("status=500", 502, "upstream_5xx"),
        ("status=503 body=html", 502, "upstream_5xx"),
        ("status=529 body=anthropic", 502, "upstream_5xx"),
        ("status=401", 502, "upstream_auth"),
        ("status=403 body=garbage", 502, "upstream_auth"),
        ("reset after=head", 502, None),
        ("cut after=head", 502, "upstream_bad_answer"),
        ("error-json", 502, "upstream_5xx"),
    ],
)
def test_failures_before_content_are_http_errors(
    client: openai.OpenAI, tuned: StandIn, fault: str, status: int | None, code: str | None, stream: bool
) -> None:
    """With nothing to fall back on, each failure is its class's status and code, streamed or not."""
    tuned.then(fault)
    with pytest.raises(openai.APIStatusError) as failed:
        ask(client, "alone", stream=stream)
    assert status in (None, failed.value.status_code)
    assert code in (None, failed.value.code)
    assert "canary" not in failed.value.response.text
    if "retry-after" in fault:
        assert failed.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["status=500", "status=429", "error-json", "cut after=head"])
def test_failures_before_content_fall_back(client: openai.OpenAI, tuned: StandIn, fault: str, stream: bool) -> None:
    tuned.then(fault)
    raw = ask(client, None, stream=stream)
    assert raw.status_code == 200
    assert raw.headers["x-pointsman-served-by"] == "strong"
    if stream:
        assert list(raw.parse())[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("how", ["fin", "rst", "end"])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_cut_stream_is_an_error_never_an_end(client: openai.OpenAI, tuned: StandIn, how: str, after: int) -> None:
    """Once content has gone out, an early end is the error event: the client raises."""
    tuned.then(f"cut after={after} how={how} tokens=20")
    chunks = ask(client, "alone", stream=True).parse()
    assert next(chunks)
    with pytest.raises(openai.APIError):
        list(chunks)


def test_a_stalled_stream_times_out(client: openai.OpenAI, tuned: StandIn) -> None:
    """Before content the status is held and then given; the timeout is the last event."""
    tuned.then("stall after=head")
    with pytest.raises(openai.APIError, match="first_content timeout of 2 s"):
        list(ask(client, "alone", stream=True).parse())


def test_a_stream_of_comments_times_out(client: openai.OpenAI, tuned: StandIn) -> None:
    """They come more often than `idle`, but are no content."""
    tuned.then("pings after=2 every=0.3 tokens=20")
    chunks = ask(client, "alone", stream=True).parse()
    with pytest.raises(openai.APIError, match="idle_content"):
        list(chunks)


def test_the_error_event_is_the_contracts(proxy: Proxy, tuned: StandIn) -> None:
    tuned.then("cut after=2 tokens=20")
    body = {"model": "support", "messages": ASK, "stream": True}
    headers = {"authorization": f"Bearer {KEY}", "x-tier": "alone"}
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=body, headers=headers)
    events = [event for event in answer.text.split("\n\n") if event]
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
    assert last["object"] == "chat.completion.chunk"
    assert last["error"]["code"] == "upstream_bad_answer"
    assert "[DONE]" not in answer.text


def test_a_slow_first_token_is_waited_for_with_comments(proxy: Proxy, tuned: StandIn) -> None:
    """The status is held, then 200 and comments; the answer still comes whole."""
    tuned.then("ttft=1.4")
    body = {"model": "support", "messages": ASK, "stream": True}
    headers = {"authorization": f"Bearer {KEY}", "x-tier": "alone"}
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=body, headers=headers)
    assert answer.text.startswith(": ")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_fallback_stays_possible_after_comments(proxy: Proxy, tuned: StandIn) -> None:
    tuned.then("stall after=head")
    body = {"model": "support", "messages": ASK, "stream": True}
    answer = httpx.post(
        f"{proxy.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=20
    )
    assert answer.text.startswith(": ")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_callers_errors_pass_with_their_own_words(client: openai.OpenAI, tuned: StandIn) -> None:
    tuned.then("status=400 code=unsupported_value")
    with pytest.raises(openai.BadRequestError) as failed:
        ask(client)
    assert failed.value.code == "unsupported_value"


def test_a_client_that_leaves_ends_the_upstream_call(proxy: Proxy, tuned: StandIn) -> None:
    """Its upstream connection is closed, and what was used is booked as cancelled."""
    before = proxy.metric("pointsman_requests_total", outcome="cancelled")
    tuned.then("pace=0.05 tokens=400")
    body = {"model": "support", "messages": ASK, "stream": True}
    headers = {"authorization": f"Bearer {KEY}", "x-tier": "alone"}
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_lines())
    for _ in until(5.0, "the upstream call to end"):
        if tuned.journal.last.ended is not None:
            break
    assert tuned.journal.last.ended == "peer closed"
    proxy.wait_for_metric("pointsman_requests_total", before + 1, outcome="cancelled")
    assert proxy.metric("pointsman_cost_usd_total", source="estimated") > 0


def test_tools_and_schemas_go_through(client: openai.OpenAI, tuned: StandIn) -> None:
    tools: Any = [{"type": "function", "function": {"name": "find_order", "parameters": {"type": "object"}}}]
    answer = ask(client, tools=tools, tool_choice="required").parse()
    assert answer.choices[0].message.tool_calls[0].function.name == "find_order"
    assert tuned.journal.last.json["tools"] == tools
    chunks = list(ask(client, tools=tools, tool_choice="required", stream=True).parse())
    names = [c.function.name for k in chunks for c in (k.choices[0].delta.tool_calls or []) if c.function.name]
    assert names == ["find_order"]


def test_unknown_fields_reach_the_model(client: openai.OpenAI, tuned: StandIn) -> None:
    """Also those nobody here has heard of; a strict model then says so in its own words."""
    with pytest.raises(openai.BadRequestError) as failed:
        ask(client, extra_body={"brand_new": {"a": [1, None, 0.5]}})
    assert failed.value.param == "brand_new"
    assert tuned.journal.last.json["brand_new"] == {"a": [1, None, 0.5]}


def test_models_are_the_policies(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["support", "plain"]
    assert client.models.retrieve("support").owned_by == "pointsman"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
def test_paths_count_with_and_without_v1(proxy: Proxy, path: str) -> None:
    body = {"model": "support", "messages": ASK}
    answer = httpx.post(proxy.url + path, json=body, headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200


async def test_the_async_client_too(proxy: Proxy) -> None:
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0) as client:
        answer = await client.chat.completions.create(model="support", messages=ASK)
        assert answer.usage is not None
        stream = await client.chat.completions.create(model="support", messages=ASK, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
