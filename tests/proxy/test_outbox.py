"""What is written in a busy turn of the loop goes out together, in order, soon, and to those who are still there."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
import structlog

from proxy import outbox
from proxy.outbox import BUSY, MOST, SMALL, Outbox
from tests.proxy.test_listener import LOOPS, Served, play, said


class Peer:
    """A transport that notes what it was given, in one list with its neighbours."""

    def __init__(self, name: str, sent: list[tuple[str, bytes]]) -> None:
        self.name, self.sent = name, sent
        self.closing = self.is_broken = False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: bytes) -> None:
        assert not self.closing
        if self.is_broken:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.sent.append((self.name, data))


class Peers:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.outbox = Outbox()
        self.one, self.two = Peer("one", self.sent), Peer("two", self.sent)

    def write(self, peer: Peer, data: bytes) -> None:
        self.outbox.write(cast(Any, peer), data)

    async def get_busy(self, writes: int = BUSY) -> None:
        for _ in range(writes):
            self.write(self.one, b"before")
        await asyncio.sleep(0)
        assert len(self.sent) == writes
        self.sent.clear()


@pytest.fixture
def peers() -> Peers:
    return Peers()


async def test_in_a_calm_loop_each_write_goes_at_once(peers: Peers) -> None:
    for turn in range(3):
        await peers.get_busy(BUSY - 1)
        peers.write(peers.one, b"%d" % turn)
        assert peers.sent == [("one", b"%d" % turn)]
        await asyncio.sleep(0)
        peers.sent.clear()


async def test_after_a_busy_turn_writes_go_together_when_the_loop_comes_round(peers: Peers) -> None:
    await peers.get_busy()
    peers.write(peers.one, b"1")
    peers.write(peers.two, b"2")
    peers.write(peers.one, b"3")
    assert peers.sent == []
    await asyncio.sleep(0)
    assert peers.sent == [("one", b"1"), ("two", b"2"), ("one", b"3")]


async def test_after_a_calm_turn_they_go_at_once_again(peers: Peers) -> None:
    await peers.get_busy()
    peers.write(peers.one, b"1")
    await asyncio.sleep(0)
    peers.write(peers.two, b"2")
    assert peers.sent == [("one", b"1"), ("two", b"2")]


async def test_not_more_than_some_wait(peers: Peers) -> None:
    await peers.get_busy()
    for number in range(MOST - 1):
        peers.write(peers.one, b"%d" % number)
    assert peers.sent == []
    peers.write(peers.two, b"last")
    assert len(peers.sent) == MOST
    assert peers.sent[-1] == ("two", b"last")


async def test_a_large_piece_goes_at_once_after_those_before_it(peers: Peers) -> None:
    await peers.get_busy()
    peers.write(peers.one, b"head")
    peers.write(peers.one, b"x" * (SMALL + 1))
    peers.write(peers.one, b"tail")
    assert [len(data) for _, data in peers.sent] == [4, SMALL + 1]
    await asyncio.sleep(0)
    assert peers.sent[-1] == ("one", b"tail")


async def test_a_write_that_fails_costs_its_own_connection_only(peers: Peers) -> None:
    await peers.get_busy()
    peers.one.is_broken = True
    peers.write(peers.one, b"1")
    peers.write(peers.two, b"2")
    with structlog.testing.capture_logs() as said:
        await asyncio.sleep(0)
    assert peers.sent == [("two", b"2")]
    assert peers.one.closing
    assert [line["event"] for line in said] == ["defect: bytes were not sent"]


async def test_who_has_gone_meanwhile_costs_nobody_else_anything(peers: Peers) -> None:
    await peers.get_busy()
    peers.write(peers.one, b"1")
    peers.write(peers.two, b"2")
    peers.one.closing = True
    await asyncio.sleep(0)
    assert peers.sent == [("two", b"2")]
    peers.outbox.flush()
    assert peers.sent == [("two", b"2")]


@LOOPS
def test_whoever_asks_for_the_end_or_half_closes_has_the_whole_answer(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real sockets: uvloop looks at them before the loop has come round, asyncio after it."""
    monkeypatch.setattr(outbox, "BUSY", 0)

    async def scene(served: Served) -> None:
        served.app.outbox.is_busy = True
        last = served.client(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        halves = [served.client() for _ in range(20)]
        for half in halves:
            half.shutdown(socket.SHUT_WR)
        for client in (last, *halves):
            assert (await said(client)).endswith(b"hello")
        await served.listener.stop(5)

    play(new_loop, scene)
