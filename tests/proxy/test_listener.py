"""Listening sockets: where they listen, who can reach them; and a set that one can wait for to be empty."""

import asyncio
import socket

import pytest

from proxy.listener import Open, address_of, bind, is_loopback


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
def test_port_0_takes_a_free_one_that_can_be_connected_to(address: str) -> None:
    with bind(address) as sock:
        shown = address_of(sock)
        host, _, port = shown.rpartition(":")
        assert (host, int(port) > 0, sock.getblocking()) == ("127.0.0.1", True, False)
        assert is_loopback(sock)
        socket.create_connection((host, int(port)), timeout=20).close()


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0"])
def test_every_address_is_not_only_this_machine(address: str) -> None:
    with bind(address) as sock:
        assert address_of(sock).startswith("0.0.0.0:")
        assert not is_loopback(sock)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_is_written_in_brackets() -> None:
    try:
        sock = bind("[::1]:0")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    with sock:
        assert address_of(sock).startswith("[::1]:")
        assert is_loopback(sock)


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(OSError, match="in use"):
        bind(address_of(taken))


async def test_a_set_can_be_waited_for_to_be_empty() -> None:
    working = Open()
    assert await working.wait_empty(0.0)
    working |= {1, 2}
    assert not await working.wait_empty(0.0)
    waiting = asyncio.gather(working.wait_empty(20.0))
    await asyncio.sleep(0)
    working.discard(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    working.discard(2)
    assert await waiting == [True]
