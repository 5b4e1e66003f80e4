"""Callers for the tests of the process's life: single requests, live streams, and a load that counts failures."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Self

import httpx

from tests.harness import Proxy, until
from tests.proxy.raw import Raw, post

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading a CA bundle for each client would cost more than the tests
get = partial(httpx.get, verify=PLAIN, timeout=20)
request = partial(httpx.request, verify=PLAIN, timeout=20)
HELLO = "where is my order 1234?"


def body(text: str = HELLO, model: str = "p", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def paced(tokens: int, pace: float = 0.02) -> str:
    """A message that the stand-in answers with so many tokens, one each `pace` seconds."""
    return f"[[fault pace={pace} tokens={tokens}]]"


def late(seconds: float) -> str:
    """A message that the stand-in thinks about for so long."""
    return f"[[fault ttft={seconds}]]"


def ask(proxy: Proxy, text: str = HELLO, *, model: str = "p", key: str | None = None) -> httpx.Response:
    """One request on a connection of its own."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{proxy.base_url}/chat/completions"
    return httpx.post(url, json=body(text, model), headers=headers, timeout=30, verify=PLAIN)


def asks(proxy: Proxy, count: int, text: str = HELLO) -> list[httpx.Response]:
    """Requests one after the other, each on a new connection, so that any worker may get it."""
    return [ask(proxy, text) for _ in range(count)]


def asking(proxy: Proxy, opened: ExitStack, **more: Any) -> Raw:
    """A client that has asked and not read its answer."""
    return opened.enter_context(Raw(proxy.url)).send(post(json.dumps(body(**more)).encode()))


def poke(proxy: Proxy, endpoint: str) -> None:
    """Ask until the endpoint is out for its silence, which is looked for when somebody asks."""
    with ExitStack() as opened:
        for _ in until(15.0, f"{endpoint} to be ejected"):
            asking(proxy, opened)
            if proxy.metric("pointsman_ejections_total", endpoint=endpoint):
                return


class Stream:
    """A streamed answer being read: `events` so far, `error` if it broke off."""

    def __init__(self, client: httpx.AsyncClient, proxy: Proxy, text: str) -> None:
        self._client = client
        self._url = f"{proxy.base_url}/chat/completions"
        self._text = text
        self.response: httpx.Response | None = None
        self.events: list[str] = []
        self.error: Exception | None = None
        self._begun = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            async with self._client.stream("POST", self._url, json=body(self._text, stream=True)) as response:
                self.response = response
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        self.events.append(line.removeprefix("data: "))
                        self._begun.set()
        except httpx.HTTPError as error:
            self.error = error
        finally:
            self._begun.set()

    async def begun(self) -> Self:
        """Its first content has come."""
        await asyncio.wait_for(self._begun.wait(), 20)
        return self

    async def ended(self) -> Self:
        await asyncio.wait_for(asyncio.shield(self._task), 60)
        return self

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    @property
    def is_whole(self) -> bool:
        return self.error is None and self.events[-1:] == ["[DONE]"]

    @property
    def last(self) -> Any:
        return json.loads(self.events[-1])


@asynccontextmanager
async def streams(proxy: Proxy, count: int, text: str) -> AsyncIterator[list[Stream]]:
    """So many live streams, all of which have begun."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=60, limits=limits, verify=PLAIN) as client:
        # one after the other: of a burst one worker may take all
        opened = [await Stream(client, proxy, text).begun() for _ in range(count)]
        try:
            yield opened
        finally:
            for stream in opened:
                await stream.cancel()


class Load:
    """Callers that ask without a pause, on kept connections, until told to stop; what they saw is counted."""

    def __init__(self, proxy: Proxy, callers: int, text: str = HELLO) -> None:
        self._url = f"{proxy.base_url}/chat/completions"
        self._callers = callers
        self._text = text
        self._stop = asyncio.Event()
        self.seen: Counter[str] = Counter()  # statuses, and exceptions by name
        self.hashes: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask()) for _ in range(self._callers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        async with httpx.AsyncClient(timeout=30, verify=PLAIN) as client:
            while not self._stop.is_set():
                try:
                    answer = await client.post(self._url, json=body(self._text))
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1
                    continue
                self.seen[str(answer.status_code)] += 1
                self.hashes[answer.headers.get("x-pointsman-config", "none")] += 1

    @property
    def total(self) -> int:
        return sum(self.seen.values())

    async def more(self, requests: int) -> None:
        """Wait until so many more have been answered."""
        wanted = self.total + requests
        async with asyncio.timeout(30):
            while self.total < wanted:
                await asyncio.sleep(0.01)
