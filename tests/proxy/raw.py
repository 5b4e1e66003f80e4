"""A client on a bare socket: it sends what no library would, and sees what a library would repair."""

import json
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.proxy.conftest import KEY

TIMEOUT = 15.0  # seconds to wait for bytes before a test fails
HEAD = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's shape; fails if it is anything else."""
        assert set(self.json) == {"error"}, self.body
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"]
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"].startswith("req_")
        return error


class Raw:
    """`with Raw(proxy.url) as raw:`"""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def send(self, data: bytes) -> Self:
        self._socket.sendall(data)
        return self

    def answer(self, method: str = "POST") -> Answer:
        """Read one answer, by its own framing."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if method == "HEAD":
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return Answer(int(status), headers, body)

    def read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found + end

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        while data := self._socket.recv(65536):
            self._buffer += data
        found, self._buffer = self._buffer, b""
        return found

    @property
    def is_open(self) -> bool:
        """Whether the other side has neither closed nor said more; asks it with a request of its own."""
        try:
            self.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            return self.answer().status == 200
        except (ConnectionError, AssertionError):
            return False

    def _chunks(self) -> bytes:
        found = b""
        while True:
            while b"\r\n" not in self._buffer:
                self._more()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            data = self._exactly(int(size, 16) + 2)[:-2]
            if not data:
                return found
            found += data

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _more(self) -> None:
        data = self._socket.recv(65536)
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data


def post(body: bytes, *, path: str = "/v1/chat/completions", head: str = HEAD, version: str = "HTTP/1.1") -> bytes:
    """The bytes of a well-framed POST."""
    return f"POST {path} {version}\r\n{head}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", head: str = HEAD) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n".encode() + framed + end
