"""The stand-ins as the official client meets them."""

import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from proxy.standins import STRONG, TUNED, Latency, StandIn
from proxy.standins.tokens import count, prompt_pieces
from tests.proxy.standins.wire import CONTENT, TASK, chat, connected, exchange, parted

ORDER = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}},
    "required": ["order_id"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "strict": True, "parameters": ORDER}}]


@pytest.fixture
async def strong() -> AsyncIterator[StandIn]:
    async with StandIn("strong") as standin:
        yield standin


@pytest.fixture
async def client(strong: StandIn) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=strong.base_url, api_key="any", max_retries=0) as found:
        yield found


def messages() -> Any:
    return list(TASK)


async def test_a_completion(client: openai.AsyncOpenAI, strong: StandIn) -> None:
    answer = await client.chat.completions.create(model="strong", messages=messages())
    assert answer.choices[0].message.content == CONTENT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "strong-2026-09-30"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt_pieces({"messages": TASK}))
    assert answer.usage.completion_tokens == count(CONTENT)
    entry = strong.journal.last
    assert entry.bill == {
        "prompt_tokens": answer.usage.prompt_tokens,
        "cached_tokens": 0,
        "completion_tokens": answer.usage.completion_tokens,
    }
    assert entry.json["messages"] == TASK
    assert entry.ended == "complete"
    assert entry.headers["authorization"] == "Bearer any"


async def test_a_stream_says_the_same_as_the_completion(client: openai.AsyncOpenAI, strong: StandIn) -> None:
    stream = await client.chat.completions.create(
        model="strong", messages=messages(), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == CONTENT
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump(exclude_unset=True) == strong.journal.last.reported
    assert len({chunk.id for chunk in chunks}) == 1
    assert strong.journal.last.events_sent == count(CONTENT)


async def test_without_being_asked_a_stream_tells_no_usage(strong: StandIn) -> None:
    _, headers, body = parted(await exchange(strong, chat(stream=True)))
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"usage" not in body
    assert body.endswith(b"data: [DONE]\n\n")


async def test_tool_calls_streamed_and_whole(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="strong", messages=messages(), tools=TOOLS)
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"order_id": "AC-10423"}
    stream = await client.chat.completions.create(model="strong", messages=messages(), tools=TOOLS, stream=True)
    deltas = [c async for chunk in stream for c in chunk.choices[0].delta.tool_calls or []]
    assert [deltas[0].id, deltas[0].type, deltas[0].index] == [call.id, "function", 0]
    assert "".join(d.function.arguments or "" for d in deltas if d.function) == call.function.arguments


async def test_the_clients_own_stream_helper_agrees(client: openai.AsyncOpenAI) -> None:
    """The helper rebuilds the completion from chunks, and is picky about them."""
    async with client.chat.completions.stream(model="strong", messages=messages(), tools=TOOLS) as stream:
        rebuilt = await stream.get_final_completion()
    assert rebuilt.choices[0].message.tool_calls is not None
    assert rebuilt.choices[0].finish_reason == "tool_calls"


async def test_several_choices_take_turns(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="strong", messages=messages(), n=2, stream=True)
    said = {0: "", 1: ""}
    async for chunk in stream:
        said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert said == {0: CONTENT, 1: CONTENT}


async def test_structured_output(client: openai.AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}
    answer = await client.chat.completions.create(
        model="strong",
        messages=messages()[1:],
        response_format={"type": "json_schema", "json_schema": {"name": "intent", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "") == {"intent": "order_status"}


async def test_a_long_prompt_is_cached_the_second_time(client: openai.AsyncOpenAI) -> None:
    long = [{"role": "system", "content": "JSON intent. " + "word " * 1500}, TASK[1]]
    sent: Any = long
    usages = [(await client.chat.completions.create(model="strong", messages=sent)).usage for _ in range(2)]
    cached = [u.prompt_tokens_details.cached_tokens for u in usages if u and u.prompt_tokens_details]
    assert cached == [0, (len(prompt_pieces({"messages": long})) - 1024) // 128 * 128 + 1024]


async def test_the_tuned_model_tells_no_details() -> None:
    async with (
        StandIn("tuned") as tuned,
        openai.AsyncOpenAI(base_url=tuned.base_url, api_key="any", max_retries=0) as client,
    ):
        answer = await client.chat.completions.create(model="tuned", messages=messages()[1:], max_tokens=100)
        assert answer.choices[0].message.content == CONTENT
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is None


async def test_strict_about_unknown_parameters(client: openai.AsyncOpenAI, strong: StandIn) -> None:
    with pytest.raises(openai.BadRequestError, match="Unknown parameter: 'pointsman'") as caught:
        await client.chat.completions.create(model="strong", messages=messages(), extra_body={"pointsman": {}})
    assert caught.value.code == "unknown_parameter"
    assert strong.journal.last.bill["prompt_tokens"] == 0


async def test_a_wrong_key_is_refused_and_echoed_masked() -> None:
    async with StandIn(key="sk-right") as standin, httpx.AsyncClient(base_url=standin.base_url) as http:
        wrong = await http.get("/models", headers={"authorization": "Bearer sk-wrong-secret-1234"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "secret" not in wrong.text
        assert (await http.get("/models")).status_code == 401
        assert (await http.get("/models", headers={"authorization": "Bearer sk-right"})).status_code == 200
        assert (await http.get("/models", headers={"api-key": "sk-right"})).status_code == 200


async def test_only_its_models_when_it_names_them() -> None:
    async with (
        StandIn(models=("sol",)) as standin,
        openai.AsyncOpenAI(base_url=standin.base_url, api_key="any", max_retries=0) as client,
    ):
        assert [model.id async for model in client.models.list()] == ["sol"]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="luna", messages=messages())


async def test_too_long_for_the_model(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="strong", messages=[{"role": "user", "content": "word " * 130_000}]
        )
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("GET", "/v1/x", 404)])
async def test_wrong_paths_and_methods(strong: StandIn, method: str, path: str, status: int) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.request(method, strong.url + path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


async def test_the_journal_over_http(client: openai.AsyncOpenAI, strong: StandIn) -> None:
    await client.chat.completions.create(model="strong", messages=messages())
    async with httpx.AsyncClient(base_url=strong.url) as http:
        (entry,) = (await http.get("/journal")).json()
        assert entry["body"]["messages"] == TASK
        assert entry["usage"]["completion_tokens"] == entry["bill"]["completion_tokens"] == count(CONTENT)
        assert (await http.get("/journal", params={"after": entry["number"]})).json() == []
        await http.delete("/journal")
        assert (await http.get("/journal")).json() == []


async def test_a_script_over_http(client: openai.AsyncOpenAI, strong: StandIn) -> None:
    async with httpx.AsyncClient(base_url=strong.url) as http:
        assert (await http.post("/script", content="status=503\n\nstatus=500")).json() == {"queued": 3}
    statuses = []
    for _ in range(4):
        raw = await http_status(client)
        statuses.append(raw)
    assert statuses == [503, 200, 500, 200]


async def http_status(client: openai.AsyncOpenAI) -> int:
    try:
        return (
            await client.chat.completions.with_raw_response.create(model="strong", messages=messages())
        ).status_code
    except openai.APIStatusError as error:
        return error.status_code


async def test_pipelined_requests_are_answered_in_order(strong: StandIn) -> None:
    asked = [chat(close=False, messages=[{"role": "user", "content": f"order {n}"}]) for n in (10001, 10002)]
    async with connected(strong) as (reader, writer):
        writer.write(b"".join([*asked, chat(messages=[{"role": "user", "content": "order 10003"}])]))
        answers = (await reader.read(-1)).decode()
    found = [answers.index(f"order {n}") for n in (10001, 10002, 10003)]
    assert found == sorted(found)


async def test_what_was_generated_is_billed_when_the_peer_leaves() -> None:
    """One token a millisecond would take 10 s; the peer leaves after the third content event."""
    async with StandIn("tuned") as tuned, connected(tuned) as (_, writer):
        writer.write(chat(model="tuned?tokens=10000&pace=0.001", stream=True))
        await tuned.journal.until(lambda journal: bool(journal.entries) and journal.last.events_sent >= 3)
        writer.close()
        await tuned.journal.until(lambda journal: journal.last.ended is not None)
        entry = tuned.journal.last
        assert entry.ended == "peer closed"
        assert 3 <= entry.bill["completion_tokens"] == entry.events_sent < 10_000


def test_an_answer_without_an_end_ends_with_its_peer() -> None:
    """In the midst of writing as well: nothing that is written to a closed connection says that it is too much."""
    with StandIn("tuned") as tuned:
        for size in range(20):
            with socket.create_connection((tuned.host, tuned.port)) as peer:
                peer.sendall(chat(model="tuned?pings&every=0", stream=True))
                left = 1 + size * 50_000
                while left > 0:
                    left -= len(peer.recv(65536))
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tuned.journal.wait(lambda journal: journal.last.ended == "peer closed")


async def test_a_json_answer_is_billed_by_the_time_it_was_worked_on() -> None:
    async with StandIn("tuned") as tuned, connected(tuned) as (_, writer):
        writer.write(chat(model="tuned?tokens=100000&pace=0.001"))
        await tuned.journal.until(lambda journal: len(journal) == 1)
        writer.close()
        await tuned.journal.until(lambda journal: journal.last.ended is not None)
        assert tuned.journal.last.ended == "peer closed"
        assert tuned.journal.last.bill["completion_tokens"] < 100_000


async def test_a_slow_reader_stops_the_writer() -> None:
    """4 MB for a peer that does not read: most of it is never made."""
    async with StandIn("tuned") as tuned, connected(tuned) as (reader, writer):
        writer.write(chat(model="tuned?tokens=60000", stream=True))
        await reader.readexactly(1)
        tuned.journal.changed()
        held = tuned.journal.last.generated
        assert 0 < held < 60_000
        await reader.read(-1)
        assert tuned.journal.last.generated == 60_000


def test_in_a_thread_for_blocking_clients() -> None:
    with StandIn("strong") as standin:
        with openai.OpenAI(base_url=standin.base_url, api_key="any", max_retries=0) as client:
            answer = client.chat.completions.create(model="strong", messages=messages())
            stream = client.chat.completions.create(model="strong", messages=messages(), stream=True)
            assert (
                "".join(chunk.choices[0].delta.content or "" for chunk in stream) == answer.choices[0].message.content
            )
        standin.journal.wait(lambda journal: len(journal) == 2 and not journal.running())


async def test_waits_depend_on_the_seed_and_the_order_of_arrival() -> None:
    async def first_waits(seed: int) -> list[float]:
        standin = StandIn(STRONG, seed=seed, latency=Latency(first_token=1, spread=0.3))
        found = []
        for _ in range(3):
            entry = standin.entry(
                1, "POST", "/v1/chat/completions", [(b"content-type", b"application/json")], chat_body()
            )
            found.append(next(iter(standin.respond(entry, close=False))).seconds)  # type: ignore[union-attr]
        return found

    assert await first_waits(1) == await first_waits(1)
    assert await first_waits(1) != await first_waits(2)
    assert len(set(await first_waits(1))) == 3


def chat_body() -> bytes:
    return json.dumps({"model": "strong", "messages": TASK}).encode()


def test_personas_are_what_the_demo_says() -> None:
    assert STRONG.needs_prompt
    assert not TUNED.needs_prompt
    assert STRONG.latency.first_token > 5 * TUNED.latency.first_token
