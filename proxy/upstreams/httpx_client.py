"""The upstream seam on httpx: HTTP/2, forward proxies and SOCKS, for models whose config asks for one.

Fifty times the CPU of our own pool, so never the default. httpcore loses pool slots when calls that wait for one are
cancelled (encode/httpcore #1093), so its own limit is off and the waiting is done here.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from proxy import late
from proxy.tasks import Tasks
from proxy.upstreams import tls
from proxy.upstreams.address import Origin
from proxy.upstreams.base import Call, Failed, Target, connect_failed
from proxy.upstreams.confine import no_cookies
from proxy.upstreams.request import checked, common_headers
from proxy.upstreams.stream import StreamReply
from routes import failure

# httpcore's words, there is no type for it. It says so too when a head broke off in its middle, which cannot be told
# apart here (our pool can).
NO_ANSWER = "Server disconnected without sending a response"


class HttpxUpstream:
    """A `base.Upstream`; make it in the event loop that uses it."""

    def __init__(self, target: Target) -> None:
        origin = Origin.parse(target.base_url)
        checked(target.headers)
        self._target = target
        self._name = target.name
        self._context = tls.context(target.tls) if origin.secure else None
        self._slots = asyncio.Semaphore(target.max_connections)
        self._tasks = Tasks()
        self._running = 0
        self._is_closed = False
        self._client: httpx.AsyncClient | None = None
        self.stale_retries = 0
        self._open()  # now, so that a proxy URL that cannot be used is found before a request

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            target = self._target
            self._client = httpx.AsyncClient(
                headers=common_headers(target),
                http1=True,
                http2=target.http2,
                verify=self._context or True,
                proxy=target.proxy,
                trust_env=False,  # config says where calls go, not HTTP_PROXY or a .netrc
                follow_redirects=False,
                cookies=no_cookies(),
                limits=httpx.Limits(
                    max_connections=None,
                    max_keepalive_connections=target.max_connections,
                    keepalive_expiry=target.keep_alive,
                ),
            )
        return self._client

    async def send(self, call: Call, deadline: float) -> StreamReply:
        try:
            checked(call.headers)
        except ValueError as error:
            raise Failed(failure.REQUEST, str(error), status=400) from None
        await self._slot(call, deadline)
        try:
            async with late.until(deadline):
                response, retried = await self._exchange(call)
        except BaseException as error:  # also a cancellation: the slot goes back, then the error is told apart
            self._release()
            if isinstance(error, TimeoutError):
                why = f"{self._name!r} did not begin to answer in time"
                raise Failed(failure.TIMEOUT, why, phase="first_content") from None
            if _is_unanswered(error):
                raise connect_failed(f"{self._name!r} closed the connection without an answer") from error
            if isinstance(error, Exception) and (failed := self._translate(error)) is not None:
                raise failed from error
            raise
        reply = StreamReply(
            response.status_code,
            _headers(response),
            response.aiter_raw(),
            name=self._name,
            translate=self._translate,
            shut=response.aclose,
            release=self._release,
            tasks=self._tasks,
        )
        reply.retried_stale = retried
        return reply

    async def close(self) -> None:
        self._is_closed = True
        if not self._running:
            self._shut()
        await self._tasks.wait()

    async def _slot(self, call: Call, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with late.until(min(loop.time() + call.connect_timeout, deadline)):
                await self._slots.acquire()
        except TimeoutError:
            why = f"no free connection to {self._name!r} in time (all {self._target.max_connections} are in use)"
            raise Failed(failure.TIMEOUT, why, phase="connect") from None
        self._running += 1

    def _release(self) -> None:
        self._slots.release()
        self._running -= 1
        if self._is_closed and not self._running:
            self._shut()

    def _shut(self) -> None:
        """Let go of the connections; a later call, of an old snapshot's request, opens anew."""
        client, self._client = self._client, None
        if client is not None:
            self._tasks.spawn(client.aclose(), name=f"close the connections to {self._name}")

    async def _exchange(self, call: Call) -> tuple[httpx.Response, bool]:
        """Send; once more when an idle connection had been closed by the server and no byte came back."""
        for is_retry in (False, True):
            fresh = False

            async def trace(event: str, _: Mapping[str, Any]) -> None:
                nonlocal fresh
                fresh = fresh or event.startswith("connection.connect")

            client = self._open()
            request = client.build_request(
                "POST",
                self._target.base_url.rstrip("/") + call.path.decode("ascii"),
                content=call.body,
                headers=list(call.headers),
                timeout=httpx.Timeout(None, connect=call.connect_timeout),
                extensions={"trace": trace},
            )
            try:
                return await client.send(request, stream=True), is_retry
            except httpx.TransportError as error:
                if fresh or is_retry or not _is_unanswered(error):
                    raise
                self.stale_retries += 1
        raise AssertionError("unreachable: the second try returns or raises")

    def _translate(self, error: Exception) -> Failed | None:
        name = self._name
        if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
            return Failed(failure.TIMEOUT, f"{name!r} could not be connected to in time", phase="connect")
        if isinstance(error, httpx.ConnectError):
            cause = next(_os_errors(error), None)
            return connect_failed(
                f"{name!r} could not be connected to: {tls.reason(cause) if cause else 'connection failed'}"
            )
        if isinstance(error, httpx.ProxyError):
            return connect_failed(f"{name!r} could not be connected to: the forward proxy refused")
        if isinstance(error, httpx.HTTPError | httpx.StreamError):
            return Failed(failure.BAD_ANSWER, f"{name!r} broke off its answer, or it is not HTTP")
        return None


def _is_unanswered(error: BaseException) -> bool:
    """While a head is awaited: the server hung up instead of answering."""
    if isinstance(error, httpx.ConnectError):
        return False
    return isinstance(error, httpx.NetworkError) or NO_ANSWER in str(error)


def _headers(response: httpx.Response) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in response.headers.raw}


def _os_errors(error: BaseException) -> Iterator[OSError]:
    """The operating system's errors behind httpx's, the original one first."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    # anyio wraps the errors of all addresses tried in one OSError of its own, without a number
    for found in reversed(chain):
        if isinstance(found, OSError):
            yield found
