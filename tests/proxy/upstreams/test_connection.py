"""The connection to the byte: framing that cannot be trusted, and flow in both directions."""

import asyncio
import socket

import pytest

from proxy.upstreams.base import Call, Failed
from proxy.upstreams.connection import UNREAD
from proxy.upstreams.incoming import POUR, READ
from tests.proxy.upstreams.conftest import PoolOf, Serve, fetch, read_all, soon
from tests.proxy.upstreams.rawserver import Peer, always, answer, once

CALL = Call(b"/chat/completions", b'{"model": "m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["calm", "busy"])
def is_busy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestFraming:
    @pytest.mark.parametrize(
        "gap", [b"", b"HTT", b"\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nEVIL!", b"\0"]
    )
    @pytest.mark.parametrize("together", [True, False])
    async def test_bytes_after_an_answer_never_reach_the_next_call(
        self, serve: Serve, pool_of: PoolOf, gap: bytes, together: bool
    ) -> None:
        async def script(peer: Peer) -> None:
            while await peer.request() is not None:
                whole = answer(b"good")
                if together:
                    await peer.write(whole + gap)
                else:
                    await peer.write(whole)
                    await peer.write(gap)

        server = await serve(script)
        pool = pool_of(server)
        for _ in range(4):
            assert await fetch(pool) == (200, b"good")
            await asyncio.sleep(0.01)
        if gap.strip():
            assert server.connections == 4

    async def test_every_cut_reads_the_same(self, serve: Serve, pool_of: PoolOf) -> None:
        whole = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"
            b"5;e=1\r\nhello\r\n6\r\n world\r\n0\r\nX-A: 2\r\n\r\n"
        )
        cut = 0

        async def script(peer: Peer) -> None:
            while await peer.request() is not None:
                await peer.write(whole[:cut])
                await asyncio.sleep(0.0005)
                await peer.write(whole[cut:])

        server = await serve(script)
        pool = pool_of(server)
        for position in range(1, len(whole)):
            cut = position
            reply = await pool.send(CALL, soon())
            assert await read_all(reply) == b"hello world"
            assert reply.headers[b"x-a"] == b"1"  # a trailer changes nothing
            reply.close()
        assert server.connections == 1

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 O",
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: 1\r\n" % number for number in range(300)) + b"\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        ],
        ids=["cut head", "many headers", "endless 1xx", "coding", "both lengths"],
    )
    async def test_heads_that_cannot_be_trusted(self, serve: Serve, pool_of: PoolOf, data: bytes) -> None:
        pool = pool_of(await serve(once(data)))
        with pytest.raises(Failed) as caught:
            await fetch(pool)
        assert caught.value.failure == "bad_answer"
        assert pool.size == 0

    async def test_endless_trailers_are_cut(self, serve: Serve, pool_of: PoolOf) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(CHUNKED + b"2\r\nhe\r\n0\r\nx: ")
            while not peer.writer.is_closing():
                await peer.write(b"a" * 50_000)
                await asyncio.sleep(0)

        reply = await pool_of(await serve(script)).send(CALL, soon())
        with pytest.raises(Failed) as caught:
            await read_all(reply)
        assert caught.value.failure == "bad_answer"
        reply.close()

    async def test_a_call_is_not_repeated_once_the_answer_began(self, serve: Serve, pool_of: PoolOf) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(answer(b"ok"))
            await peer.request()
            await peer.write(b"HTTP/1.1 20")

        server = await serve(script)
        pool = pool_of(server)
        assert await fetch(pool) == (200, b"ok")
        with pytest.raises(Failed) as caught:
            await fetch(pool)
        assert caught.value.failure == "bad_answer"
        assert (len(server.heads), pool.stale_retries) == (2, 0)

    async def test_a_reset_does_not_end_an_answer_without_a_length(self, serve: Serve, pool_of: PoolOf) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await asyncio.sleep(0.02)
            peer.reset()

        reply = await pool_of(await serve(script)).send(CALL, soon())
        assert await reply.read(soon()) == b"hello"
        with pytest.raises(Failed) as caught:
            await reply.read(soon())
        assert caught.value.failure == "bad_answer"
        reply.close()


class TestFlow:
    async def test_a_slow_reader_stops_the_server(self, serve: Serve, pool_of: PoolOf) -> None:
        """Unread bytes stay with the server, not in our memory."""
        sent = 0
        total = 40_000_000

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            for _ in range(total // 100_000):
                await peer.write(bytes(100_000))
                sent += 100_000

        pool = pool_of(await serve(script))
        reply = await pool.send(CALL, soon())
        connection = reply._connection
        assert connection
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        assert sent < total
        assert connection._unread <= UNREAD + READ  # one more read
        assert len(await read_all(reply)) == total
        reply.close()
        assert pool.idle == 1

    async def test_an_early_answer_to_a_large_body_is_heard(self, serve: Serve, pool_of: PoolOf) -> None:
        """The server refuses (413) and stops reading; the rest of the body is not sent, nothing hangs."""

        async def script(peer: Peer) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.write(answer(b"too large", b"413 Content Too Large"))
            await asyncio.sleep(30)

        pool = pool_of(await serve(script))
        assert await fetch(pool, bytes(30_000_000)) == (413, b"too large")
        assert pool.size == 0  # half a request was sent on it: not used again

    async def test_a_server_that_does_not_take_the_body(self, serve: Serve, pool_of: PoolOf) -> None:
        async def script(peer: Peer) -> None:
            await asyncio.sleep(30)

        pool = pool_of(await serve(script))
        with pytest.raises(Failed) as caught:
            await pool.send(Call(b"/x", bytes(30_000_000)), soon(0.1))
        assert caught.value.failure == "timeout"
        assert pool.size == 0

    async def test_small_packets_are_not_held_back(self, serve: Serve, pool_of: PoolOf) -> None:
        pool = pool_of(await serve(always(answer())))
        reply = await pool.send(CALL, soon())
        assert reply._connection
        sock = reply._connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        reply.close()


class TestTurns:
    async def test_a_flood_that_is_poured_leaves_the_loop_its_turns(self, serve: Serve, pool_of: PoolOf) -> None:
        """A loop reads one socket many times in a turn: what is handed on in one is bounded."""
        body = bytes(4_000_000)
        reply = await pool_of(await serve(always(answer(body)))).send(CALL, soon())
        loop, turn, taken = asyncio.get_running_loop(), 0, dict[int, int]()

        def tick() -> None:
            nonlocal turn
            turn += 1
            ticking.append(loop.call_soon(tick))

        def take(data: bytes) -> float:
            taken[turn] = taken.get(turn, 0) + len(data)
            return soon()

        ticking = [loop.call_soon(tick)]
        assert await reply.pour(take, soon()) is False
        ticking[-1].cancel()
        reply.close()
        assert sum(taken.values()) == len(body)
        assert max(list(taken.values())[1:]) <= 2 * POUR
