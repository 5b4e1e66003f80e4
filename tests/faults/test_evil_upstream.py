"""Threat T25: a model server that is not ours sends every header that a caller should not get."""

import asyncio
import contextlib

import pytest

from tests.faults.conftest import Form
from tests.faults.rig import KEYS, Rig

CANARY = "evil-header-canary"
HEADERS = (
    "set-cookie: session={canary}; Domain=localhost", "location: http://127.0.0.1:{port}/", "refresh: 0; url=http://x/",
    "access-control-allow-origin: *", "access-control-allow-credentials: true", "content-security-policy: none",
    "strict-transport-security: max-age=0", "x-accel-redirect: /etc/passwd", "x-sendfile: /etc/passwd",
    "link: </x>; rel=preload", "www-authenticate: Basic realm=x", "proxy-authenticate: Basic",
    "x-request-id: {canary}",
    "x-pointsman-route: {canary}", "server: {canary}", "via: {canary}", 'alt-svc: h3="x:1"', 'clear-site-data: "*"',
    "connection: x-secret", "x-secret: {canary}", "content-disposition: attachment", "authorization: Bearer {canary}",
    "x-should-retry: true", "openai-organization: {canary}",
)  # fmt: skip
LISTED = {
    "content-type", "content-length", "transfer-encoding", "cache-control", "x-accel-buffering", "date", "server",
    "connection", "x-request-id", "x-should-retry", "retry-after",
}  # fmt: skip
EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = b'{"choices": [{"message": {"content": "x"}}]}'
STATUSES = ("200 OK", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect", "401 Unauthorized", "503 Busy")


class Evil:
    """The server; `status` is what it answers with, `heads` what it was sent."""

    def __init__(self, *, stream: bool) -> None:
        self.status = ""
        self.heads: list[bytes] = []
        self._kind = "text/event-stream" if stream else "application/json"
        self._body = EVENTS if stream else WHOLE

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        lines = [line.format(canary=CANARY, port=port) for line in HEADERS]
        lines += [f"content-type: {self._kind}", f"content-length: {len(self._body)}"]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the proxy is done with it
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.heads.append(head)
                writer.write("\r\n".join([f"HTTP/1.1 {self.status}", *lines, "", ""]).encode() + self._body)
                await writer.drain()
        writer.close()


@pytest.mark.parametrize("client", ["pool", "httpx"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_servers_headers_end_here(form: Form, stream: bool, client: str) -> None:
    """Only what is listed comes out, nothing is kept for the next caller, and no redirect is followed."""
    evil = Evil(stream=stream)
    async with await asyncio.start_server(evil, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        rig = Rig(upstreams={"tuned": url}, settings={"limits": f", client: {client}"}, gauge=False)
        await asyncio.to_thread(rig.__enter__)
        try:
            for evil.status in STATUSES:
                evil.heads.clear()
                for tenant in KEYS:
                    asked = await rig.ask("alone", stream=stream, tenant=tenant)
                    answer = asked.answer
                    stray = {name for name in answer.headers.keys() - LISTED if not name.startswith("x-pointsman-")}
                    assert not stray
                    assert CANARY.encode() not in asked.client.received
                    assert (answer.status == 200) == evil.status.startswith("200"), (evil.status, answer.status)
                assert 2 <= len(evil.heads) <= 6
                assert all(head.startswith(b"POST /v1/chat/completions ") for head in evil.heads)
                assert not any(b"cookie" in head.lower() or CANARY.encode() in head for head in evil.heads)
        finally:
            await asyncio.to_thread(rig.__exit__, None, None, None)
