"""A client on a bare socket: it sees what a library would repair or hide."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.standins import StandIn

TASK = [
    {"role": "system", "content": "Answer JSON with the intent."},
    {"role": "user", "content": "Where is my order AC-10423?"},
]
CONTENT = '{"intent":"order_status","order_id":"AC-10423"}'


def chat(*, close: bool = True, headers: str = "", **fields: Any) -> bytes:
    """The bytes of a chat request; `close` lets the answer be read until the end of the connection."""
    body = json.dumps({"model": "strong", "messages": TASK, **fields}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: standin\r\ncontent-type: application/json\r\n{headers}"
        f"content-length: {len(body)}\r\n{'connection: close' if close else 'x: y'}\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def connected(standin: StandIn) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(standin.host, standin.port, limit=2**24)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):  # the fault under test
            await writer.wait_closed()


async def exchange(standin: StandIn, request: bytes) -> bytes:
    """Send a request and read until the connection ends. Raises ConnectionResetError if it ends so."""
    async with connected(standin) as (reader, writer):
        writer.write(request)
        return await reader.read(-1)


def parted(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body (chunks joined)."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return status, headers, unchunked(body) if "transfer-encoding" in headers else body


def unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return found


def events(body: bytes) -> list[Any]:
    """The `data:` of each event, parsed, `[DONE]` as it is."""
    datas = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def said(found: list[Any]) -> str:
    """The content of the chunks, joined."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in found
        if event != "[DONE]"
        for choice in event.get("choices", [])
    )
