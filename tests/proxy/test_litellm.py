"""A vendor that speaks another dialect, through the whole proxy: the `openai` client, LiteLLM, Anthropic's wire.

One module and one proxy: importing LiteLLM takes seconds.
"""

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import httpx
import openai
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.conftest import KEY

pytestmark = pytest.mark.xdist_group("litellm")

CONFIG = """
version: 1
keys: [{{name: team, key: sk-team-0123456789abcdef, tenant: acme}}]
models:
  haiku:
    provider: anthropic
    base_url: "{vendor}"
    model: claude-haiku-5-5
    api_key: sk-ant-canary-0123456789
    price: {{input: 1, cached_input: 0.1, cache_write: 1.25, output: 5}}
  strong:
    base_url: "{strong}"
    api_key: sk-upstream-strong-canary
    dialect: openai
    price: {{input: 2.5, output: 10}}
prompts:
  support:
    "1":
      messages:
        - system: |
            Classify the request and answer with its JSON intent only. {rules}
policies:
  haiku:
    baseline: haiku
    routes: {{haiku: {{model: haiku, prompt: support@1, params: {{default: {{max_tokens: 500}}}}}}}}
    default: haiku
  helped:
    routes:
      haiku: {{model: haiku, prompt: support@1, fallback: strong}}
      strong: {{model: strong, prompt: support@1}}
    default: haiku
"""

ASK: list[Any] = [{"role": "user", "content": "where is my order 1234?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "Find an order",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def vendor() -> Iterator[StandIn]:
    with StandIn("strong") as standin:
        yield standin


@pytest.fixture(scope="module")
def proxy(strong: StandIn, vendor: StandIn) -> Iterator[Proxy]:
    rules = " ".join(f"Rule {n}: never promise what the shop of {n} streets cannot keep." for n in range(90))
    with Proxy(CONFIG.format(strong=strong.base_url, vendor=vendor.url, rules=rules)) as running:
        yield running
        assert "canary" not in running.text
        assert "Traceback" not in running.text


@pytest.fixture
def client(proxy: Proxy, vendor: StandIn) -> Iterator[openai.OpenAI]:
    vendor.script.clear()
    with openai.OpenAI(base_url=proxy.base_url, api_key=KEY, max_retries=0, timeout=60) as found:
        yield found


def usd(reported: dict[str, int]) -> Fraction:
    """What the vendor's own report costs at the config's prices."""
    prices = {"input_tokens": "1", "cache_read_input_tokens": "0.1", "cache_creation_input_tokens": "1.25",
              "output_tokens": "5"}  # fmt: skip
    return sum((Fraction(price) * reported[name] for name, price in prices.items()), Fraction(0)) / 1_000_000


def booked(proxy: Proxy) -> Fraction:
    found = proxy.metrics().items()
    cost = "pointsman_cost_usd_total"
    return sum((Fraction(round(n * 10**12), 10**12) for (name, labels), n in found if name == cost), Fraction(0))


@pytest.mark.parametrize("stream", [False, True])
def test_answers_and_their_cost(proxy: Proxy, client: openai.OpenAI, vendor: StandIn, stream: bool) -> None:
    """To the last pico-dollar, prompt-cache hits included; and the caller's usage is the vendor's."""
    for number in range(3):
        before = booked(proxy)
        ask: Any = [{"role": "user", "content": f"where is my order {1000 + number}?"}]
        options: Any = {"stream_options": {"include_usage": True}} if stream else {}
        found: Any = client.chat.completions.create(model="haiku", messages=ask, stream=stream, **options)
        parts = list(found) if stream else [found]
        choices = [choice for part in parts for choice in part.choices]
        text = "".join((choice.delta if stream else choice.message).content or "" for choice in choices)
        assert json.loads(text) == {"intent": "order_status", "order_id": str(1000 + number)}
        assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
        reported = vendor.journal.last.reported
        told = parts[-1].usage
        assert told.completion_tokens == reported["output_tokens"]
        assert told.prompt_tokens == reported["input_tokens"] + reported["cache_read_input_tokens"]
        for _ in until(20.0, "the request to be booked"):  # a stream's caller has it all a moment before
            if booked(proxy) != before:
                break
        assert booked(proxy) - before == usd(reported)
    assert vendor.journal.last.reported["cache_read_input_tokens"] > 1000
    sent = vendor.journal.last
    assert sent.path == "/v1/messages"
    assert sent.json["model"] == "claude-haiku-5-5"
    assert sent.header("x-api-key") == "sk-ant-canary-0123456789"


def test_whole_answers_tell_their_cost(client: openai.OpenAI, vendor: StandIn) -> None:
    raw = client.chat.completions.with_raw_response.create(model="haiku", messages=ASK)
    assert Fraction(raw.headers["x-pointsman-cost-usd"]) == usd(vendor.journal.last.reported)
    assert raw.headers["x-pointsman-baseline-cost-usd"] == raw.headers["x-pointsman-cost-usd"]
    assert raw.headers["x-pointsman-model"] == "haiku"
    assert "cost" not in json.loads(raw.text)["usage"]


@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: openai.OpenAI, stream: bool) -> None:
    found: Any = client.chat.completions.create(
        model="haiku", messages=ASK, tools=TOOLS, tool_choice="required", stream=stream
    )
    name = arguments = ""
    for part in found if stream else [found]:
        for choice in part.choices:
            for call in (choice.delta if stream else choice.message).tool_calls or ():
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    assert (name, json.loads(arguments)) == ("find_order", {"order_id": "1234"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=429 retry-after=7", 429, "upstream_rate_limited"),
        ("status=529 body=anthropic", 502, "upstream_5xx"),
        ("status=500", 502, "upstream_5xx"),
        ("status=401", 502, "upstream_auth"),
        ("reset after=request", 502, "upstream_connect"),
        ("cut after=head", 502, None),
    ],
)
def test_failures_have_their_classes(
    client: openai.OpenAI, vendor: StandIn, fault: str, status: int, code: str | None, stream: bool
) -> None:
    vendor.then(*[fault] * 6)  # at most three calls; where one is reset, LiteLLM's client makes it twice
    with pytest.raises(openai.APIStatusError) as failed:
        list(client.chat.completions.create(model="haiku", messages=ASK, stream=stream))
    assert failed.value.status_code == status
    assert code in (None, failed.value.code)
    assert "canary" not in failed.value.response.text
    assert failed.value.response.headers["x-pointsman-model"] == "haiku"


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_vendor_falls_back(client: openai.OpenAI, vendor: StandIn, stream: bool) -> None:
    vendor.then("status=529 body=anthropic")
    raw = client.chat.completions.with_raw_response.create(model="helped", messages=ASK, stream=stream)
    assert raw.headers["x-pointsman-served-by"] == "strong"


def test_a_cut_stream_is_an_error(client: openai.OpenAI, vendor: StandIn) -> None:
    vendor.then("cut after=2 how=fin")
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="haiku", messages=ASK, stream=True))


def test_a_client_that_leaves_ends_the_vendors_call(proxy: Proxy, vendor: StandIn, client: openai.OpenAI) -> None:
    before = proxy.metric("pointsman_requests_total", outcome="cancelled")
    vendor.then("tokens=400 pace=0.05")
    body = {"model": "haiku", "messages": ASK, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_lines())
    vendor.journal.wait(lambda journal: journal.last.ended is not None, timeout=5)
    assert vendor.journal.last.ended == "peer closed"
    proxy.wait_for_metric("pointsman_requests_total", before + 1, outcome="cancelled")
    assert proxy.metric("pointsman_cost_usd_total", source="estimated", model="haiku") > 0
