"""The protocol on its own, on a transport that only remembers: random mutations, slow clients, back-pressure."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
import structlog
import uvloop
from uvicorn.server import ServerState

from proxy import outbox, server
from proxy.account import Account
from proxy.app import App
from proxy.books import Books
from proxy.config.load import load
from proxy.errors import Unavailable
from proxy.handler import Chat
from proxy.life import Life
from proxy.means import Means
from proxy.meter.baseline import Learned
from proxy.meter.metrics import Meters
from proxy.orphans import Orphans
from proxy.outbox import Outbox
from proxy.runtime import Holder, Limits
from proxy.server import Protocol
from proxy.settled import Settled
from proxy.upstreams.balance import Rotations
from proxy.upstreams.base import Call, Target
from tests.proxy.raw import HEAD, chunked, post
from tests.proxy.test_late import held_up

CONFIG = """
version: 1
server: {max_body: 512KiB}
keys: [{name: team, key: sk-team-0123456789abcdef, tenant: acme}]
models: {m: {base_url: "http://127.0.0.1:1/v1", price: {input: 1, output: 1}}}
prompts:
  greet:
    "1": {variables: {company: {default: ACME}}, messages: [{system: "You answer for {{ company }}."}]}
policies:
  support:
    baseline: r
    routes: {r: {model: m, prompt: greet@1}}
    rules:
      - {name: heavy, when: {any: [{prompt_tokens: {gt: 6000}}, {tools: true}]}, route: r}
      - {name: order, when: {text: {matches: "order [0-9]+"}}, route: r}
    default: r
"""
BODY: dict[str, Any] = {
    "model": "support",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "where is order 1234?"}],
    "stream": False,
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "pointsman": {"variables": {"company": "Initech"}, "session": "s-1"},
}
GOOD_BODY = json.dumps(BODY).encode()
GOOD = post(GOOD_BODY)
ANSWER = (
    b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
)


class Wire(asyncio.Transport):
    """Remembers what is written; closing is seen by the protocol at once."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closed = False
        self.ended = False  # the writing half
        self.reading = True
        self.aborted = False
        self.unsent = 0  # bytes that the client has not taken

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        self.out += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """A test says itself when writing is to pause."""

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Model:
    """Answers each call at once, without a network."""

    status = 200
    headers: Mapping[bytes, bytes] = {b"content-type": b"application/json"}
    retried_stale = False

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._parts: list[bytes] = []

    def get(self, target: Target) -> "Model":
        return self

    async def send(self, call: Call, deadline: float) -> "Model":
        self.calls.append(call)
        self._parts = [ANSWER, b""]
        return self

    async def read(self, deadline: float) -> bytes:
        return self._parts.pop(0)

    def close(self) -> None:
        return None


class Rig:
    """An app and connections to it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "pointsman.yaml"
        path.write_text(CONFIG)
        loaded = load(str(path))
        assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
        holder = Holder(loaded.snapshot)
        self.model = Model()
        self.settled: list[Settled] = []
        self.meters = Meters("test")
        self.meters.use(loaded.snapshot)
        self.books = Books([self.meters.settled, self.settled.append])
        means = Means(cast(Any, self.model), Rotations(), Learned(), Orphans())
        self.chat = Chat(holder, means, self.meters, self.books)
        self.app = App(holder, self.chat, Life(), Outbox())
        self.state = ServerState()

    def protocol(self) -> Protocol:
        return Protocol(cast(Any, SimpleNamespace(loaded_app=self.app)), self.state, {})

    def connect(self) -> tuple[Protocol, Wire]:
        protocol = self.protocol()
        wire = Wire()
        protocol.connection_made(wire)
        return protocol, wire

    async def quiet(self) -> None:
        """Wait until nothing runs."""
        while self.state.tasks or any(cast(Any, protocol).current for protocol in self.state.connections):
            await asyncio.sleep(0)
        self.app.outbox.flush()
        self.books.close()


@pytest.fixture(params=["calm", "busy"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Busy: what is written waits for the loop to come round, or for a `flush`."""
    rig = Rig(tmp_path)
    if request.param == "busy":
        monkeypatch.setattr(outbox, "BUSY", 0)
        rig.app.outbox.is_busy = True
    return rig


def answers(out: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer; fails on anything that is not whole."""
    found = []
    while out:
        head, parted, out = out.partition(b"\r\n\r\n")
        assert parted, head
        line, *lines = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line[9:12])
        if status == 100:
            continue
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        size = int(headers[b"content-length"])
        assert len(out) >= size, "cut short"
        found.append((status, out[:size]))
        out = out[size:]
    return found


# --- random mutations

WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\t", b"\xff", b"{", b"}", b"[", b"]", b'"', b",", b"\\u0000",
    b"\\ud800", b"null", b"true", b"-1", b"1e999", b"NaN", b"99999999999999999999", b"[" * 300, b"HTTP/1.0",
    b"HTTP/2.0", b"GET ", b"HEAD ", b"transfer-encoding: chunked\r\n", b"content-length: 3\r\n",
    b"expect: 100-continue\r\n", b"connection: close\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b"/..", b"%2e",
    b"%00", b"\r\n\r\n", b"0\r\n\r\n", b"host: y\r\n", b'"model":"support",', b'"stream":true,', b'"messages":[],',
    b'"pointsman":[],',
]  # fmt: skip


def mutation(chance: random.Random) -> bytes:
    """A mutated request; more often only its body is, and framed well, so that JSON is reached."""
    return post(mutated(chance, GOOD_BODY)) if chance.random() < 0.6 else mutated(chance, GOOD)


def mutated(chance: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 1, 2, 8, 40))]
            case 2:
                data[at:at] = chance.choice(WORDS)
            case 3:
                data[at : at + chance.choice((1, 4, 10))] = chance.choice(WORDS)
            case 4:
                data[at:at] = data[at : at + chance.choice((1, 5, 30, 200))]
            case 5:
                other = chance.randrange(len(data) + 1)
                data[at : at + 10], data[other : other + 10] = data[other : other + 10], data[at : at + 10]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
async def test_mutations_of_a_good_request_never_break_it(rig: Rig, seed: int) -> None:
    """Each is answered with a good answer or a 4xx in OpenAI's shape, or is not yet whole; no 500, nothing silent."""
    chance = random.Random(seed)
    seen: dict[int, int] = {}
    with structlog.testing.capture_logs() as logs:
        for _ in range(5000):
            data = mutation(chance)
            protocol, wire = rig.connect()
            at = chance.randrange(len(data) + 1)
            for part in (data[:at], data[at:]) if chance.random() < 0.5 else (data,):
                if part and not wire.closed:
                    protocol.data_received(part)
            await rig.quiet()
            found = answers(wire.out)
            assert found or not wire.closed, data
            for status, body in found:
                seen[status] = seen.get(status, 0) + 1
                assert status in (200, 400, 401, 404, 405, 413, 415, 431), (status, data)
                if status != 200 and body:
                    error = json.loads(body)["error"]
                    assert error.keys() == {"message", "type", "param", "code"}, data
                    assert error["message"], data
            protocol.connection_lost(None)
            await rig.quiet()
    assert not logs, logs[:1]
    assert {200, 400, 401, 404} <= seen.keys()
    assert seen[200] > 200
    assert {value for _, value in rig.meters.state()["pointsman_inflight_requests"]} == {0}
    assert len(rig.model.calls) == sum(settled.outcome in ("ok", "upstream_error") for settled in rig.settled)
    for call in rig.model.calls:
        assert "pointsman" not in json.loads(call.body)


# --- clients that are slow


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_ALIVE", "LINGER", "SEND_DEADLINE"):
        monkeypatch.setattr(server, name, 0.05)
    monkeypatch.setattr(App, "limits", Limits(max_body=512 * 1024, head_timeout=0.05, body_timeout=0.05))


async def closed(wire: Wire) -> None:
    async with asyncio.timeout(5):
        while not wire.closed:
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "part",
    [
        GOOD[:30],
        GOOD[:-3],
        chunked(b"{")[:-5],
        f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}content-length: 400000\r\n\r\n{{".encode(),
        f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}expect: 100-continue\r\ncontent-length: 9\r\n\r\n".encode(),
    ],
    ids=["head", "body", "chunks", "large body", "body that was asked for"],
)
async def test_a_request_that_stops_coming_is_408(rig: Rig, part: bytes) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(part)
    await closed(wire)
    await rig.quiet()
    ((status, body),) = answers(wire.out)
    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
    assert rig.model.calls == []


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("before", [b"", GOOD])
async def test_an_idle_connection_is_closed_without_a_word(rig: Rig, before: bytes) -> None:
    protocol, wire = rig.connect()
    if before:
        protocol.data_received(before)
    await closed(wire)
    assert [status for status, _ in answers(wire.out)] == [200] * bool(before)


async def test_a_body_may_come_slowly_but_must_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on a pause, not on the whole."""
    # the timer looks for the first time after 0.1 s
    monkeypatch.setattr(App, "limits", Limits(head_timeout=0.1, body_timeout=0.4))
    protocol, wire = rig.connect()
    protocol.data_received(GOOD[:-10])
    for byte in GOOD[-10:]:
        await asyncio.sleep(0.06)
        protocol.data_received(bytes([byte]))
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200]


# --- large bodies


def announced(size: int) -> bytes:
    return f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}content-length: {size}\r\n\r\n".encode()


async def test_bodies_share_their_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no longer fits is told to come again, and does once others have gone or been answered."""
    monkeypatch.setattr(App, "limits", Limits(max_body=512 * 1024, body_memory=1200 * 1024))
    large = json.dumps({**BODY, "user": "u" * 400_000}).encode()
    first, first_wire = rig.connect()
    first.data_received(announced(len(large)) + large[:300_000])
    assert rig.app.bodies.held >= 600_000
    second, second_wire = rig.connect()
    second.data_received(announced(len(large)))
    third, third_wire = rig.connect()
    third.data_received(chunked(*[b" " * 100_000] * 5, end=b""))
    for _ in range(5):
        await asyncio.sleep(0)
    for wire in (second_wire, third_wire):
        ((status, body),) = answers(wire.out)
        assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
        assert b"retry-after: 1\r\n" in wire.out
    first.data_received(large[300_000:])
    await rig.quiet()
    assert [status for status, _ in answers(first_wire.out)] == [200]
    fourth, _ = rig.connect()
    fourth.data_received(announced(len(large)) + large[:300_000])
    assert rig.app.bodies.held >= 600_000
    fourth.connection_lost(None)
    await rig.quiet()
    assert rig.app.bodies.held == 0


@pytest.mark.parametrize("end", [b"zz\r\n", b""], ids=["malformed", "late"])
async def test_a_body_that_never_ends_gives_its_memory_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(App, "limits", Limits(head_timeout=0.02, body_timeout=0.02 if not end else 60.0))
    protocol, wire = rig.connect()
    protocol.data_received(chunked(b" " * 200_000, end=b""))  # too small to be begun before it has all come
    assert rig.app.bodies.held >= 400_000
    protocol.data_received(end)
    async with asyncio.timeout(10):
        while not wire.out:
            await asyncio.sleep(0.001)
    assert [status for status, _ in answers(wire.out)] == [400 if end else 408]
    assert rig.app.bodies.held == 0
    protocol.connection_lost(None)
    assert rig.app.bodies.held == 0


async def test_a_large_body_of_a_stranger_is_not_read_to_its_end(rig: Rig) -> None:
    """Also one that does not say how large it is."""
    protocol, wire = rig.connect()
    protocol.data_received(chunked(b" " * 300_000, end=b"").replace(b"Bearer sk-", b"Bearer no-"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [status for status, _ in answers(wire.out)] == [401]
    assert protocol._is_deaf


async def test_a_body_that_holds_too_much_is_refused_while_it_comes(rig: Rig) -> None:
    protocol, wire = rig.connect()
    body = b'{"model":"support","messages":[{"role":"user","content":"x"}],"x":{' + b'"":0,' * 60_000
    protocol.data_received(announced(500_000) + body[:1000])
    await asyncio.sleep(0)
    protocol.data_received(body[1000:])
    for _ in range(5):
        await asyncio.sleep(0)
    ((status, answer),) = answers(wire.out)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "above_limit")
    assert rig.settled == []  # booked in a moment
    await rig.quiet()
    assert [settled.outcome for settled in rig.settled] == ["rejected"]


async def test_a_body_is_weighed_from_its_beginning(rig: Rig) -> None:
    """The application begins in its middle, where what looks like structure is text."""
    body = json.dumps({**BODY, "messages": [{"role": "user", "content": ",:[{" * 115_000}]}).encode()
    protocol, wire = rig.connect()
    data = chunked(*(body[at : at + 1000] for at in range(0, len(body), 1000)))
    for at in range(0, len(data), 20_000):
        protocol.data_received(data[at : at + 20_000])
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200]


async def test_uploads_take_turns(rig: Rig) -> None:
    """Whoever has read much reads on in a later turn, and others before it."""
    protocol, wire = rig.connect()
    protocol.data_received(announced(400_000) + b" " * 200_000)
    assert not wire.reading
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wire.reading


# --- clients that do not read


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_reads_nothing_is_let_go(rig: Rig) -> None:
    """Also one that has its whole answer waiting for it: a plain close would wait for ever."""
    protocol, wire = rig.connect()
    protocol.data_received(GOOD)
    await rig.quiet()
    wire.unsent = 1000
    await closed(wire)
    assert not wire.aborted
    async with asyncio.timeout(5):
        while not wire.aborted:
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("hurried")
async def test_draining_ends_when_nothing_is_taken(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.pause_writing()
    wire.unsent = 1000
    drained = asyncio.get_running_loop().create_task(protocol.drain())
    async with asyncio.timeout(5):
        while not wire.aborted:
            await asyncio.sleep(0.005)
    protocol.connection_lost(None)
    await drained


async def test_draining_sends_what_waits(rig: Rig) -> None:
    """Else a reader that takes as much as comes would seem to take nothing."""
    protocol, wire = rig.connect()
    protocol.send(b"answer")
    await protocol.drain()
    assert wire.out == b"answer"


@pytest.mark.usefixtures("hurried")
async def test_a_slow_reader_is_waited_for(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.pause_writing()
    wire.unsent = 1000
    drained = asyncio.get_running_loop().create_task(protocol.drain())
    for _ in range(100):
        await asyncio.sleep(0.005)
        wire.unsent -= 10
    assert not wire.aborted
    protocol.resume_writing()
    await drained


# --- bytes that come while the loop is held up: they lie in the socket when the client's time is up


def served(rig: Rig, scene: Callable[[Protocol, socket.socket], Coroutine[None, None, None]]) -> None:
    """Play it with a real connection of the loop that serves."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            _, protocol = await asyncio.get_running_loop().create_connection(rig.protocol, sock=ours)
            await scene(protocol, theirs)
            protocol.transport.abort()
            await rig.quiet()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def emptied(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(65536):
            pass


def test_a_client_that_read_meanwhile_is_not_let_go(rig: Rig) -> None:
    async def scene(protocol: Protocol, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        protocol.transport.write(bytes(10_000_000))
        await asyncio.sleep(0.01)
        draining = loop.create_task(protocol.drain(0.1))
        await asyncio.sleep(0.01)
        await held_up(loop.time() + 0.2, lambda: emptied(theirs))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not protocol.transport.is_closing()
        theirs.close()
        await draining

    served(rig, scene)


@pytest.mark.usefixtures("hurried")
def test_a_body_that_came_meanwhile_is_no_timeout(rig: Rig) -> None:
    async def scene(protocol: Protocol, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        theirs.send(GOOD[:-3])
        await asyncio.sleep(0.01)
        await held_up(loop.time() + 0.2, lambda: theirs.send(GOOD[-3:]))
        assert [status for status, _ in answers(await loop.sock_recv(theirs, 65536))] == [200]

    served(rig, scene)


# --- pipelining and draining


async def test_reading_pauses_while_answers_are_owed(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD * 3)
    assert not wire.reading
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200] * 3
    assert wire.reading


async def test_a_large_request_behind_another_is_read_in_its_turn(rig: Rig) -> None:
    """It is handed to the application before its body has come."""
    large = post(json.dumps({**BODY, "user": "u" * 300_000}).encode())
    protocol, wire = rig.connect()
    protocol.data_received(GOOD + large[:1000])
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert wire.reading
    protocol.data_received(large[1000:] + GOOD)
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200] * 3


async def test_draining_lets_a_request_come_that_has_begun(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD[:-5])
    protocol.shutdown()
    assert not wire.closed
    protocol.data_received(GOOD[-5:])
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200]
    assert b"connection: close\r\n" in wire.out
    assert wire.closed


async def test_draining_closes_an_idle_connection(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD)
    await rig.quiet()
    assert not wire.closed
    protocol.shutdown()
    await closed(wire)


async def test_a_connection_that_waits_is_closed_when_time_is_up(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD)
    await rig.quiet()
    protocol.cut()
    assert wire.closed


@pytest.mark.parametrize("end", [Protocol.cut, Protocol.eof_received])
async def test_an_answer_that_waits_to_be_sent_goes_out_before_the_end(
    rig: Rig, end: Callable[[Protocol], None]
) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD)
    while protocol.current is not None:
        await asyncio.sleep(0)
    end(protocol)
    assert [status for status, _ in answers(wire.out)] == [200]


@pytest.mark.parametrize("come", [len(GOOD) - len(GOOD_BODY) - 5, len(GOOD) - 5], ids=["of the head", "of the body"])
async def test_a_request_that_comes_when_time_is_up_is_not_begun(rig: Rig, come: int) -> None:
    """Nobody would wait for its call, nor book it."""
    protocol, wire = rig.connect()
    protocol.data_received(GOOD[:come])
    protocol.cut()
    protocol.data_received(GOOD[come:])
    await rig.quiet()
    [(status, _)] = answers(wire.out)
    assert status == 503
    assert b"server_shutting_down" in wire.out
    assert not rig.model.calls


async def test_a_client_that_goes_on_after_a_refusal_does_not_break_the_stop(rig: Rig) -> None:
    """It was refused, and lingers; of what it has begun to send since nothing is answered any more."""
    protocol, wire = rig.connect()
    large = post(b"x" * (600 * 1024))
    protocol.data_received(large[:-100])
    protocol.data_received(large[-100:] + b"POST /v1/x HTTP/1.1\r\nhost: x")
    await rig.quiet()
    protocol.cut()
    assert [status for status, _ in answers(wire.out)] == [413]


async def test_requests_behind_one_that_is_cut_are_not_begun(rig: Rig) -> None:
    protocol, wire = rig.connect()
    protocol.data_received(GOOD * 3)
    protocol.shutdown()
    protocol.cut()
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [503]
    assert len(rig.model.calls) <= 1
    assert wire.closed


async def test_a_promise_to_keep_a_connection_ends_when_time_is_up(rig: Rig) -> None:
    """What came on it would not be read."""
    protocol, wire = rig.connect()
    protocol.data_received(GOOD + GOOD[:30])
    assert protocol.current is not None
    protocol.current.keep_alive = True
    protocol.cut()
    await rig.quiet()
    assert wire.closed


@pytest.mark.parametrize("stream", [False, True])
async def test_a_defect_costs_the_caller_neither_an_answer_nor_the_id(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Before any content: a 500; after it, the last event. The books and the log have the same id."""

    async def fall(self: Model, *_: object) -> bytes:
        if stream and self._parts:
            self._parts = []
            return b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        raise RuntimeError("a defect")

    monkeypatch.setattr(Model, "read", fall)
    monkeypatch.setattr(Model, "pour", fall, raising=False)
    monkeypatch.setattr(Model, "headers", {b"content-type": b"text/event-stream"})
    protocol, wire = rig.connect()
    with structlog.testing.capture_logs() as logs:
        protocol.data_received(post(json.dumps({**BODY, "stream": stream}).encode()))
        await rig.quiet()
    (settled,) = rig.settled
    (line,) = [line for line in logs if line["event"] == "defect"]
    assert (settled.outcome, settled.error) == ("upstream_error", "internal_error")
    assert (line["id"], line["error"]) == (settled.id, "RuntimeError")
    assert b"x-request-id: " + settled.id.encode() in wire.out
    assert b'"code":"internal_error"' in wire.out
    if stream:
        assert b'"content":"hi"' in wire.out
        assert wire.out.endswith(b"\n\n\r\n0\r\n\r\n")
        assert b"[DONE]" not in wire.out
    else:
        assert [status for status, _ in answers(wire.out)] == [500]


class Purse:
    """A ledger that lends a few times, and notes what comes back."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.settled: list[str] = []

    async def reserve(self, account: Account) -> Self:
        if not self.times:
            raise Unavailable("the budget is spent", code="budget_spent")
        self.times -= 1
        return self

    def settle(self, settled: Settled) -> None:
        self.settled.append(settled.id)


async def test_a_ledger_is_asked_before_a_call_and_told_after_it(rig: Rig) -> None:
    rig.chat.ledger = purse = Purse(1)
    protocol, wire = rig.connect()
    protocol.data_received(GOOD + GOOD)
    await rig.quiet()
    assert [status for status, _ in answers(wire.out)] == [200, 503]
    assert len(rig.model.calls) == 1
    assert purse.settled == [rig.settled[0].id]
