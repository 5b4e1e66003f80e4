"""Headers: which of the client's reach a model, and what every kind of answer carries."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import httpx
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.conftest import KEY

ASK = [{"role": "user", "content": "where is my order 1234?"}]
NAMES = {
    f"x-pointsman-{name}"
    for name in ("policy", "rule", "route", "served-by", "model", "prompt", "attempts", "config")
}


@pytest.fixture(autouse=True)
def nothing_left_over(strong: StandIn, tuned: StandIn) -> None:
    strong.script.clear()
    tuned.script.clear()


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as found:
        yield found


def ask(client: httpx.Client, tier: str = "", **more: Any) -> httpx.Response:
    return client.post(
        "/chat/completions", json={"model": "support", "messages": ASK, **more}, headers={"x-tier": tier}
    )


# --- upstream

CLIENTS = {
    "accept": "text/html",
    "accept-language": "de",
    "api-key": "sk-client-canary",
    "cookie": "session=canary",
    "connection": "keep-alive",
    "forwarded": "for=10.0.0.1",
    "host": "elsewhere.example",
    "idempotency-key": "canary",
    "openai-beta": "assistants=v2",
    "openai-organization": "org-canary",
    "openai-project": "proj-canary",
    "origin": "https://evil.example",
    "proxy-authorization": "Basic canary",
    "te": "trailers",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "vendor=1",
    "user-agent": "canary/1.0",
    "x-api-key": "sk-client-canary",
    "x-forwarded-for": "10.0.0.1",
    "x-request-id": "canary",
    "x-session-id": "canary",
    "x-standin": "status=500",
    "x-tier": "alone",
}


@pytest.mark.parametrize("stream", [False, True])
def test_only_listed_headers_reach_the_model(client: httpx.Client, tuned: StandIn, stream: bool) -> None:
    body = {"model": "support", "messages": ASK, "stream": stream}
    assert client.post("/chat/completions", json=body, headers=CLIENTS).status_code == 200
    sent = tuned.journal.last.headers
    assert sent.keys() == {
        "host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "authorization",
        "openai-beta", "traceparent", "tracestate",
    }  # fmt: skip
    assert "canary" not in repr({name: value for name, value in sent.items() if name != "authorization"})
    assert sent["authorization"] == "Bearer sk-upstream-tuned-canary"
    assert sent["host"] == tuned.url.removeprefix("http://")
    assert {name: sent[name] for name in ("openai-beta", "traceparent", "tracestate")}.items() <= CLIENTS.items()
    assert len(tuned.journal.last.raw_headers) == len(sent), "none is repeated"


def test_no_header_of_the_models_reaches_the_client(client: httpx.Client) -> None:
    """Their cookies, organisation and request id are theirs."""
    answer = ask(client)
    assert not {"set-cookie", "openai-organization", "openai-version", "x-ratelimit-limit-requests"} & set(
        answer.headers
    )
    assert answer.headers["x-request-id"].startswith("req_")
    assert len(answer.headers.get_list("x-request-id")) == 1


# --- the client's answer


def check_named(answer: httpx.Response, **wanted: str) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    found = {name for name in answer.headers if name.startswith("x-pointsman-") and not name.endswith("-usd")}
    assert found == NAMES
    for name, value in wanted.items():
        assert answer.headers[f"x-pointsman-{name.replace('_', '-')}"] == value
    assert re.fullmatch(r"[0-9a-f]{12}", answer.headers["x-pointsman-config"])


def test_an_answer_is_named(client: httpx.Client) -> None:
    answer = ask(client)
    check_named(answer, policy="support", rule="default", route="tuned", served_by="tuned", model="tuned",
                prompt="none", attempts="1")  # fmt: skip
    cost, baseline = (Fraction(answer.headers[f"x-pointsman-{name}-usd"]) for name in ("cost", "baseline-cost"))
    assert 0 < cost < baseline


def test_a_stream_is_named_without_its_cost(client: httpx.Client) -> None:
    answer = ask(client, "gold", stream=True)
    check_named(
        answer, rule="gold", route="strong", served_by="strong", model="strong", prompt="support@1", attempts="1"
    )
    assert not [name for name in answer.headers if name.endswith("-usd")]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_is_named(client: httpx.Client, stream: bool) -> None:
    check_named(ask(client, "dead", stream=stream), route="dead", served_by="strong", model="strong",
                prompt="support@1", attempts="2")  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault", ["status=500", "status=429", "status=400", "status=401", "cut after=head", "reset after=head"]
)
def test_upstream_errors_are_named(client: httpx.Client, tuned: StandIn, fault: str, stream: bool) -> None:
    tuned.then(fault)
    answer = ask(client, "alone", stream=stream)
    assert answer.status_code >= 400
    check_named(answer, rule="alone", route="alone", served_by="alone", model="tuned", prompt="none", attempts="1")
    paid = Fraction(answer.headers["x-pointsman-cost-usd"])
    assert paid > 0 if "head" in fault else paid == 0  # what broke off after a 200 was paid for


def test_an_error_after_two_attempts_names_the_last(client: httpx.Client, strong: StandIn, tuned: StandIn) -> None:
    tuned.then("status=500")
    strong.then("status=503")
    check_named(ask(client), route="tuned", served_by="strong", model="strong", prompt="support@1", attempts="2")


def test_an_error_event_comes_under_the_names_of_its_stream(client: httpx.Client, tuned: StandIn) -> None:
    tuned.then("cut after=2")
    answer = ask(client, "alone", stream=True)
    assert answer.status_code == 200
    check_named(answer, route="alone", served_by="alone", attempts="1")
    event = json.loads(answer.text.rstrip().rpartition("data: ")[2])
    assert event["error"]["code"] == "upstream_bad_answer"
    first = json.loads(answer.text.partition("data: ")[2].partition("\n")[0])
    assert (event["id"], event["model"]) == (first["id"], first["model"])


def test_an_error_event_without_a_stream_before_it_is_a_chunk_all_the_same(
    client: httpx.Client, tuned: StandIn
) -> None:
    """Typed clients read `id` and `model` before they see the error."""
    tuned.then("stall after=head")
    answer = ask(client, "alone", stream=True)
    event = json.loads(answer.text.rstrip().rpartition("data: ")[2])
    assert event["error"]["code"] == "upstream_timeout"
    assert event["id"] == answer.headers["x-request-id"]
    assert event["model"] == "support"


def test_a_request_that_cannot_be_sent_on_is_named(client: httpx.Client) -> None:
    """It was decided, and nothing was tried."""
    head = {"content-type": "application/json"}
    body = b'{"model": "support", "messages": [{"role": "user", "content": "x"}], "seed": 36893488147419103232}'
    answer = client.post("/chat/completions", content=body, headers=head)
    assert answer.status_code == 400
    check_named(answer, rule="default", route="tuned", served_by="tuned", attempts="0")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("{", {}, 400),
        ('{"model": "nope", "messages": [{"role": "user"}]}', {}, 404),
        ("{}", {"authorization": "Bearer wrong"}, 401),
        ("{}", {"content-type": "text/plain"}, 415),
        ("x" * 2_000_000, {}, 413),
    ],
)
def test_refusals_have_an_id_and_no_names(
    client: httpx.Client, body: str, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/chat/completions", content=body, headers={"content-type": "application/json", **headers})
    assert answer.status_code == status
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert not [name for name in answer.headers if name.startswith("x-pointsman")]


@pytest.mark.parametrize("path", ["/models", "/models/support", "/models/nope", "/nowhere"])
def test_every_answer_has_an_id(client: httpx.Client, path: str) -> None:
    ids = {client.get(path).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_whole_answer_says_its_length_and_nothing_twice(client: httpx.Client) -> None:
    for answer in (ask(client), ask(client, "lost"), client.get("/models")):
        names = [name for name, _ in answer.headers.multi_items()]
        assert len(names) == len(set(names))
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert "date" in names
        assert "server" not in names
