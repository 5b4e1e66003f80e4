"""A reply on top of a library's stream of bytes: what the httpx and the LiteLLM client share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from proxy import late
from proxy.tasks import Tasks
from proxy.upstreams.base import Failed, Take
from proxy.upstreams.encoding import Decoder, Undecodable
from routes import failure


class StreamReply:
    """A `base.Reply`. One task at a time takes the next bytes, so that a deadline that passes breaks nothing."""

    retried_stale = False

    def __init__(
        self,
        status: int,
        headers: Mapping[bytes, bytes],
        chunks: AsyncIterator[bytes],
        *,
        name: str,  # the target's
        translate: Callable[[Exception], Failed | None],  # a library's exceptions; None: not one of them
        shut: Callable[[], Awaitable[None]],  # ends the library's stream
        release: Callable[[], None],  # told once, when the reply is closed
        tasks: Tasks,
    ) -> None:
        self.status = status
        self.headers = headers
        self._chunks = chunks
        self._name = name
        self._translate = translate
        self._shut = shut
        self._release: Callable[[], None] | None = release
        self._tasks = tasks
        self._next: asyncio.Task[bytes] | None = None
        self._is_complete = False
        self._late = 0  # reads in a row after their deadline
        self._decoder: Decoder | None = None
        encoding = headers.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            try:
                self._decoder = Decoder(encoding)
            except Undecodable as error:
                self.close()
                raise self._bad(str(error)) from None

    async def read(self, deadline: float) -> bytes:
        if self._release is None:
            raise RuntimeError("read after close")
        loop = asyncio.get_running_loop()
        self._late = self._late + 1 if loop.time() > deadline else 0
        if self._late > late.READS:
            raise self._idle()
        while not self._is_complete:
            if self._next is None:
                self._next = loop.create_task(self._take())
            await asyncio.wait((self._next,), timeout=max(0.0, deadline - loop.time()))
            for _ in range(late.TAKEN):
                if self._next.done():
                    break
                await asyncio.sleep(0)
            else:
                raise self._idle()
            taken, self._next = self._next, None
            if data := taken.result():
                return data
        return b""

    async def pour(self, take: Take, deadline: float) -> bool:
        while data := await self.read(deadline):
            after = take(data)
            if after is None:
                return True
            deadline = after
        return False

    async def _take(self) -> bytes:
        try:
            async for data in self._chunks:
                if self._decoder is not None:
                    data = self._decoder.feed(data)
                if data:
                    return data
            if self._decoder is not None:
                self._decoder.finish()
        except Undecodable as error:
            raise self._bad(str(error)) from None
        except Exception as error:  # only those the library's client knows are translated
            if (failed := self._translate(error)) is None:
                raise
            raise failed from error
        self._is_complete = True
        return b""

    def close(self) -> None:
        if self._release is None:
            return
        release, self._release = self._release, None
        self._tasks.spawn(self._end(), name=f"close an answer of {self._name}")  # since `close` may not wait
        release()

    async def _end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait((self._next,))
            if not self._next.cancelled():
                self._next.exception()  # nobody reads it any more
        await self._shut()

    def _idle(self) -> Failed:
        why = f"{self._name!r} did not go on with its answer in time"
        return Failed(failure.TIMEOUT, why, phase="idle")

    def _bad(self, why: str) -> Failed:
        return Failed(failure.BAD_ANSWER, f"{self._name!r}: {why}")
