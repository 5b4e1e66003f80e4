"""The real LiteLLM against a fake Anthropic at its HTTP edge: real sockets, JSON and events, errors, hang-ups.

One loop and one worker: importing LiteLLM takes seconds.
"""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.upstreams import litellm_client
from proxy.upstreams.base import Call, Failed, Target
from proxy.upstreams.classify import classify
from proxy.upstreams.litellm_client import LiteLLMUpstream
from proxy.upstreams.redact import secrets_of
from tests.harness import ROOT
from tests.proxy.upstreams.conftest import Serve, read_all, soon
from tests.proxy.upstreams.rawserver import Peer, RawServer, Script, always, answer, once

pytestmark = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),
    pytest.mark.filterwarnings("default"),  # LiteLLM's own warnings are not ours to mend
]

USAGE = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7, "output_tokens": 5}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5-20261001",
    "content": [{"type": "text", "text": "Hello there"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
HEAD = b"content-type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BODY: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 50,
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


START = event("message_start", message={**MESSAGE, "content": [], "stop_reason": None}) + event(
    "content_block_start", index=0, content_block={"type": "text", "text": ""}
)
END = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 5})
    + event("message_stop")
)


def refuse(status: bytes, kind: str, message: str, headers: bytes = b"") -> Script:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    return once(answer(body, status, HEAD + headers))


def target(server: RawServer, provider: str = "anthropic", **options: Any) -> Target:
    settings = {
        "provider": provider,
        "api_key": "key-of-the-vendor",
        "api_base": f"http://127.0.0.1:{server.port}",
    }
    return Target("haiku", "", client="litellm", provider=settings, **options)


@pytest.fixture
async def upstream(serve: Serve) -> AsyncIterator[Callable[..., LiteLLMUpstream]]:
    made: list[LiteLLMUpstream] = []

    def make(server: RawServer, **options: Any) -> LiteLLMUpstream:
        made.append(LiteLLMUpstream(target(server, **options)))
        return made[-1]

    yield make
    for client in made:
        await client.close()
    litellm = litellm_client.load()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


def call(**changes: Any) -> Call:
    return Call(b"/chat/completions", json.dumps({**BODY, **changes}).encode(), stream=bool(changes.get("stream")))


Make = Callable[..., LiteLLMUpstream]


async def test_json_becomes_openais(serve: Serve, upstream: Make) -> None:
    """What the vendor gets is its own dialect and key; what comes back has OpenAI's shape, cached tokens included."""
    got: list[Any] = []

    async def script(peer: Peer) -> None:
        got.append(json.loads(await peer.request() or b"null"))
        await peer.write(answer(json.dumps(MESSAGE).encode(), headers=HEAD))

    server = await serve(script)
    reply = await upstream(server, headers=((b"x-team", b"search"),)).send(call(logit_bias={"1": 1}), soon())
    found = json.loads(await read_all(reply))
    reply.close()
    assert (reply.status, reply.headers[b"content-type"]) == (200, b"application/json")
    choice = found["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello there", "stop")
    assert found["object"] == "chat.completion"
    assert found["model"] == MESSAGE["model"]
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (117, 5)
    assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == 100
    head = server.heads[0].lower()
    assert head.startswith(b"post /v1/messages ")
    assert b"x-api-key: key-of-the-vendor\r\n" in head
    assert b"x-team: search\r\n" in head
    assert got[0]["model"] == "claude-haiku-5-5"
    assert got[0]["system"] == [{"type": "text", "text": "Be kind."}]
    assert "logit_bias" not in got[0]


async def test_a_callers_body_cannot_reach_litellms_own_arguments(serve: Serve, upstream: Make) -> None:
    server = await serve(once(answer(json.dumps(MESSAGE).encode(), headers=HEAD)))
    evil = {"api_base": "http://127.0.0.1:1", "mock_response": "no", "extra_headers": {"x-evil": "1"}, "api_key": "k"}
    reply = await upstream(server).send(call(**evil), soon())
    assert json.loads(await read_all(reply))["choices"][0]["message"]["content"] == "Hello there"
    reply.close()
    assert b"evil" not in server.heads[0]


async def test_events_become_openais(serve: Serve, upstream: Make) -> None:
    server = await serve(once(STREAM, START, text("Hello "), text("there"), END))
    reply = await upstream(server).send(call(stream=True, stream_options={"include_usage": True}), soon())
    events = (await read_all(reply)).decode().split("\n\n")
    reply.close()
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in events[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(deltas) == "Hello there"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]].count("stop") == 1
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (117, 5)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 100
    assert "cost" not in usage


@pytest.mark.parametrize(
    ("script", "kind", "wait"),
    [
        (refuse(b"429 Slow", "rate_limit_error", "slow down", b"retry-after: 7\r\n"), "rate_limited", 7.0),
        (refuse(b"529 Overloaded", "overloaded_error", "Overloaded"), "upstream_5xx", None),
        (refuse(b"500 Oops", "api_error", "oops"), "upstream_5xx", None),
        (refuse(b"401 Who", "authentication_error", "bad key key-of-the-vendor"), "auth", None),
        (refuse(b"404 Not", "not_found_error", "model: claude-haiku-5-5"), "request", None),
        (
            refuse(b"400 Bad", "invalid_request_error", "prompt is too long: 9 tokens > 8"),
            "context_length",
            None,
        ),
        (refuse(b"400 Bad", "invalid_request_error", "max_tokens: too small"), "request", None),
    ],
)
async def test_errors_are_classified_as_http_ones(
    serve: Serve, upstream: Make, script: Script, kind: str, wait: float | None
) -> None:
    server = await serve(script)
    client = upstream(server)
    reply = await client.send(call(), soon())
    body = await read_all(reply)
    reply.close()
    failed = classify(reply.status, reply.headers, body, model="haiku", secrets=secrets_of(target(server)))
    assert (failed.failure, failed.retry_after) == (kind, wait)
    assert "key-of-the-vendor" not in failed.message
    assert len(server.heads) == 1  # retries are the driver's
    if kind == "request":
        assert failed.message in ("max_tokens: too small", "model: claude-haiku-5-5")


async def test_nobody_there(upstream: Make) -> None:
    server = RawServer(once())
    async with server.running():
        pass
    with pytest.raises(Failed) as caught:
        await upstream(server).send(call(), soon())
    assert caught.value.failure == "connect"


async def test_no_answer_in_time(serve: Serve, upstream: Make) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()
        gone.set()

    with pytest.raises(Failed) as caught:
        await upstream(await serve(script)).send(call(), soon(0.3))
    assert (caught.value.failure, caught.value.phase) == ("timeout", "first_content")
    async with asyncio.timeout(1):
        await gone.wait()


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_hanging_up_reaches_the_vendor(serve: Serve, upstream: Make, how: str) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(STREAM + START + text("one ") + text("two "))
        await peer.gone()
        gone.set()

    client = upstream(await serve(script), max_connections=1)
    reply = await client.send(call(stream=True), soon())
    assert b"one " in await reply.read(soon())
    if how == "cancel":
        reading = asyncio.get_running_loop().create_task(reply.read(soon(60)))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait((reading,))
    reply.close()
    async with asyncio.timeout(1):
        await gone.wait()


async def test_a_stream_that_breaks_off(serve: Serve, upstream: Make) -> None:
    """Never a clean end: no `[DONE]` after half an answer."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for data in (START, text("one "), text("two ")):
            await peer.write(b"%x\r\n%b\r\n" % (len(data), data))

    reply = await upstream(await serve(script)).send(call(stream=True), soon())
    got: list[bytes] = []
    with pytest.raises(Failed) as caught:
        await read_all(reply, got)
    reply.close()
    assert caught.value.failure == "bad_answer"
    assert b"DONE" not in b"".join(got)


async def test_other_apis_are_refused(serve: Serve, upstream: Make) -> None:
    server = await serve(once())
    with pytest.raises(Failed) as caught:
        await upstream(server).send(Call(b"/responses", b"{}"), soon())
    assert caught.value.failure == "request"


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
@pytest.mark.parametrize("status", [b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_redirect_takes_no_key_elsewhere(
    serve: Serve, upstream: Make, provider: str, status: bytes, stream: bool
) -> None:
    """httpx, which LiteLLM follows redirects with, takes `authorization` off for another origin, not `x-api-key`."""
    other = await serve(once(answer(json.dumps(MESSAGE).encode(), headers=HEAD)))
    location = b"location: http://127.0.0.1:%d/caught\r\n" % other.port
    server = await serve(once(answer(b"", status, HEAD + location)))
    said = ""
    with contextlib.suppress(Failed):  # LiteLLM calls it a connection error for some vendors
        reply = await upstream(server, provider=provider).send(call(stream=stream), soon())
        said = (await read_all(reply)).decode()
        reply.close()
        assert reply.status == int(status[:3])
    assert server.connections == 1
    assert other.connections == 0
    assert str(other.port) not in said


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
async def test_a_vendors_cookie_is_not_kept(serve: Serve, upstream: Make, provider: str) -> None:
    """The client is shared by all callers."""
    server = await serve(always(answer(json.dumps(MESSAGE).encode(), headers=HEAD + b"set-cookie: a=b; Path=/\r\n")))
    client = upstream(server, provider=provider)
    for _ in range(3):
        reply = await client.send(call(), soon())
        await read_all(reply)
        reply.close()
    assert len(server.heads) == 3
    assert not [head for head in server.heads if b"cookie" in head.lower()]


@pytest.mark.parametrize("off", ["False", "false", "0"])
async def test_the_environment_does_not_turn_verification_off(monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    monkeypatch.setenv("SSL_VERIFY", off)
    litellm_client.load()
    from litellm.llms.custom_httpx.http_handler import get_ssl_configuration

    assert get_ssl_configuration().verify_mode is ssl.CERT_REQUIRED


def test_a_dotenv_file_decides_nothing(tmp_path: Path) -> None:
    """LiteLLM would read one in the folder it is started in, or above: keys and addresses come from the config."""
    (tmp_path / ".env").write_text("FROM_A_FILE=1\n")
    code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); "
    code += "from proxy.upstreams import litellm_client; litellm_client.load()"
    env = {**os.environ, "LITELLM_MODE": "DEV"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(os.environ.get('FROM_A_FILE'))"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "ollama", "openai"])
async def test_what_a_caller_names_is_not_fetched(
    serve: Serve, upstream: Make, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """Some vendors take no addresses of images: LiteLLM would fetch them from here. Also without its own guard."""
    monkeypatch.setattr(litellm_client.load(), "user_url_validation", False)
    canary = await serve(always(answer(b"\x89PNG", headers=b"content-type: image/png\r\n")))
    server = await serve(always(answer(json.dumps(MESSAGE).encode(), headers=HEAD)))
    client = upstream(server, provider=provider)
    url = f"http://127.0.0.1:{canary.port}/x.png"
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "file", "file": {"file_id": url}},
        {"type": "image", "source": {"type": "url", "url": url}},
    ]
    for part in parts:
        with contextlib.suppress(Failed):
            reply = await client.send(call(messages=[{"role": "user", "content": [part]}]), soon())
            await read_all(reply)
            reply.close()
    assert canary.connections == 0
