"""Each fault, seen on a bare socket."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.standins import FAULTS, Behaviour, StandIn
from tests.proxy.standins.wire import CONTENT, TASK, chat, connected, events, exchange, parted, said


@pytest.fixture
async def strong() -> AsyncIterator[StandIn]:
    async with StandIn("strong") as standin:
        yield standin


async def answered(standin: StandIn, fault: str, **fields: Any) -> tuple[str, dict[str, str], bytes]:
    standin.then(fault)
    return parted(await exchange(standin, chat(**fields)))


async def test_asked_by_header_model_name_message_and_script(strong: StandIn) -> None:
    marked = [{"role": "user", "content": "Hello [[fault status=503]]"}]
    for request in (
        chat(headers="x-standin: status=503\r\n"),
        chat(model="strong?status=503"),
        chat(messages=marked),
    ):
        assert (await exchange(strong, request)).startswith(b"HTTP/1.1 503 ")
    strong.then("status=503")
    assert (await exchange(strong, chat())).startswith(b"HTTP/1.1 503 ")
    assert (await exchange(strong, chat())).startswith(b"HTTP/1.1 200 ")


async def test_meant_for_another_persona(strong: StandIn) -> None:
    assert (await exchange(strong, chat(model="strong?status=503&on=tuned"))).startswith(b"HTTP/1.1 200 ")


async def test_every_nth(strong: StandIn) -> None:
    strong.every = (3, Behaviour.parse("status=500"))
    statuses = [(await exchange(strong, chat()))[9:12] for _ in range(6)]
    assert statuses == [b"200", b"200", b"500", b"200", b"200", b"500"]


async def test_a_fault_that_does_not_exist_is_an_error(strong: StandIn) -> None:
    status, _, body = parted(await exchange(strong, chat(model="strong?stal")))
    assert status.startswith("HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "unknown_fault"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
async def test_status(strong: StandIn, status: int) -> None:
    line, headers, body = await answered(strong, f"status={status}&retry-after=2&code=oh")
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert headers["retry-after"] == "2"
    assert json.loads(body)["error"]["code"] == "oh"
    assert strong.journal.last.bill["prompt_tokens"] == 0


@pytest.mark.parametrize(
    ("kind", "starts"),
    [("html", b"<html>"), ("empty", b""), ("garbage", b'{"error": {"mess\xff'), ("anthropic", b'{"type":"error"'),
     ("text", b"upstream"), ("array", b"[]")],
)  # fmt: skip
async def test_bodies_of_errors(strong: StandIn, kind: str, starts: bytes) -> None:
    _, headers, body = await answered(strong, f"status=502&body={kind}")
    assert body.startswith(starts)
    assert int(headers["content-length"]) == len(body)


async def test_reset_before_the_head(strong: StandIn) -> None:
    strong.then("reset")
    with pytest.raises(ConnectionResetError):
        await exchange(strong, chat())
    assert strong.journal.last.status is None
    assert strong.journal.last.ended == "fault: reset"


async def test_reset_after_the_head(strong: StandIn) -> None:
    strong.then("reset&after=head")
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        head = await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    assert b"event-stream" in head


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_cut_with_fin_after_k_events(strong: StandIn, after: int) -> None:
    _, _, body = await answered(strong, f"cut&after={after}&how=fin", stream=True)
    assert len(events(body)) == 1 + after  # the role comes first
    assert strong.journal.last.events_sent == after
    assert strong.journal.last.bill["completion_tokens"] == after


async def test_cut_with_rst_after_k_events(strong: StandIn) -> None:
    strong.then("cut&after=3&how=rst")
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
    assert strong.journal.last.events_sent == 3


async def test_cut_with_a_proper_end_of_the_body(strong: StandIn) -> None:
    strong.then("cut&after=2&how=end")
    answer = await exchange(strong, chat(stream=True))
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert b"[DONE]" not in answer


async def test_cut_in_a_json_body(strong: StandIn) -> None:
    _, headers, body = await answered(strong, "cut")
    assert 0 < len(body) < int(headers["content-length"])


@pytest.mark.parametrize(("after", "heads", "datas"), [("request", 0, 0), ("head", 1, 0), ("0", 1, 1), ("2", 1, 3)])
async def test_stall(strong: StandIn, after: str, heads: int, datas: int) -> None:
    """Everything before the stall arrives, then nothing until the peer leaves."""
    strong.then(f"stall&after={after}")
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        await strong.journal.until(lambda journal: bool(journal.entries))
        sent = strong.journal.last.bytes_sent
        got = await reader.readexactly(sent)
        assert (got.count(b"HTTP/1.1 200"), got.count(b"data: ")) == (heads, datas)
        assert strong.journal.last.ended is None
        writer.close()
        await strong.journal.until(lambda journal: journal.last.ended == "peer closed")


@pytest.mark.parametrize("kind", ["json", "array", "empty", "utf8", "shape"])
async def test_malformed_event(strong: StandIn, kind: str) -> None:
    """One bad event after the first content event; the others come."""
    _, _, body = await answered(strong, f"malformed&kind={kind}", stream=True)
    good = parted(await exchange(strong, chat(stream=True)))[2]
    assert body.count(b"data:") == good.count(b"data:") + 1
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("kind", ["json", "array", "empty", "utf8", "shape"])
async def test_malformed_json_is_well_framed(strong: StandIn, kind: str) -> None:
    _, headers, body = await answered(strong, f"malformed&kind={kind}")
    assert int(headers["content-length"]) == len(body)
    with pytest.raises((ValueError, KeyError, TypeError)):
        json.loads(body)["choices"][0]["message"]


async def test_error_event_first_and_later(strong: StandIn) -> None:
    _, _, body = await answered(strong, "error-event", stream=True)
    assert [event["error"]["type"] for event in events(body)] == ["server_error"]
    _, _, body = await answered(strong, "error-event&after=2&dialect=anthropic", stream=True)
    assert b"event: error\n" in body
    assert events(body)[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert len(events(body)) == 4


@pytest.mark.parametrize("stream", [True, False])
async def test_error_as_json_under_200(strong: StandIn, stream: bool) -> None:
    line, headers, body = await answered(strong, "error-json", stream=stream)
    assert line.startswith("HTTP/1.1 200")
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["type"] == "server_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_wrong_content_type(strong: StandIn, stream: bool) -> None:
    _, headers, body = await answered(strong, "wrong-type", stream=stream)
    assert headers["content-type"] == "text/html"
    assert b"chat.completion" in body


async def test_no_usage(strong: StandIn) -> None:
    assert "usage" not in json.loads((await answered(strong, "no-usage"))[2])
    _, _, body = await answered(strong, "no-usage", stream=True, stream_options={"include_usage": True})
    assert all(event.get("usage") is None for event in events(body)[:-1])
    assert events(body)[-1] == "[DONE]"
    assert strong.journal.last.bill["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("kind", "completion"), [("negative", -7), ("huge", 10**15), ("text", "12"), ("float", 12.5), ("null", None)]
)
async def test_odd_usage(strong: StandIn, kind: str, completion: object) -> None:
    body = json.loads((await answered(strong, f"usage&kind={kind}"))[2])
    assert body["usage"]["completion_tokens"] == completion


async def test_more_cached_than_sent(strong: StandIn) -> None:
    usage = json.loads((await answered(strong, "usage&kind=cached"))[2])["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"]


async def test_slow_comes_in_small_pieces(strong: StandIn) -> None:
    """20,000 bytes a second go out in twentieths of a second: no read finds more than one piece of 1,000."""
    strong.then("slow&rate=20000")
    pieces = []
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        while piece := await reader.read(2**20):
            pieces.append(piece)
    assert len(b"".join(pieces)) / 1000 <= len(pieces)
    assert b"[DONE]" in pieces[-1] or b"[DONE]" in b"".join(pieces[-5:])


async def test_pings_for_ever_and_for_a_while(strong: StandIn) -> None:
    strong.then("pings&every=0.001")
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        for _ in range(3):
            await reader.readuntil(b": ping\n\n")
    _, _, body = await answered(strong, "pings&every=0.001&count=3", stream=True)
    assert body.startswith(b": ping\n\n" * 3)
    assert said(events(body)) == CONTENT


async def test_bytewise_comes_in_many_segments(strong: StandIn) -> None:
    strong.then("bytewise")
    reads = 0
    async with connected(strong) as (reader, writer):
        writer.write(chat(stream=True))
        got = b""
        while piece := await reader.read(2**20):
            got += piece
            reads += 1
    assert got.endswith(b"0\r\n\r\n")
    assert reads > 100


async def test_crlf(strong: StandIn) -> None:
    _, _, body = await answered(strong, "crlf", stream=True)
    assert b"\r\n\r\ndata: " in body
    assert body.count(b"\n") == body.count(b"\r\n")


async def test_joined_is_one_chunk(strong: StandIn) -> None:
    strong.then("joined")
    _, _, body = (await exchange(strong, chat(stream=True))).partition(b"\r\n\r\n")
    size = int(body.split(b"\r\n")[0], 16)
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert size == len(body) - len(b"%x\r\n" % size) - len(b"\r\n0\r\n\r\n")


async def test_huge_line(strong: StandIn) -> None:
    _, _, body = await answered(strong, "huge-line&size=100000", stream=True)
    assert max(len(line) for line in body.split(b"\n")) > 100_000
    assert said(events(body)).endswith(CONTENT)


async def test_truncated_json_is_well_framed(strong: StandIn) -> None:
    _, headers, body = await answered(strong, "truncated")
    assert int(headers["content-length"]) == len(body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_gzip(strong: StandIn) -> None:
    _, headers, body = await answered(strong, "gzip")
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["choices"][0]["message"]["content"] == CONTENT
    _, _, body = await answered(strong, "gzip", stream=True)
    assert said(events(zlib.decompress(body, wbits=31))) == CONTENT


async def test_idle_close_without_a_word(strong: StandIn) -> None:
    strong.then("idle-close&ms=1")
    answer = await exchange(strong, chat(close=False))
    assert b"connection: close" not in answer
    assert answer.startswith(b"HTTP/1.1 200")


async def test_idle_close_for_every_connection() -> None:
    async with StandIn("strong", keep_alive=0.001) as standin:
        assert (await exchange(standin, chat(close=False))).startswith(b"HTTP/1.1 200")


async def test_close_says_so(strong: StandIn) -> None:
    strong.then("close")
    assert b"connection: close" in await exchange(strong, chat(close=False))


async def test_no_done_and_no_finish(strong: StandIn) -> None:
    _, _, body = await answered(strong, "no-done", stream=True)
    assert events(body)[-1]["choices"][0]["finish_reason"] == "stop"
    _, _, body = await answered(strong, "no-finish", stream=True)
    assert events(body)[-1] == "[DONE]"
    assert all(event["choices"][0]["finish_reason"] is None for event in events(body)[:-1])


async def test_extra_bytes(strong: StandIn) -> None:
    strong.then("extra-bytes")
    assert (await exchange(strong, chat())).endswith(b"extra")


async def test_bad_chunk(strong: StandIn) -> None:
    strong.then("bad-chunk")
    assert b"\r\nzz\r\n" in await exchange(strong, chat(stream=True))


async def test_huge_header(strong: StandIn) -> None:
    _, headers, _ = await answered(strong, "huge-header&size=70000")
    assert len(headers["x-huge"]) == 70_000


async def test_refused_then_accepted_again(strong: StandIn) -> None:
    strong.then("refuse&seconds=60")
    with pytest.raises(ConnectionResetError):
        await exchange(strong, chat())
    await asyncio.sleep(0)  # the listener closes on the loop's next turn
    with pytest.raises(ConnectionRefusedError):
        await exchange(strong, chat())
    await strong.start()
    assert (await exchange(strong, chat())).startswith(b"HTTP/1.1 200")


async def test_refused_for_a_while(strong: StandIn) -> None:
    strong.refuse(0.001)
    port = strong.port
    while True:
        try:
            answer = await exchange(strong, chat(messages=TASK))
        except ConnectionRefusedError:
            continue
        break
    assert answer.startswith(b"HTTP/1.1 200")
    assert strong.port == port


def test_every_fault_is_tested_here() -> None:
    source = Path(__file__).read_text()
    assert [name for name in FAULTS if f'"{name}' not in source] == []
