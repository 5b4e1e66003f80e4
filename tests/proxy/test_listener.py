"""Binding addresses, and waiting for a set to be empty."""

import asyncio
import socket

import pytest

from proxy.listener import UNSENT, Open, address_of, bind, is_loopback


@pytest.mark.parametrize(
    ("address", "host", "private"),
    [
        ("127.0.0.1:0", "127.0.0.1", True),
        ("127.0.0.3:0", "127.0.0.3", True),
        ("localhost:0", "127.0.0.1", True),
        ("0.0.0.0:0", "0.0.0.0", False),
        (":0", "0.0.0.0", False),
    ],
)
def test_addresses_are_bound_as_written(address: str, host: str, private: bool) -> None:
    with bind(address) as sock:
        assert address_of(sock) == f"{host}:{sock.getsockname()[1]}"
        assert is_loopback(sock) is private
        assert not sock.getblocking()
        socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, sock.getsockname()[1])).close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_in_brackets() -> None:
    try:
        sock = bind("[::1]:0")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with sock:
        assert address_of(sock) == f"[::1]:{sock.getsockname()[1]}"
        assert is_loopback(sock)


def test_a_port_in_use_is_an_error_and_leaves_no_socket() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(OSError, match="in use"):
        bind(address_of(taken))


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system keeps what it likes")
def test_the_system_keeps_little_for_a_client_that_does_not_read() -> None:
    """Of megabytes; what the client's own system takes for it comes on top."""
    with bind("127.0.0.1:0") as sock, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(sock.getsockname())
        sock.setblocking(True)
        taken, _ = sock.accept()
        with taken:
            taken.setblocking(False)
            assert 0 < taken.send(bytes(4 * 2**20)) < 3 * UNSENT


async def test_waiting_for_a_set_to_be_empty() -> None:
    things = Open()
    assert await things.wait_empty(0)
    things |= {1, 2}
    assert not await things.wait_empty(0)
    waiting = [asyncio.get_running_loop().create_task(things.wait_empty(20)) for _ in range(2)]
    await asyncio.sleep(0)
    things.discard(1)
    things.discard(3)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    things.discard(2)
    assert await asyncio.gather(*waiting) == [True, True]
