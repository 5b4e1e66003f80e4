"""What every HTTP client of the seam does, on both event loops: our pool and httpx alike."""

import asyncio
import contextlib
import datetime
import gc
import gzip
import random
import socket
import time
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from proxy.upstreams.base import TLS, Call, Failed, Upstream
from tests.proxy.test_late import held_up
from tests.proxy.upstreams.conftest import Certificates, Connect, Serve, fetch, read_all, soon, spawn, until
from tests.proxy.upstreams.rawserver import Peer, RawServer, Script, always, answer, once

CALL = Call(b"/chat/completions", b'{"model": "m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
Make = Callable[..., Upstream]


@pytest.fixture(params=["pool", "busy pool", "httpx"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def is_busy(kind: str) -> bool:
    return kind == "busy pool"


@pytest.fixture
def make(kind: str, connect: Connect) -> Make:
    return lambda server, **options: connect(server, kind.removeprefix("busy "), **options)


async def failure_of(upstream: Upstream, **options: Any) -> Failed:
    with pytest.raises(Failed) as caught:
        await fetch(upstream, **options)
    assert "sk-secret" not in str(caught.value)
    return caught.value


def hold(*writes: bytes) -> Script:
    """Answer with these writes, then wait for the client to go."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for data in writes:
            await peer.write(data)
        await peer.gone()

    return script


class TestRequest:
    async def test_what_goes_out(self, serve: Serve, make: Make) -> None:
        """The target's key, our fixed headers, the allowed ones of the caller, and the body as it is."""
        bodies = []

        async def script(peer: Peer) -> None:
            bodies.append(await peer.request())
            await peer.write(answer())

        server = await serve(script)
        await fetch(make(server), b'{"a": 1}', headers=((b"openai-beta", b"x"),))
        head = server.heads[0]
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        assert lines[b"host"] == b"127.0.0.1:%d" % server.port
        assert lines[b"authorization"] == b"bearer sk-secret-of-test"
        assert lines[b"accept-encoding"] == b"identity"
        assert lines[b"content-type"] == b"application/json"
        assert lines[b"user-agent"].startswith(b"pointsman/")
        assert lines[b"openai-beta"] == b"x"
        assert bodies == [b'{"a": 1}']

    @pytest.mark.parametrize(
        "header", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a", b"1\n"), (b"x-a", b"\0"), (b"x a", b"1"), (b"Host", b"evil")]
    )
    async def test_a_header_cannot_carry_another(self, serve: Serve, make: Make, header: tuple[bytes, bytes]) -> None:
        server = await serve(always(answer()))
        failed = await failure_of(make(server), headers=(header,))
        assert failed.failure == "request"
        assert not server.heads

    async def test_a_large_body_arrives_whole(self, serve: Serve, make: Make) -> None:
        body = random.Random(1).randbytes(3_000_000)
        got = []

        async def script(peer: Peer) -> None:
            got.append(await peer.request())
            await peer.write(answer(b"ok"))

        assert await fetch(make(await serve(script)), body) == (200, b"ok")
        assert got == [body]


class TestAnswer:
    @pytest.mark.parametrize(
        "writes",
        [
            pytest.param([answer(b"hello")], id="length"),
            pytest.param([CHUNKED, b"2\r\nhe\r\n", b"3;x=y\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n"], id="chunked"),
            pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n", answer(b"hello")], id="100-continue"),
            pytest.param([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"hello")], id="103"),
            pytest.param([b"HTTP/1.1 200\r\nContent-Length:5\r\n\r\nhello"], id="no reason"),
        ],
    )
    @pytest.mark.parametrize("bytewise", [False, True])
    async def test_is_read_whatever_its_frame(
        self, serve: Serve, make: Make, writes: list[bytes], bytewise: bool
    ) -> None:
        if bytewise:
            writes = [bytes([byte]) for data in writes for byte in data]
        server = await serve(always(*writes))
        upstream = make(server)
        for _ in range(2):
            assert await fetch(upstream) == (200, b"hello")
        assert server.connections == 1

    async def test_may_end_with_the_connection(self, serve: Serve, make: Make) -> None:
        server = await serve(once(b"HTTP/1.0 200 OK\r\n\r\n", b"hel", b"lo"))
        upstream = make(server)
        assert await fetch(upstream) == (200, b"hello")
        assert await fetch(upstream) == (200, b"hello")
        assert server.connections == 2

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    async def test_may_have_no_body(self, serve: Serve, make: Make, status: bytes) -> None:
        upstream = make(await serve(always(b"HTTP/1.1 %b\r\n\r\n" % status)))
        assert await fetch(upstream) == (int(status[:3]), b"")

    @pytest.mark.parametrize("status", [b"302 Found", b"401 Unauthorized", b"429 Slow", b"503 No", b"529 Overloaded"])
    async def test_every_status_is_a_reply(self, serve: Serve, make: Make, status: bytes) -> None:
        """Nothing is followed or raised: what a status means is the driver's."""
        server = await serve(always(answer(b"{}", status, b"Location: /elsewhere\r\nRetry-After: 3\r\n")))
        reply = await make(server).send(CALL, soon())
        assert (reply.status, reply.headers[b"retry-after"]) == (int(status[:3]), b"3")
        assert await read_all(reply) == b"{}"
        reply.close()
        assert len(server.heads) == 1

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", id="length"),
            pytest.param(CHUNKED + b"5\r\nhello\r\n", id="chunked"),
            pytest.param(CHUNKED + b"9\r\nhello", id="in a chunk"),
            pytest.param(CHUNKED + b"5\r\nhello\r\nzz\r\n", id="bad chunk size"),
        ],
    )
    async def test_that_breaks_off_is_a_bad_one(self, serve: Serve, make: Make, data: bytes) -> None:
        """What had come is read first, then the failure."""
        reply = await make(await serve(once(data))).send(CALL, soon())
        got: list[bytes] = []
        with pytest.raises(Failed) as caught:
            await read_all(reply, got)
        reply.close()
        assert caught.value.failure == "bad_answer"
        assert b"".join(got) in (b"hello", b"")  # a library may drop bytes that came in one packet with the fault

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"a" * 400_000 + b"\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
        ],
        ids=lambda data: data[:24].decode(),
    )
    async def test_garbage_is_a_bad_one(self, serve: Serve, make: Make, data: bytes) -> None:
        assert (await failure_of(make(await serve(once(data))))).failure == "bad_answer"

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
    async def test_an_encoding_nobody_asked_for_is_undone(self, serve: Serve, make: Make, encoding: str) -> None:
        text = b'{"choices": []}' * 1000
        packed = {
            "gzip": gzip.compress(text),
            "deflate": zlib.compress(text),
            "raw deflate": zlib.compress(text)[2:-4],
        }[encoding]
        head = b"content-encoding: %b\r\n" % encoding.split()[-1].encode()
        upstream = make(await serve(always(answer(packed, headers=head))))
        assert await fetch(upstream) == (200, text)

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            (b"gzip", gzip.compress(bytes(200_000_000), 1)),
            (b"gzip", gzip.compress(b"hello")[:-6]),
            (b"gzip", b"not gzip at all"),
            (b"br", b"\x0b\x02\x80hello\x03"),
        ],
        ids=["bomb", "cut", "broken", "brotli"],
    )
    async def test_an_encoding_that_cannot_be_undone_is_a_bad_answer(
        self, serve: Serve, make: Make, encoding: bytes, body: bytes
    ) -> None:
        upstream = make(await serve(once(answer(body, headers=b"content-encoding: %b\r\n" % encoding))))
        assert (await failure_of(upstream)).failure == "bad_answer"


class TestDeadlines:
    async def test_no_head_in_time(self, serve: Serve, make: Make) -> None:
        upstream = make(await serve(hold()))
        with pytest.raises(Failed) as caught:
            await upstream.send(CALL, soon(0.05))
        assert (caught.value.failure, caught.value.phase) == ("timeout", "first_content")

    async def test_a_read_that_timed_out_goes_on_later(self, serve: Serve, make: Make) -> None:
        more = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED + b"2\r\nhe\r\n")
            await more.wait()
            await peer.write(b"3\r\nllo\r\n0\r\n\r\n")

        reply = await make(await serve(script)).send(CALL, soon())
        assert await reply.read(soon()) == b"he"
        for _ in range(2):
            with pytest.raises(Failed) as caught:
                await reply.read(soon(0.03))
            assert (caught.value.failure, caught.value.phase) == ("timeout", "idle")
        more.set()
        assert await read_all(reply) == b"llo"
        reply.close()

    async def test_a_later_deadline_holds_though_an_earlier_timer_runs(self, serve: Serve, make: Make) -> None:
        """Each event moves the deadline: a slow but steady stream is never cut."""
        begin, more = asyncio.Event(), asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED)
            await begin.wait()
            await peer.write(b"1\r\nx\r\n")
            await more.wait()
            await peer.write(b"1\r\ny\r\n0\r\n\r\n")

        reply = await make(await serve(script)).send(CALL, soon())
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, begin.set)
        assert await reply.read(soon(0.4)) == b"x"
        loop.call_later(0.5, more.set)  # after the deadline of the read before
        assert await read_all(reply) == b"y"
        reply.close()

    @pytest.mark.parametrize("poured", [False, True])
    async def test_a_server_that_never_pauses_is_late_all_the_same(
        self, serve: Serve, make: Make, poured: bool
    ) -> None:
        """Bytes that come faster than they are taken leave no moment in which a wait could find none."""

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED)
            end = soon(3)
            while soon(0) < end:
                await peer.write(b"1\r\nx\r\n")
                await asyncio.sleep(0)
            await peer.write(b"0\r\n\r\n")

        reply = await make(await serve(script)).send(CALL, soon())
        deadline = soon(0.1)

        def take(_: bytes) -> float:
            time.sleep(0.003)
            return deadline

        async def all_of_it() -> None:
            if poured:
                await reply.pour(take, deadline)
            while data := await reply.read(deadline):
                take(data)

        with pytest.raises(Failed) as caught:
            await all_of_it()
        assert caught.value.failure == "timeout"
        reply.close()

    async def test_waiting_for_a_connection_is_bounded(self, serve: Serve, make: Make) -> None:
        upstream = make(await serve(hold(CHUNKED)), max_connections=1)
        reply = await upstream.send(CALL, soon())
        failed = await failure_of(upstream, connect_timeout=0.05)
        assert (failed.failure, failed.phase) == ("timeout", "connect")
        assert "'up'" in failed.message
        reply.close()


class TestHeldUp:
    """The loop is held up beyond a deadline while the bytes lie in the socket: they came in time."""

    @pytest.mark.parametrize("phase", ["head", "read", "pour"])
    async def test_nothing_is_given_up_that_came(self, make: Make, phase: str) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            upstream = make(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
            due = soon(0.4)
            sending = spawn(upstream.send(CALL, due if phase == "head" else soon()))
            peer, _ = await loop.sock_accept(listener)
            with peer:
                await loop.sock_recv(peer, 65536)
                if phase == "head":
                    await held_up(due, lambda: peer.send(CHUNKED))
                    (await sending).close()
                    return
                peer.send(CHUNKED)
                reply, taker = await sending, Taker(enough=2)
                waiting: asyncio.Task[object] = spawn(reply.read(due) if phase == "read" else reply.pour(taker, due))
                await asyncio.sleep(0.01)
                await held_up(due, lambda: peer.send(b"2\r\nhe\r\n"))
                assert await waiting in (b"he", True)
                reply.close()


class Fault(Exception):
    """Of a taker; known by whether it still exists."""

    last: "weakref.ref[Fault] | None" = None

    def __init__(self) -> None:
        Fault.last = weakref.ref(self)


def faulty(_: bytes) -> float:
    raise Fault


class Taker:
    """Takes what is poured, and says how long it waits for more."""

    def __init__(self, *, enough: int = 1000, patience: float = 5.0, fault: Exception | None = None) -> None:
        self.got = b""
        self.enough, self.patience, self.fault = enough, patience, fault

    def __call__(self, data: bytes) -> float | None:
        self.got += data
        if self.fault is not None:
            raise self.fault
        return None if len(self.got) >= self.enough else soon(self.patience)


class TestPouring:
    @pytest.mark.parametrize("together", [True, False])
    async def test_gives_the_body_as_it_comes(self, serve: Serve, make: Make, together: bool) -> None:
        writes = [CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n", b"0\r\n\r\n"]
        upstream = make(
            await serve(always(b"".join(writes) if together else writes[0], *writes[1:] * (not together)))
        )
        for _ in range(2):  # and the connection serves again
            reply, taker = await upstream.send(CALL, soon()), Taker()
            assert await reply.pour(taker, soon()) is False
            assert taker.got == b"hello"
            reply.close()

    async def test_undoes_an_encoding(self, serve: Serve, make: Make) -> None:
        packed = gzip.compress(b"hello" * 1000)
        upstream = make(await serve(always(answer(packed, headers=b"content-encoding: gzip\r\n"))))
        reply, taker = await upstream.send(CALL, soon()), Taker(enough=10**6)
        assert await reply.pour(taker, soon()) is False
        assert taker.got == b"hello" * 1000
        reply.close()

    async def test_goes_on_after_a_pause(self, serve: Serve, make: Make) -> None:
        """Whoever has had enough may read or be poured the rest later: nothing is lost meanwhile."""
        more = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED + b"2\r\nhe\r\n")
            await more.wait()
            await peer.write(b"3\r\nllo\r\n0\r\n\r\n")

        reply, taker = await make(await serve(script)).send(CALL, soon()), Taker(enough=2)
        assert await reply.pour(taker, soon()) is True
        assert taker.got == b"he"
        more.set()
        taker.enough = 1000
        assert await reply.pour(taker, soon()) is False
        assert taker.got == b"hello"
        reply.close()

    async def test_the_taker_moves_the_deadline(self, serve: Serve, make: Make) -> None:
        reply, taker = (
            await make(await serve(hold(CHUNKED + b"2\r\nhe\r\n"))).send(CALL, soon()),
            Taker(patience=0.05),
        )
        with pytest.raises(Failed) as caught:
            await reply.pour(taker, soon(60))
        assert (caught.value.failure, caught.value.phase, taker.got) == ("timeout", "idle", b"he")
        reply.close()

    async def test_a_body_that_breaks_off(self, serve: Serve, make: Make) -> None:
        reply, taker = await make(await serve(once(CHUNKED + b"5\r\nhello\r\n"))).send(CALL, soon()), Taker()
        with pytest.raises(Failed) as caught:
            await reply.pour(taker, soon())
        assert caught.value.failure == "bad_answer"
        reply.close()

    async def test_what_the_taker_raises_is_raised(self, serve: Serve, make: Make) -> None:
        """Once, and by this answer alone: the same connection serves the next call."""
        upstream = make(await serve(always(answer(b"hello"))))
        for fault in (ZeroDivisionError(), None):
            reply, taker = await upstream.send(CALL, soon()), Taker(fault=fault)
            if fault is not None:
                with pytest.raises(ZeroDivisionError):
                    await reply.pour(taker, soon())
            else:
                assert await reply.pour(taker, soon()) is False
            assert taker.got == b"hello"
            reply.close()

    async def test_a_fault_of_the_taker_keeps_nothing(self, serve: Serve, connect: Connect) -> None:
        """Its frames go with it: a cycle would keep the request until the collector comes."""
        gc.collect()
        gc.disable()
        try:
            reply = await connect(await serve(always(answer(b"hello")))).send(CALL, soon())
            with contextlib.suppress(Fault):
                await reply.pour(faulty, soon())
            reply.close()
            assert Fault.last is not None
            assert Fault.last() is None
        finally:
            gc.enable()

    async def test_may_be_cancelled(self, serve: Serve, make: Make) -> None:
        reply, taker = await make(await serve(hold(CHUNKED + b"2\r\nhe\r\n"))).send(CALL, soon()), Taker()
        pouring = spawn(reply.pour(taker, soon()))
        await until(lambda: taker.got == b"he")
        pouring.cancel()
        await asyncio.wait((pouring,))
        assert pouring.cancelled()
        reply.close()


class TestConnecting:
    async def test_refused(self, serve: Serve, make: Make) -> None:
        server = RawServer(always())
        async with server.running():
            pass
        failed = await failure_of(make(server))
        assert failed.failure == "connect"
        assert "'up'" in failed.message
        assert "refused" in failed.message

    async def test_closed_without_an_answer(self, serve: Serve, make: Make) -> None:
        """A fresh connection that dies is a failure, not a stale one: the call is not sent twice."""
        server = await serve(once())
        assert (await failure_of(make(server))).failure == "connect"
        assert len(server.heads) == 1

    async def test_tls_with_our_own_ca(self, serve: Serve, make: Make, certificates: Certificates) -> None:
        server = await serve(always(answer(b"ok")), tls=certificates.server())
        upstream = make(server, tls=certificates.trusted)
        for _ in range(2):
            assert await fetch(upstream) == (200, b"ok")
        assert server.connections == 1

    @pytest.mark.parametrize(
        ("certificate", "trusts", "reason"),
        [
            ({"name": "elsewhere.test"}, True, "ostname mismatch"),
            ({"not_after": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, True, "expired"),
            ({}, False, "unable to get local issuer certificate"),
        ],
        ids=["wrong name", "expired", "untrusted"],
    )
    async def test_a_certificate_that_proves_nothing(
        self,
        serve: Serve,
        make: Make,
        certificates: Certificates,
        certificate: dict[str, Any],
        trusts: bool,
        reason: str,
    ) -> None:
        server = await serve(always(answer()), tls=certificates.server(**certificate))
        failed = await failure_of(make(server, tls=certificates.trusted if trusts else TLS()))
        assert failed.failure == "connect"
        assert reason in failed.message
        assert not server.heads

    async def test_a_client_certificate(self, serve: Serve, make: Make, certificates: Certificates) -> None:
        asking, mine = certificates.asking_for_a_client()
        server = await serve(always(answer(b"ok")), tls=asking)
        assert await fetch(make(server, tls=mine)) == (200, b"ok")


class TestConnections:
    async def test_closing_a_reply_hangs_up(self, serve: Serve, make: Make) -> None:
        """How an upstream learns that nobody wants the rest."""
        gone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED + b"5\r\nhello\r\n")
            await peer.gone()
            gone.set()

        reply = await make(await serve(script)).send(CALL, soon())
        assert await reply.read(soon()) == b"hello"
        reply.close()
        reply.close()
        async with asyncio.timeout(1):
            await gone.wait()

    async def test_closing_twice_leaves_the_next_call_alone(self, serve: Serve, make: Make) -> None:
        upstream = make(await serve(always(answer(b"ok"))), max_connections=1)
        first = await upstream.send(CALL, soon())
        await read_all(first)
        first.close()
        second = await upstream.send(CALL, soon())
        first.close()
        assert await read_all(second) == b"ok"
        second.close()
        with pytest.raises(RuntimeError):
            await second.read(soon())

    @pytest.mark.parametrize("reset", [False, True])
    async def test_a_stale_connection_is_replaced_once(self, serve: Serve, make: Make, reset: bool) -> None:
        """The server closes an idle connection just as a call goes out on it: nobody notices."""

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(answer(b"ok"))
            if peer.server.connections == 1:
                await peer.request()
                if reset:
                    peer.reset()

        server = await serve(script)
        upstream = make(server)
        assert await fetch(upstream) == (200, b"ok")
        reply = await upstream.send(CALL, soon())
        assert await read_all(reply) == b"ok"
        assert reply.retried_stale
        reply.close()
        assert (server.connections, len(server.heads)) == (2, 3)

    async def test_a_call_is_repeated_only_once(self, serve: Serve, make: Make) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.server.connections == 1:
                await peer.write(answer(b"ok"))
                await peer.request()

        server = await serve(script)
        upstream = make(server)
        assert await fetch(upstream) == (200, b"ok")
        assert (await failure_of(upstream)).failure == "connect"
        assert len(server.heads) == 3

    async def test_a_waiter_gets_the_next_free_connection(self, serve: Serve, make: Make) -> None:
        server = await serve(always(answer(b"ok")))
        upstream = make(server, max_connections=2)
        assert await asyncio.gather(*(fetch(upstream) for _ in range(50))) == [(200, b"ok")] * 50
        assert server.connections <= 2

    async def test_closing_the_client_lets_running_calls_finish(self, serve: Serve, make: Make) -> None:
        """A reload retires it while requests of the old snapshot still use it."""
        more = asyncio.Event()

        async def script(peer: Peer) -> None:
            while await peer.request() is not None:
                await peer.write(CHUNKED + b"2\r\nhe\r\n")
                await more.wait()
                await peer.write(b"3\r\nllo\r\n0\r\n\r\n")

        server = await serve(script)
        upstream = make(server)
        reply = await upstream.send(CALL, soon())
        await upstream.close()
        more.set()
        assert await read_all(reply) == b"hello"
        reply.close()
        assert await fetch(upstream) == (200, b"hello")
        await until(lambda: not server.open)

    async def test_cancels_lose_nothing(self, serve: Serve, make: Make) -> None:
        """Calls cancelled anywhere leave every slot usable."""
        server = await serve(always(CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"))
        upstream = make(server, max_connections=3)
        chance = random.Random(7)

        async def one() -> None:
            task = spawn(fetch(upstream))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))

        async def some() -> None:
            for _ in range(15):
                await one()

        await asyncio.gather(*(some() for _ in range(6)))
        assert await asyncio.gather(*(fetch(upstream) for _ in range(9))) == [(200, b"hello")] * 9


class TestRedirect:
    @pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Same", b"308 Same"])
    async def test_is_an_answer_and_not_followed(self, serve: Serve, make: Make, status: bytes) -> None:
        """Who takes over a model server, or its name, must not send our key on to another."""
        other = await serve(always(answer(b"caught")))
        location = b"location: http://127.0.0.1:%d/v1/chat/completions\r\n" % other.port
        server = await serve(always(answer(b"", status, location)))
        assert (await fetch(make(server)))[0] == int(status[:3])
        assert other.connections == 0
