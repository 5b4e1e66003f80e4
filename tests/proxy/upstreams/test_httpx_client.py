"""What only the httpx client does: HTTP/2 and forward proxies."""

import asyncio
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from proxy.upstreams.base import Failed
from tests.proxy.upstreams.conftest import Certificates, Connect, Serve, fetch
from tests.proxy.upstreams.rawserver import Peer, always, answer


async def http2(peer: Peer) -> None:
    """A model server that speaks HTTP/2 only; it echoes."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    bodies: dict[int, bytes] = {}
    await peer.write(connection.data_to_send())
    while data := await peer.reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                peer.server.heads.append(b"h2")
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, bodies[event.stream_id], end_stream=True)
        await peer.write(connection.data_to_send())


async def test_http2_calls_share_a_connection(serve: Serve, connect: Connect, certificates: Certificates) -> None:
    server = await serve(http2, tls=certificates.server())
    upstream = connect(server, "httpx", tls=certificates.trusted, http2=True)
    assert await fetch(upstream, b"first") == (200, b"first")
    found = await asyncio.gather(*(fetch(upstream, b"%d" % number) for number in range(20)))
    assert found == [(200, b"%d" % number) for number in range(20)]
    assert (server.connections, len(server.heads)) == (1, 21)


async def test_a_forward_proxy_is_used(serve: Serve, connect: Connect) -> None:
    relay = await serve(always(answer(b"relayed")))
    upstream = connect("http://up.test/v1", "httpx", proxy=relay.url.removesuffix("/v1"))
    assert await fetch(upstream) == (200, b"relayed")
    assert relay.heads[0].startswith(b"POST http://up.test/v1/chat/completions HTTP/1.1\r\n")


async def test_a_forward_proxy_that_refuses(serve: Serve, connect: Connect, certificates: Certificates) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.write(answer(b"", b"403 Forbidden"))

    relay = await serve(refuse)
    upstream = connect("https://up.test/v1", "httpx", proxy=relay.url.removesuffix("/v1"), tls=certificates.trusted)
    with pytest.raises(Failed) as caught:
        await fetch(upstream)
    assert caught.value.failure == "connect"


async def test_the_environment_does_not_reroute(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await fetch(connect(await serve(always(answer(b"ok"))), "httpx")) == (200, b"ok")


async def test_a_proxy_that_cannot_be_is_found_at_once(connect: Connect) -> None:
    options: dict[str, Any] = {"proxy": "gopher://x"}
    with pytest.raises(ValueError, match="gopher"):
        connect("http://up.test", "httpx", **options)


async def test_a_cookie_is_not_kept(serve: Serve, connect: Connect) -> None:
    """All callers share this client: what a server hands one of them must not go out with the next one's request."""
    server = await serve(always(answer(b"ok", headers=b"set-cookie: session=of-the-first; Path=/\r\n")))
    upstream = connect(server, "httpx")
    for _ in range(3):
        assert await fetch(upstream) == (200, b"ok")
    assert not [head for head in server.heads if b"cookie" in head.lower()]
