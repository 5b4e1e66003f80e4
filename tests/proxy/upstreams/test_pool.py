"""What only our own pool does: slots, the queue, keep-alive, connecting, cancels by the thousand."""

import asyncio
import dataclasses
import gc
import os
import random
import socket

import pytest

from proxy.upstreams.base import Call, Failed
from proxy.upstreams.pool import Pool
from tests.proxy.upstreams.conftest import Certificates, Connect, PoolOf, Serve, fetch, read_all, soon, spawn, until
from tests.proxy.upstreams.rawserver import Peer, RawServer, Script, always, answer, once

CALL = Call(b"/chat/completions", b'{"model": "m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["calm", "busy"])
def is_busy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestSlots:
    async def test_the_queue_is_first_come_first_served(self, serve: Serve, pool_of: PoolOf) -> None:
        order = []

        async def script(peer: Peer) -> None:
            while (body := await peer.request()) is not None:
                order.append(int(body))
                await peer.write(answer())

        pool = pool_of(await serve(script), max_connections=1)
        tasks = []
        for number in range(20):
            tasks.append(spawn(fetch(pool, b"%d" % number)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == list(range(20))
        assert (pool.size, pool.idle, pool.waiting) == (1, 1, 0)

    async def test_a_waiter_takes_over_the_slot_of_a_dropped_connection(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(always(CHUNKED))
        pool = pool_of(server, max_connections=1)
        first = await pool.send(CALL, soon())
        waiting = spawn(pool.send(CALL, soon()))
        await until(lambda: pool.waiting)
        first.close()
        (await waiting).close()
        assert (pool.size, server.connections) == (0, 2)

    async def test_a_waiter_cancelled_as_it_is_served_passes_it_on(self, serve: Serve, pool_of: PoolOf) -> None:
        pool = pool_of(await serve(always(answer(b"ok"))), max_connections=1)
        for whole in (True, False):  # handed a connection, or a bare slot
            first = await pool.send(CALL, soon())
            if whole:
                await read_all(first)
            waiting = spawn(fetch(pool))
            await until(lambda: pool.waiting)
            first.close()
            waiting.cancel()
            await asyncio.wait((waiting,))
            assert await fetch(pool) == (200, b"ok")
        assert pool.size == 1

    async def test_a_waiter_whose_connection_dies_on_the_way_gets_a_fresh_one(
        self, serve: Serve, pool_of: PoolOf
    ) -> None:
        """The server hangs up in the moment that a connection changes hands."""

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(answer(b"ok"))

        server = await serve(script)
        pool = pool_of(server, max_connections=1)
        assert await asyncio.gather(*(fetch(pool) for _ in range(8))) == [(200, b"ok")] * 8

    async def test_a_failed_connect_frees_its_slot(self, pool_of: PoolOf) -> None:
        server = RawServer(always())
        async with server.running():
            pass
        pool = pool_of(server, max_connections=2)
        results = await asyncio.gather(*(fetch(pool) for _ in range(9)), return_exceptions=True)
        assert {result.failure for result in results if isinstance(result, Failed)} == {"connect"}
        assert (pool.size, len(results)) == (0, 9)

    async def test_a_retry_that_cannot_connect_frees_its_slot(self, serve: Serve, pool_of: PoolOf) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.write(answer(b"ok"))
            await peer.request()

        gone = RawServer(always())
        async with gone.running():
            pass
        pool = pool_of(await serve(script), max_connections=1)
        assert await fetch(pool) == (200, b"ok")
        pool._origin = dataclasses.replace(pool._origin, port=gone.port)
        with pytest.raises(Failed) as caught:
            await fetch(pool)
        assert (caught.value.failure, pool.stale_retries, pool.size) == ("connect", 1, 0)


class TestKeepAlive:
    async def test_the_connection_used_last_is_taken_first(self, serve: Serve, pool_of: PoolOf) -> None:
        """So that the others grow old and are closed when the load falls."""
        served = []

        async def script(peer: Peer) -> None:
            number = peer.server.connections
            while await peer.request() is not None:
                served.append(number)
                await peer.write(answer())

        pool = pool_of(await serve(script))
        replies = [await pool.send(CALL, soon()) for _ in range(3)]
        for reply in replies:
            await read_all(reply)
            reply.close()
        for _ in range(3):
            await fetch(pool)
        assert served == [1, 2, 3, 3, 3, 3]

    async def test_idle_connections_are_closed_in_time(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(always(answer()))
        pool = pool_of(server, keep_alive=0.05)
        await fetch(pool)
        assert pool.idle == 1
        await until(lambda: not server.open)
        assert (pool.size, pool.idle) == (0, 0)

    async def test_an_expired_connection_is_not_used(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(always(answer()))
        pool = pool_of(server, keep_alive=0.0)
        await fetch(pool)
        await fetch(pool)
        assert (server.connections, pool.stale_retries) == (2, 0)

    async def test_the_servers_own_limit_counts(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(always(answer(headers=b"Keep-Alive: max=9, timeout=1\r\n")))
        pool = pool_of(server)
        await fetch(pool)
        await fetch(pool)
        assert server.connections == 2  # a second's margin leaves nothing of one second

    @pytest.mark.parametrize("headers", [b"Connection: close\r\n", b"Connection: Close, x\r\n"])
    async def test_a_server_that_says_close_is_believed(self, serve: Serve, pool_of: PoolOf, headers: bytes) -> None:
        server = await serve(always(answer(headers=headers)))
        pool = pool_of(server)
        await fetch(pool)
        await fetch(pool)
        assert (server.connections, pool.stale_retries) == (2, 0)

    async def test_a_connection_closed_while_idle_leaves_the_pool(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(once(answer()))
        pool = pool_of(server)
        await fetch(pool)
        await until(lambda: not pool.size)
        await fetch(pool)
        assert (server.connections, pool.stale_retries) == (2, 0)

    async def test_a_race_between_close_and_call_is_never_seen(self, serve: Serve, pool_of: PoolOf) -> None:
        """The server closes right after each answer, calls come at any distance: none fails, none is sent twice."""
        bodies = []

        async def script(peer: Peer) -> None:
            bodies.append(await peer.request())
            await peer.write(answer(b"ok"))

        pool = pool_of(await serve(script), max_connections=4)
        chance = random.Random(3)

        async def some(start: int) -> None:
            for number in range(start, start + 60):
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                assert await fetch(pool, b"%d" % number) == (200, b"ok")

        await asyncio.gather(*(some(start) for start in (0, 100, 200, 300, 400)))
        assert len(bodies) == len(set(bodies)) == 300

    async def test_closing_the_pool_closes_idle_connections(self, serve: Serve, pool_of: PoolOf) -> None:
        server = await serve(always(answer()))
        pool = pool_of(server)
        await fetch(pool)
        await pool.close()
        await until(lambda: not server.open)
        assert pool.size == 0


class TestConnecting:
    async def test_a_stalled_handshake_has_a_limit_of_its_own(
        self, serve: Serve, pool_of: PoolOf, certificates: Certificates
    ) -> None:
        async def script(peer: Peer) -> None:
            await peer.gone()

        server = await serve(script)  # accepts, and never speaks TLS
        pool = pool_of(f"https://localhost:{server.port}", tls=certificates.trusted)
        with pytest.raises(Failed) as caught:
            await pool.send(Call(b"/x", b"", tls_timeout=0.1), soon())
        assert (caught.value.failure, caught.value.phase) == ("timeout", "tls")
        await until(lambda: not server.open)
        assert pool.size == 0

    async def test_all_addresses_are_tried(
        self, serve: Serve, pool_of: PoolOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = await serve(always(answer(b"ok")))
        rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
        assert await fetch(pool_of(f"http://two.test:{server.port}")) == (200, b"ok")

    async def test_a_name_that_does_not_exist(self, pool_of: PoolOf, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(Failed) as caught:
            await fetch(pool_of("http://nowhere.test"))
        assert caught.value.failure == "connect"
        assert "name or service not known" in caught.value.message

    @pytest.mark.parametrize("url", ["ftp://x", "http://", "http://user:secret@host", "http://host?x=1"])
    async def test_base_urls_that_cannot_be(self, connect: Connect, url: str) -> None:
        with pytest.raises(ValueError, match=r"URL") as caught:
            connect(url)
        assert "secret" not in str(caught.value)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestCancels:
    @pytest.mark.parametrize("calls", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
    async def test_thousands_of_cancels_lose_nothing(self, serve: Serve, pool_of: PoolOf, calls: int) -> None:
        """Cancelled while waiting, connecting, before the head, in the body: every slot, task and socket is found
        again."""
        await self.storm(pool_of(await serve(mixed(4))), calls)

    async def test_cancels_in_a_handshake_lose_nothing(
        self, serve: Serve, pool_of: PoolOf, certificates: Certificates
    ) -> None:
        server = await serve(mixed(5), tls=certificates.server())
        await self.storm(pool_of(server, tls=certificates.trusted, max_connections=4), 200, max_steps=60)

    @staticmethod
    async def storm(pool: Pool, calls: int, max_steps: int = 30) -> None:
        chance = random.Random(11)
        pool._max = min(pool._max, 10)
        for _ in range(3):
            await fetch(pool)
        tasks, files = len(asyncio.all_tasks()), open_files()
        left = calls
        ends = {"finished": 0, "cancelled": 0}

        async def some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                task = spawn(fetch(pool))
                for _ in range(chance.randrange(max_steps)):
                    await asyncio.sleep(0)
                    if task.done():
                        break
                task.cancel()
                await asyncio.wait((task,))
                ends["cancelled" if task.cancelled() else "finished"] += 1
                if not task.cancelled():
                    assert task.result() == (200, b"hello")

        await asyncio.gather(*(some() for _ in range(20)))
        assert min(ends.values()) > calls // 50, ends  # both ways are taken often
        replies = await asyncio.gather(*(pool.send(CALL, soon()) for _ in range(pool._max)))  # all slots at once
        assert [await read_all(reply) for reply in replies] == [b"hello"] * pool._max
        for reply in replies:
            reply.close()
        assert (pool.size, pool.waiting) == (pool.idle, 0)
        await pool.close()
        assert pool.size == 0
        gc.collect()
        await until(lambda: len(asyncio.all_tasks()) <= tasks and open_files() <= files)


def mixed(every: int) -> Script:
    """Answer in pieces; after some answers close, so that connects go on happening."""

    async def script(peer: Peer) -> None:
        for _ in range(every):
            if await peer.request() is None:
                return
            await peer.write(CHUNKED + b"2\r\nhe\r\n")
            await asyncio.sleep(0)
            await peer.write(b"3\r\nllo\r\n0\r\n\r\n")

    return script
