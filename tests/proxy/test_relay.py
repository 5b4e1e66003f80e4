"""With what body an endpoint is asked, and for how long a caller may take nothing. Attempts are in `test_chat`
and `test_pools`."""

import asyncio
import json
import signal
import socket
from typing import Any

import httpx
import orjson
import pytest

from proxy.errors import BadRequest
from proxy.relay import encoded
from proxy.runtime import Endpoint
from proxy.standins.standin import StandIn
from proxy.upstreams.base import Target
from routes.params import DIALECTS, Params
from tests.harness import Proxy
from tests.proxy.callers import body
from tests.proxy.upstreams.rawserver import Peer, RawServer


def chunk(text: str, finish: str | None = None) -> bytes:
    """An event of a model's stream."""
    choice = {"index": 0, "delta": {"content": text} if finish is None else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


TARGET = Target("a", "http://127.0.0.1:1")


def endpoint(name: str, weight: float = 1.0, *dialect: Params) -> Endpoint:
    return Endpoint(TARGET, name, weight, dialect)


def test_the_body_has_the_endpoints_model_and_dialect() -> None:
    body = {"messages": [], "max_tokens": 5, "temperature": 0.5}
    sent = orjson.loads(encoded(dict(body), endpoint("gpt-x", 1.0, DIALECTS["openai"])))
    assert sent == {"messages": [], "max_completion_tokens": 5, "temperature": 0.5, "model": "gpt-x"}
    assert orjson.loads(encoded(dict(body), endpoint("gpt-x"))) == {**body, "model": "gpt-x"}


@pytest.mark.parametrize("value", [2**65, "\ud800"])
def test_what_json_cannot_say_is_the_callers_fault(value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        encoded({"messages": [], "x": value}, endpoint("m"))
    assert refused.value.code == "invalid_json"


def test_a_caller_who_takes_nothing_is_given_up() -> None:
    """After the route's `client`, not the listener's own minute; the model is told to stop."""
    with StandIn() as standin:
        config = f"""
version: 1
timeouts: {{client: 1s}}
models: {{m: {{base_url: "{standin.base_url}", price: {{input: 1, output: 1}}}}}}
policies: {{p: {{routes: {{r: {{model: m, timeouts: {{client: 300ms}}}}}}, default: r}}}}
"""
        with Proxy(config) as proxy, socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", int(proxy.url.rpartition(":")[2])))
            data = json.dumps(body("[[fault tokens=60000]]", stream=True)).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
            caller.sendall(f"{head}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
            (line,) = proxy.requests(1)
            assert (line["outcome"], line["status"]) == ("cancelled", 499)
            assert line["ms"] >= 300
            assert standin.journal[0].ended != "complete"


def test_comments_without_a_pause_put_nothing_off() -> None:
    """Something can be read at any time, and never any content."""
    with StandIn() as standin:
        config = f"""
version: 1
timeouts: {{first_content: 300ms}}
models: {{m: {{base_url: "{standin.base_url}", price: {{input: 1, output: 1}}}}}}
policies: {{p: {{routes: {{r: {{model: m}}}}, default: r}}}}
"""
        with Proxy(config) as proxy:
            answer = httpx.post(
                f"{proxy.base_url}/chat/completions", json=body("[[fault pings every=0]]", stream=True)
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
            assert "first_content" in answer.json()["error"]["message"]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STOP, DONE, BAD = chunk("", "stop"), b"data: [DONE]\n\n", b"data: {\n\n"


def piece(*events: bytes) -> bytes:
    data = b"".join(events)
    return b"%x\r\n%b\r\n" % (len(data), data)


def config(model: RawServer, more: str = "") -> str:
    return f"""
version: 1
server: {{announce: 0s, drain: 0s}}
retries: {{pause: 0s}}
models: {{m: {{base_url: "{model.url}", price: {{input: 1, output: 1}}{more}}}}}
policies: {{p: {{model: m}}}}
"""


async def told(*pieces: bytes) -> tuple[int, bytes, bytes]:
    """What a caller is told of these: status, first part, and the rest. All but the first come once that was read."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(HEAD + pieces[0])
        await go_on.wait()
        for each in pieces[1:]:
            await peer.write(each)
        await peer.gone()

    async with RawServer(script).running() as model, httpx.AsyncClient() as client:
        with Proxy(config(model)) as proxy:
            asked: dict[str, Any] = {"url": f"{proxy.base_url}/chat/completions", "json": body("", stream=True)}
            async with client.stream("POST", **asked) as answer:
                parts = answer.aiter_raw()
                first = await anext(parts)
                go_on.set()
                return answer.status_code, first, b"".join([part async for part in parts])


async def test_content_that_comes_with_an_error_goes_out_before_it() -> None:
    """In one read; the first content came before, so that no other answer is possible."""
    error = b'data: {"error":{"message":"overloaded"}}\n\n'
    status, first, rest = await told(piece(chunk("so")), piece(chunk(" far"), error))
    assert (status, first) == (200, chunk("so"))
    assert rest.startswith(chunk(" far"))
    assert b'"error":{"message"' in rest
    assert DONE not in rest


async def test_content_that_comes_with_malformed_events_behind_the_end_goes_out() -> None:
    """The answer is whole, whatever the model says after it."""
    status, first, rest = await told(piece(chunk("so")), piece(chunk(" far"), STOP, BAD, BAD))
    assert (status, first, rest) == (200, chunk("so"), chunk(" far") + STOP + DONE)


async def test_all_that_comes_with_malformed_events_at_once_is_no_answer() -> None:
    """Nothing of it has gone out: another may answer."""
    status, first, _ = await told(piece(chunk("so"), STOP, BAD, BAD))
    assert status == 502
    assert json.loads(first)["error"]["code"] == "upstream_bad_answer"


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("more", ["", ", bills_after_disconnect: true"])
async def test_a_stop_after_done_is_no_cut(more: str, signals: int) -> None:
    """The caller has it all; only the model server has not ended its body yet, and is waited for a little."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(HEAD + piece(chunk("so"), STOP, DONE))
        await peer.gone()

    async with RawServer(script).running() as model, httpx.AsyncClient() as client:
        with Proxy(config(model, more)) as proxy:
            asked: dict[str, Any] = {"url": f"{proxy.base_url}/chat/completions", "json": body("", stream=True)}
            async with client.stream("POST", **asked) as answer:
                assert b"".join([part async for part in answer.aiter_raw()]).endswith(DONE)
                for _ in range(signals):
                    proxy.signal(signal.SIGTERM)
            (line,) = await asyncio.to_thread(proxy.requests, 1)  # it is in the books, and whole
    assert (line["outcome"], line["status"]) == ("ok", 200)
    assert [each["result"] for each in line["attempts"]] == ["ok"]
