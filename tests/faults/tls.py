"""Model servers whose TLS is wrong, each in its own way; what reaches them in plain text is kept."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass
class Heard:
    """What a server was told."""

    port: int = 0
    plain: bytearray = field(default_factory=bytearray)  # after its handshake; before it, where it stalls

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.port}/v1"


@asynccontextmanager
async def server(wrong: str, ca: trustme.CA) -> AsyncIterator[Heard]:
    """`wrong`: `expired`, `wrong name`, `untrusted`, or `stalled` before its handshake."""
    heard = Heard()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.plain += data
        writer.close()

    context = None if wrong == "stalled" else _context(wrong, ca)
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    heard.port = listener.sockets[0].getsockname()[1]
    try:
        yield heard
    finally:
        listener.close()


def _context(wrong: str, ca: trustme.CA) -> ssl.SSLContext:
    name = "elsewhere.test" if wrong == "wrong name" else "localhost"
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issuer = trustme.CA() if wrong == "untrusted" else ca
    certificate = issuer.issue_cert(name, not_after=ended if wrong == "expired" else None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusted(ca: trustme.CA, folder: Path) -> Path:
    """The file of what the proxy trusts."""
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path
