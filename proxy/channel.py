"""The line between supervisor and worker process: JSON messages over a socketpair, requests and their answers."""

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog

from proxy.tasks import Tasks

log = structlog.get_logger("pointsman")

Message = dict[str, Any]
Answer = Callable[[Message], Awaitable[Any]]

MAX_MESSAGE = 64 * 1024 * 1024  # bytes; all cells are some hundred kilobytes, a config may be megabytes
ENDED = "the other process has ended"


class Refused(Exception):
    """The other process could not do what it was asked; the text says why."""


class Channel:
    """One end. `ask` sends a request and waits for its answer; `answer` serves the other end's requests."""

    def __init__(self, sock: socket.socket, answer: Answer, tasks: Tasks) -> None:
        self._sock = sock
        self._answer = answer
        self._tasks = tasks
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self.closed = asyncio.Event()  # by either end: also how a dead process is noticed

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=MAX_MESSAGE)
        self._tasks.spawn(self._read(reader, self._writer), name="line between processes")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                message = json.loads(line)  # not orjson: it reads integers beyond 64 bits as floats
                if "do" in message:
                    self._tasks.spawn(self._serve(message, writer), name=f"answer to {message['do']}")
                else:
                    self._take(message)
        except ConnectionError:
            pass  # the other end was killed while it had something to read
        finally:
            self.closed.set()
            writer.close()
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError(ENDED))

    def _take(self, message: Message) -> None:
        waiting = self._open.pop(message["id"], None)
        if waiting is None or waiting.done():
            return  # nobody waited that long
        if "refused" in message:
            waiting.set_exception(Refused(message["refused"]))
        else:
            waiting.set_result(message["answer"])

    async def ask(self, do: str, **values: Any) -> Any:
        """Raises ConnectionError if the other process ends first, `Refused` if it cannot."""
        if self._writer is None or self.closed.is_set():
            raise ConnectionResetError(ENDED)
        number = next(self._ids)
        message = encoded({"id": number, "do": do, **values})
        if len(message) > MAX_MESSAGE:
            raise Refused(f"{do!r} takes {len(message):,} bytes, and at most {MAX_MESSAGE:,} can be told")
        waiting = self._open[number] = asyncio.get_running_loop().create_future()
        self._writer.write(message)
        try:
            return await waiting
        finally:
            self._open.pop(number, None)

    async def _serve(self, message: Message, writer: asyncio.StreamWriter) -> None:
        try:
            said = {"answer": await self._answer(message)}
        except Exception as error:  # noqa: BLE001 -- whatever it is, the asker waits to hear of it
            said = {"refused": f"{type(error).__name__}: {error}"}
        if not self.closed.is_set():
            writer.write(encoded({"id": message["id"], **said}))

    async def close(self) -> None:
        """Send what is waiting, and hang up."""
        if self._writer is not None and not self.closed.is_set():
            self._writer.close()
            try:
                await self._writer.wait_closed()
            except ConnectionError:
                return  # it was quicker


def encoded(message: Message) -> bytes:
    try:
        return orjson.dumps(message) + b"\n"
    except TypeError:  # integers beyond 64 bits: ten million dollars in pico-dollars
        return json.dumps(message).encode() + b"\n"
