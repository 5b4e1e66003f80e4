"""What an upstream may do wrong that the stand-ins cannot, and what a client may do that a library never would."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from proxy import listener, server
from proxy.bodies import Bodies
from proxy.exchange import Exchange
from proxy.listener import Listener, bind, ours
from proxy.outbox import Outbox
from proxy.runtime import Limits
from proxy.tasks import Tasks
from tests.harness import Proxy
from tests.proxy.upstreams.rawserver import Peer, RawServer, answer

CONFIG = """
version: 1
timeouts: {{first_content: 5s, idle: 500ms, total: 10s}}
models:
  m: {{base_url: "{url}", price: {{input: 1, output: 10}}}}
policies:
  p: {{routes: {{m: {{model: m}}}}, default: m}}
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
COST = 0.0002  # of that usage
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, str] | None, finish: str | None = None, **more: Any) -> bytes:
    """One event; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": choices, **more}).encode() + b"\n\n"


HELLO = event({"content": "Hello"})
STOP = event({}, "stop")
COUNTED = event(None, usage=USAGE)
WHOLE = HELLO + STOP + COUNTED + DONE


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Model:
    """An upstream that answers each request with the same writes, and closes when they end with `None`."""

    def __init__(self) -> None:
        self.writes: list[bytes | None] = []
        self.drips: bytes | None = None  # sent ten times a second after the writes, until the client closes

    async def serve(self, peer: Peer) -> None:
        while await peer.request() is not None:
            for data in self.writes:
                if data is None:
                    return
                await peer.write(data)
            gone = asyncio.get_running_loop().create_task(peer.gone()) if self.drips is not None else None
            while gone is not None and not gone.done():
                await peer.write(self.drips or b"")
                await asyncio.wait((gone,), timeout=0.1)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Model, str]]:
    model, ready, loop = Model(), threading.Event(), asyncio.new_event_loop()
    raw, stop = RawServer(model.serve), asyncio.Event()

    async def run() -> None:
        async with raw.running():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    yield model, raw.url
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def proxy(served: tuple[Model, str]) -> Iterator[Proxy]:
    with Proxy(CONFIG.format(url=served[1])) as running:
        yield running
        assert "Traceback" not in running.text
        assert running.metric("pointsman_inflight_requests") == 0


@pytest.fixture
def model(served: tuple[Model, str]) -> Iterator[Model]:
    yield served[0]
    served[0].drips = None


def ask(proxy: Proxy, model: Model, *writes: bytes | None, stream: bool = False) -> httpx.Response:
    model.writes = list(writes)
    body = {"model": "p", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return httpx.post(f"{proxy.base_url}/chat/completions", json=body, timeout=30)


def booked(proxy: Proxy, found: httpx.Response) -> dict[str, Any]:
    """The request's line in the access log."""
    return proxy.wait_for_log(found.headers["x-request-id"])


# --- errors


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no", "code": "\ud800", "type": "\udfff", "param": "a\ud800"},
        {"message": "no", "code": "a\r\nx-evil: 1\x1b[2J", "type": "\x00"},
        {"message": "no", "code": "c" * 50_000, "type": "t" * 50_000, "param": "p" * 50_000},
    ],
    ids=["surrogates", "control", "long"],
)
def test_the_words_of_an_upstreams_error_are_made_fit(proxy: Proxy, model: Model, error: dict[str, str]) -> None:
    """Its code goes into the access log, too."""
    found = ask(proxy, model, answer(json.dumps({"error": error}).encode(), b"400 Bad Request"))
    assert found.status_code == 400
    said = found.json()["error"]
    assert said["message"] == "no"
    for field in ("type", "param", "code"):
        assert said[field] is None or (len(said[field]) <= 300 and "\r" not in said[field])


@pytest.mark.parametrize("code", ["²", "4²0", "9" * 5000, "", "-400", "599.0"])
def test_a_code_that_is_no_status_is_not_read_as_one(proxy: Proxy, model: Model, code: str) -> None:
    found = ask(proxy, model, answer(json.dumps({"error": {"message": "no", "code": code}}).encode()))
    assert found.status_code == 502
    assert found.json()["error"]["code"] == "upstream_5xx"


@pytest.mark.parametrize(
    ("status", "code"),
    [("400", None), ("401", "upstream_auth"), ("429", "upstream_rate_limited"), ("503", "upstream_5xx")],
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["large", "cut"])
def test_an_errors_class_is_its_statuss(
    proxy: Proxy, model: Model, status: str, code: str | None, stream: bool, kind: str
) -> None:
    """However much the server says, and even if it breaks off."""
    whole = answer(b"x" * 2_000_000, status.encode() + b" X", b"retry-after: 7\r\n")
    writes = (whole,) if kind == "large" else (whole[:200], None)
    found = ask(proxy, model, *writes, stream=stream)
    assert found.json()["error"]["code"] == code
    assert found.headers.get("retry-after") == ("7" if status == "429" else None)
    assert len(found.content) < 5000


# --- streams


@pytest.mark.parametrize("after", [HELLO + DONE, b'data: {"error": {"message": "late"}}\n\n', b"data: x\n\n" * 3])
def test_nothing_counts_after_done(proxy: Proxy, model: Model, after: bytes) -> None:
    """Also in the same piece as [DONE], and as the whole answer."""
    found = ask(proxy, model, HEAD, chunk(HELLO + STOP + DONE + after), END, stream=True)
    assert found.content == HELLO + STOP + DONE


def test_who_sends_on_after_done_holds_nothing_up(proxy: Proxy, model: Model) -> None:
    """The request is booked and its connection given up, whatever still drips."""
    model.drips = chunk(b": more\n\n")
    found = ask(proxy, model, HEAD + chunk(WHOLE), stream=True)
    assert found.text.endswith("data: [DONE]\n\n")
    assert booked(proxy, found)["outcome"] == "ok"


def test_a_byte_order_mark_hides_no_event(proxy: Proxy, model: Model) -> None:
    found = ask(proxy, model, HEAD, chunk(b"\xef\xbb\xbf" + HELLO), chunk(STOP + DONE), END, stream=True)
    assert found.content == HELLO + STOP + DONE


@pytest.mark.parametrize("choices", [{}, {"choices": None}])
def test_usage_without_choices_is_booked(proxy: Proxy, model: Model, choices: dict[str, None]) -> None:
    """Go writes an empty list as null."""
    counted = b"data: " + json.dumps({"usage": USAGE, **choices}).encode() + b"\n\n"
    found = ask(proxy, model, HEAD, chunk(HELLO + STOP), chunk(counted + DONE), END, stream=True)
    assert found.content == HELLO + STOP + DONE
    assert booked(proxy, found)["cost_usd"] == COST


@pytest.mark.parametrize("how", ["cut", "stalled"])
def test_what_breaks_off_after_the_last_finish_reason_is_whole(proxy: Proxy, model: Model, how: str) -> None:
    model.drips = None if how == "cut" else b""
    found = ask(proxy, model, HEAD, chunk(HELLO), chunk(STOP + COUNTED), None if how == "cut" else b"", stream=True)
    assert found.content == HELLO + STOP + DONE
    line = booked(proxy, found)
    assert (line["outcome"], line["cost_usd"]) == ("ok", COST)


# --- clients that do not read


class Large:
    """An application that answers each request with so many bytes."""

    limits = Limits(max_body=1024)

    def __init__(self, size: int) -> None:
        self.bodies = Bodies()
        self.outbox = Outbox()
        self.size = size
        self.answered = 0
        self.dropped = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.answered += 1
        exchange.reply(200, b"", b"x" * self.size)


@asynccontextmanager
async def listening(app: Large, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    sock = bind("127.0.0.1:0")
    port = cast(int, sock.getsockname()[1])
    tasks = Tasks()
    listening = Listener(ours(app), sock, tasks)
    await listening.start()
    lost = server.Protocol.connection_lost

    def connection_lost(self: server.Protocol, exc: Exception | None) -> None:
        lost(self, exc)
        app.dropped.set()

    monkeypatch.setattr(server.Protocol, "connection_lost", connection_lost)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await listening.stop(5)
        await tasks.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[socket.socket]:
    """A client with small buffers, so that what it does not read is the server's to keep."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        host, _, port = url.removeprefix("http://").partition(":")
        await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
        yield client


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_who_pipelines_must_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody takes hold up the requests behind them, and the reading of more; then all are answered."""
    app = Large(1_000_000)
    loop = asyncio.get_running_loop()
    async with listening(app, monkeypatch) as url, connected(url) as client:
        await loop.sock_sendall(client, GET * 50)
        for _ in range(20):
            await loop.sock_sendall(client, GET)
            for _ in range(100):
                await asyncio.sleep(0)  # the server runs in this loop, too: it could have answered all by now
        assert app.answered < 10
        got = 0
        while got < 70 * app.size:
            got += len(await loop.sock_recv(client, 1_000_000))
        assert app.answered == 70


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux keeps the time")
@pytest.mark.parametrize("closes", [False, True])
async def test_who_reads_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch, closes: bool) -> None:
    """Its answer is memory, and no timeout of a model's ends while it is being sent."""
    monkeypatch.setattr(listener, "SEND_DEADLINE", 0.3)
    ask = GET.replace(b"host", b"connection: close\r\nhost") if closes else GET
    app = Large(20_000_000)
    async with listening(app, monkeypatch) as url, connected(url) as client:
        await asyncio.get_running_loop().sock_sendall(client, ask)
        await asyncio.wait_for(app.dropped.wait(), 20)
