"""Stopping: announced, drained, cut at the limit with a word, and at once on a second signal; one worker or two."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import psutil
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.callers import HELLO, Load, ask, body, get, late, paced, streams
from tests.proxy.raw import Raw, post

CONFIG = """
version: 1
server: {SERVER}
upstreams:
  tuned: {base_url: "TUNED"}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
policies:
  p: {baseline: tuned, routes: {tuned: {model: tuned}}, default: tuned}
"""

ONE = pytest.mark.parametrize("start", [1], indirect=True)  # where several add nothing
TWO = pytest.mark.parametrize("start", [2], indirect=True)

Start = Callable[[str], AbstractContextManager[Proxy]]


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture(params=[1, 2], ids=["1 worker", "2 workers"])
def start(request: pytest.FixtureRequest, tuned: StandIn) -> Start:
    """Start a proxy with these `server` settings."""

    def started(server: str) -> AbstractContextManager[Proxy]:
        config = CONFIG.replace("TUNED", tuned.base_url).replace("SERVER", server)
        return Proxy(config, args=(f"--workers={request.param}",))

    return started


async def ended(proxy: Proxy) -> int:
    assert proxy.process is not None
    return await asyncio.to_thread(proxy.process.wait, 30)


def wait_until_unready(url: str) -> None:
    for _ in until(10, f"{url} to be not ready"):
        if get(f"{url}/readyz").status_code == 503:
            return


def wait_until_closed(proxy: Proxy) -> None:
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    for _ in until(10, "the listener to be closed"):
        with socket.socket() as sock:
            if sock.connect_ex((host, int(port))):
                return


async def test_stop_is_announced_then_drained(start: Start) -> None:
    """Not ready on both listeners while still accepting; then closed; what runs finishes; exit 0."""
    with start("announce: 2s, drain: 30s") as proxy:
        async with streams(proxy, 4, paced(250)) as running:
            proxy.signal(signal.SIGTERM)
            for url in (proxy.url, proxy.admin):
                await asyncio.to_thread(wait_until_unready, url)
                assert (await asyncio.to_thread(get, f"{url}/healthz")).status_code == 200
            assert (await asyncio.to_thread(ask, proxy)).status_code == 200, "still accepting"
            await asyncio.to_thread(wait_until_closed, proxy)
            assert not any(stream.is_whole for stream in running), "the listener closed before the streams ended"
            for stream in running:
                await stream.ended()
                assert stream.is_whole
        assert await ended(proxy) == 0


@ONE
async def test_sigint_does_not_announce(start: Start) -> None:
    with start("announce: 10m, drain: 30s") as proxy:
        proxy.signal(signal.SIGINT)
        await asyncio.to_thread(wait_until_closed, proxy)
        assert await ended(proxy) == 0


@TWO
async def test_fifty_streams_live_to_their_end(start: Start) -> None:
    with start("drain: 30s") as proxy:
        async with streams(proxy, 50, paced(100)) as running:
            proxy.signal(signal.SIGTERM)
            for stream in running:
                await stream.ended()
            assert sum(stream.is_whole for stream in running) == 50
        assert await ended(proxy) == 0
        assert {line["outcome"] for line in proxy.requests(50)} == {"ok"}


async def test_past_the_limit_streams_end_with_a_word(start: Start) -> None:
    """The contract's error event, no [DONE], a proper end of the body; all of them are in the log."""
    with start("drain: 500ms") as proxy:
        async with streams(proxy, 10, paced(10_000)) as running:
            proxy.signal(signal.SIGTERM)
            for stream in running:
                await stream.ended()
                assert stream.error is None, "the body ends properly"
                last = stream.last
                assert last["object"] == "chat.completion.chunk"
                assert last["id"].startswith("chatcmpl-")
                assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "error"}]
                assert last["error"]["code"] == "server_shutting_down"
                assert last["error"]["type"] == "server_error"
        assert await ended(proxy) == 0
        lines = proxy.requests(10)
        assert {(line["outcome"], line["error"]) for line in lines} == {("cancelled", "server_shutting_down")}
        assert all(line["tokens"]["output"] > 0 for line in lines), "what was used is booked"
        assert all(line["baseline_usd"] > 0 for line in lines), "and what it would have cost"


@TWO
async def test_past_the_limit_waiting_requests_are_503(start: Start) -> None:
    with start("drain: 500ms") as proxy:
        waiting = asyncio.get_running_loop().create_task(asyncio.to_thread(ask, proxy, late(60)))
        for _ in until(10, "the request to be in flight"):
            if await asyncio.to_thread(proxy.metric, "pointsman_inflight_requests") == 1:
                break
        proxy.signal(signal.SIGTERM)
        answer = await waiting
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "server_shutting_down"
        assert answer.headers["retry-after"]
        assert answer.headers["connection"] == "close"
        assert await ended(proxy) == 0
        assert [line["status"] for line in proxy.requests(1)] == [503]


@ONE
async def test_a_client_that_does_not_read_holds_nobody_up(start: Start) -> None:
    with start("drain: 300ms") as proxy, socket.socket() as sock:
        host, _, port = proxy.url.removeprefix("http://").partition(":")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        client = httpx.Client()
        request = client.build_request("POST", f"{proxy.base_url}/chat/completions", json=body(paced(200_000, 1e-6)))
        payload = request.content.replace(b'"messages"', b'"stream":true,"messages"')
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(payload), payload)
        )
        for _ in until(10, "the request to be in flight"):
            if await asyncio.to_thread(proxy.metric, "pointsman_inflight_requests") == 1:
                break
        proxy.signal(signal.SIGTERM)
        assert await ended(proxy) == 0


async def test_a_second_signal_cuts_what_runs(start: Start) -> None:
    """Neither the announcement nor the drain is waited for; streams get their last word, and all is booked."""
    with start("announce: 10m, drain: 10m") as proxy:
        async with streams(proxy, 2, paced(10_000)) as running:
            proxy.signal(signal.SIGTERM)
            await asyncio.to_thread(wait_until_unready, proxy.admin)
            proxy.signal(signal.SIGTERM)
            for stream in running:
                await stream.ended()
                assert stream.error is None
                assert stream.last["error"]["code"] == "server_shutting_down"
            assert await ended(proxy) == 1
        assert "second signal" in proxy.text
        lines = proxy.requests(2)
        assert all(line["outcome"] == "cancelled" and line["tokens"]["output"] > 0 for line in lines)


@ONE
async def test_kept_connections_are_closed_politely(start: Start) -> None:
    """A request that comes on an idle connection while the server stops is answered, and told it is the last."""
    with start("drain: 5s") as proxy, httpx.Client() as client:
        url = f"{proxy.base_url}/chat/completions"
        assert "connection" not in client.post(url, json=body()).headers
        proxy.signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until_closed, proxy)
        answer = await asyncio.to_thread(client.post, url, json=body())
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert await ended(proxy) == 0


async def test_stopping_under_load_fails_no_request_that_was_taken(start: Start) -> None:
    """Callers see answers, then refused connections; never a broken answer."""
    with start("announce: 200ms, drain: 10s") as proxy:
        load = Load(proxy, 6)
        async with load:
            await load.more(50)
            proxy.signal(signal.SIGTERM)
            assert await ended(proxy) == 0
        failures = {what for what in load.seen if what != "200"}
        assert all("ConnectError" in what for what in failures), failures


async def test_who_has_connected_before_the_stop_is_answered(start: Start) -> None:
    """Also where the workers are held up, and hear of the stop and of the callers at the same time."""
    request = post(json.dumps(body()).encode())
    with start("announce: 0s, drain: 10s") as proxy:
        supervisor = psutil.Process(proxy.pid)
        everyone = (*supervisor.children(), supervisor)
        with contextlib.ExitStack() as callers:
            for process in everyone:
                callers.callback(process.resume)
                process.suspend()
            asking = [callers.enter_context(Raw(proxy.url)).send(request) for _ in range(40)]
            proxy.signal(signal.SIGTERM)
            for process in everyone:
                process.resume()
            for caller in asking:
                assert caller.answer().status == 200
        assert await ended(proxy) == 0


def test_a_stop_while_starting_exits_0(tuned: StandIn) -> None:
    """The admin listener says that it starts; no worker is up yet."""
    config = CONFIG.replace("TUNED", tuned.base_url).replace("SERVER", "drain: 5s")
    with Proxy(config, args=("--workers=2",), wait_until_ready=False) as proxy:
        assert get(f"{proxy.admin}/readyz").json() == {"status": "starting"}
        assert proxy.stop() == 0
        assert '"ready"' not in proxy.text
        assert "Traceback" not in proxy.text


@TWO
def test_a_stopped_proxy_leaves_nothing_behind(start: Start) -> None:
    with start("drain: 5s") as proxy:
        ask(proxy, HELLO)
        assert proxy.stop() == 0
        assert "Traceback" not in proxy.text
        assert "defect" not in proxy.text
        assert "never" not in proxy.text, "no coroutine or exception was forgotten"
