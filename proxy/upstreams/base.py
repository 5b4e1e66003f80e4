"""The upstream seam: one method sends a call, what comes back is read until it ends.

Three implementations: `pool` (our own HTTP/1.1 pool, the default), `httpx_client` (HTTP/2, forward proxies,
client certificates) and `litellm_client` (vendors that do not speak OpenAI's dialect). All answer OpenAI's bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from routes import failure
from routes.value import value


@dataclass(frozen=True, slots=True)
class TLS:
    """How a server proves itself, and we to it. Verification is never off."""

    ca: str | None = None  # a CA bundle's path; None: the system's
    certificate: str | None = None  # client certificate and key, as files
    key: str | None = None
    seen: tuple[bytes | None, ...] = ()  # what the files held: with others, it is another client's


@dataclass(frozen=True, slots=True)
class Target:
    """A server as config names it: where, and the headers it always gets (secrets among them). Never printed."""

    name: str  # the upstream's name in config; the metrics' `endpoint` label
    base_url: str  # without a trailing slash, e.g. https://api.openai.com/v1
    headers: tuple[tuple[bytes, bytes], ...] = ()  # authorization or api-key, and static ones from config
    client: str = "pool"  # `pool`, `httpx` or `litellm`
    tls: TLS = TLS()
    proxy: str | None = None  # a forward proxy's URL (httpx client only)
    http2: bool = False  # httpx client only
    max_connections: int = 1000
    keep_alive: float = 50.0  # seconds an idle connection is kept; below what servers keep (OpenAI's peers: 60)
    # LiteLLM only: `provider`, and what `litellm.acompletion` takes (api_key, api_base...). Compared, not hashed.
    provider: Mapping[str, object] | None = field(default=None, hash=False)

    @property
    def upstream(self) -> str:
        """The upstream in config: of several keys (`openai#2`) each has a target."""
        return self.name.partition("#")[0]

    def __repr__(self) -> str:
        return f"Target({self.name!r}, {self.base_url!r})"


@value
class Call:
    """One HTTP request to a target. Deadlines are `loop.time()` values, seconds."""

    path: bytes  # below the base URL: b"/chat/completions"
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()  # the few of the client's that are allow-listed
    stream: bool = False
    connect_timeout: float = 2.0  # seconds, for name and TCP
    tls_timeout: float = 3.0  # seconds, for the handshake after that


# Takes bytes without waiting; returns the deadline for the next ones, or None to be given no more.
Take = Callable[[bytes], float | None]


class Reply(Protocol):
    """An answer whose head has come. Always `close()` it, in a `finally`: close never waits and never fails."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Names in lower case; the last of repeated ones."""
        ...

    @property
    def retried_stale(self) -> bool:
        """An idle connection turned out to be closed by the server, so the call was sent again on a fresh one."""
        ...

    async def read(self, deadline: float) -> bytes:
        """Return all bytes that have come since the last read, waiting for some; b"" when the body is complete.

        Raises `Failed`: `timeout` when nothing came before `deadline`, `bad_answer` when the body broke off. A
        timeout breaks nothing: read again with a later deadline to go on waiting.
        """
        ...

    async def pour(self, take: Take, deadline: float) -> bool:
        """Give `take` the bytes as they come, some at once, until it has had enough or the body is complete.

        True where it has had enough; False at the end. `deadline` is the first one, `take` says the next. Raises as
        `read` does, and what `take` raises.
        """
        ...

    def close(self) -> None:
        """Give the connection back if the body is complete, else drop it, which tells the upstream to stop."""
        ...


class Upstream(Protocol):
    """Everything the proxy asks of a model server."""

    async def send(self, call: Call, deadline: float) -> Reply:
        """Send the call and wait for the answer's head until `deadline`. Raises `Failed`.

        Safe to cancel at any await: no connection or slot is lost.
        """
        ...

    async def close(self) -> None:
        """Close idle connections, let running ones finish. Sending still works, for requests of the old snapshot."""
        ...


class Failed(Exception):
    """An attempt failed, in one of the classes of `routes.failure`. The message names no secret."""

    def __init__(
        self,
        failure_class: str,
        message: str,
        *,
        phase: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        error: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure_class
        self.message = message
        self.phase = phase  # of a timeout: connect, tls, first_content, idle, total; of a connect: tls, too
        self.status = status  # the upstream's HTTP status, if one came
        self.retry_after = retry_after  # seconds
        self.error = error  # the upstream's own `error` object, for classes that keep its four fields


def connect_failed(message: str, phase: str | None = None) -> Failed:
    return Failed(failure.CONNECT, message, phase=phase)
