"""The line between supervisor and worker process: JSON messages over a socketpair, requests and their answers."""

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Answer = Callable[[Message], Awaitable[Any]]

MAX_MESSAGE = 64 * 1024 * 1024  # bytes; a state of all cells is a few hundred kilobytes


class Channel:
    """One end. `ask` sends a request and waits for its answer; `answer` serves the other end's requests."""

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self._sock = sock
        self._answer = answer
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self.closed = asyncio.Event()
        self._handling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the other end closes, which is how a dead process is noticed."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=MAX_MESSAGE)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "answer" in message:
                    waiting = self._open.pop(message["id"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message["answer"])
                else:
                    task = asyncio.get_running_loop().create_task(self._serve(message))
                    self._handling.add(task)
                    task.add_done_callback(self._handling.discard)
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            self._writer.close()
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("the other process has ended"))

    async def ask(self, do: str, **values: Any) -> Any:
        """Raises ConnectionError if the other process ends first."""
        if self._writer is None or self.closed.is_set():
            raise ConnectionResetError("the other process has ended")
        number = next(self._ids)
        waiting = self._open[number] = asyncio.get_running_loop().create_future()
        self._writer.write(line({"id": number, "do": do, **values}))
        return await waiting

    async def _serve(self, message: Message) -> None:
        answer = await self._answer(message)
        if self._writer is not None and not self.closed.is_set():
            self._writer.write(line({"id": message["id"], "answer": answer}))


def line(message: Message) -> bytes:
    # the standard library's JSON: integers beyond 64 bits (money in pico-dollars) must arrive whole
    return json.dumps(message).encode() + b"\n"
