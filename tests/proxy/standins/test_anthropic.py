"""Anthropic's dialect, on plain HTTP."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from proxy.standins import StandIn
from proxy.standins.tokens import count
from tests.proxy.standins.wire import CONTENT

TASK = {
    "model": "haiku",
    "max_tokens": 500,
    "system": [{"type": "text", "text": "Answer JSON with the intent."}],
    "messages": [{"role": "user", "content": "Where is my order AC-10423?"}],
}
TOOLS = [{"name": "look_up", "input_schema": {"type": "object", "properties": {"order_id": {"type": "string"}}}}]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        StandIn("tuned", key="sk-ant") as standin,
        httpx.AsyncClient(base_url=standin.url, headers={"x-api-key": "sk-ant"}) as client,
    ):
        yield client


async def post(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.post("/v1/messages", json={**TASK, **fields})


async def test_a_message(http: httpx.AsyncClient) -> None:
    message = (await post(http)).json()
    assert message["content"] == [{"type": "text", "text": CONTENT}]
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("end_turn", count(CONTENT))


async def test_a_stream_says_the_same(http: httpx.AsyncClient) -> None:
    lines = (await post(http, stream=True)).text.split("\n")
    kinds = [line[7:] for line in lines if line.startswith("event: ")]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert kinds == [event["type"] for event in events]
    assert (kinds[0], kinds[1], kinds[-2], kinds[-1]) == (
        "message_start", "content_block_start", "message_delta", "message_stop",
    )  # fmt: skip
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta") == CONTENT
    assert events[-2]["usage"] == {"output_tokens": count(CONTENT)}


async def test_a_tool_is_used_and_its_result_answered(http: httpx.AsyncClient) -> None:
    used = (await post(http, tools=TOOLS)).json()
    assert used["stop_reason"] == "tool_use"
    assert used["content"][0]["input"] == {"order_id": "AC-10423"}
    result = [{"type": "tool_result", "tool_use_id": used["content"][0]["id"], "content": "arrived"}]
    turns = [
        *TASK["messages"],
        {"role": "assistant", "content": used["content"]},
        {"role": "user", "content": result},
    ]
    assert (await post(http, tools=TOOLS, messages=turns)).json()["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n": 2}, "Extra inputs"), ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role")],
)
async def test_strict_in_its_own_shape(http: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    answer = await post(http, **change)
    assert answer.status_code == 400
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "invalid_request_error")
    assert message in answer.json()["error"]["message"]


async def test_a_wrong_key(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/messages", json=TASK, headers={"x-api-key": "sk-wrong"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


async def test_overloaded_under_200(http: httpx.AsyncClient) -> None:
    answer = await post(http, model="haiku?error-event&dialect=anthropic", stream=True)
    assert answer.status_code == 200
    assert answer.text.startswith("event: error\n")


async def test_cached_tokens_stand_beside_the_input() -> None:
    long = {**TASK, "system": "JSON intent " + "word " * 1500}
    async with StandIn("strong") as strong, httpx.AsyncClient() as http:
        first, second = [
            (await http.post(f"{strong.base_url}/messages", json=long)).json()["usage"] for _ in range(2)
        ]
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] > 1024
    assert second["input_tokens"] + second["cache_read_input_tokens"] == first["input_tokens"]
