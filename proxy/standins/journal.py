"""The journal: what each request brought, what went back, what it cost. The oracle that ledgers are compared with."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Entry:
    """One request. Counts grow while it runs; `ended` says how it ended, and is None until then."""

    id: str  # sent as x-request-id
    number: int  # of all requests, from 1
    connection: int  # which connection it came on, from 1
    method: str
    path: str
    raw_headers: RawHeaders
    body: bytes
    received: float  # Unix time
    behaviour: str = ""
    status: int | None = None  # None: no head was sent
    bytes_sent: int = 0
    events_sent: int = 0  # content events
    prompt: int = 0  # tokens, cached ones included; nought until the model started
    cached: int = 0
    generated: int = 0  # completion tokens so far, reasoning included, whether or not they could be sent
    reported: Any = None  # the usage object that was sent
    ended: str | None = None  # `complete`, `peer closed`, or `fault: NAME`
    finished: float | None = None  # Unix time
    pause: float = 0.0  # seconds, the longest in which nothing was sent: what was meant, and our own lateness
    _sent: float = field(default_factory=time.monotonic)

    def sends(self) -> None:
        """Something is sent, or the end has come."""
        now = time.monotonic()
        self.pause = max(self.pause, now - self._sent)
        self._sent = now

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case; the last of repeated ones."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.raw_headers}

    def header(self, name: str) -> str:
        """The value of a header, named in lower case; empty without one."""
        wanted = name.encode()
        for given, value in self.raw_headers:
            if len(given) == len(wanted) and given.lower() == wanted:
                return value.decode("latin-1")
        return ""

    @property
    def json(self) -> Any:
        """The body parsed, or None where it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def bill(self) -> dict[str, int]:
        """What a vendor who bills what was generated would bill."""
        return {"prompt_tokens": self.prompt, "cached_tokens": self.cached, "completion_tokens": self.generated}

    def describe(self) -> dict[str, Any]:
        parsed = self.json
        return {
            "id": self.id,
            "number": self.number,
            "connection": self.connection,
            "method": self.method,
            "path": self.path,
            "headers": [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.raw_headers],
            "body": self.body.decode("utf-8", "replace") if parsed is None else parsed,
            "behaviour": self.behaviour,
            "status": self.status,
            "bytes_sent": self.bytes_sent,
            "events_sent": self.events_sent,
            "bill": self.bill,
            "usage": self.reported,
            "received": self.received,
            "finished": self.finished,
            "pause": self.pause,
            "ended": self.ended,
        }


def _at_home(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    loop.call_soon_threadsafe(done.set)


Predicate = Callable[["Journal"], bool]


@dataclass(slots=True)
class Journal:
    """The last `room` entries, oldest first. `until` and `wait` let a test wait for a fact instead of for a time."""

    room: int = 20_000
    total: int = 0
    entries: deque[Entry] = field(default_factory=deque)
    _watchers: list[tuple[Predicate, Callable[[], None]]] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.total += 1
        self.entries.append(entry)
        if len(self.entries) > self.room:
            self.entries.popleft()
        if self._watchers:
            self._tell()

    def end(self, entry: Entry, how: str) -> None:
        if entry.ended is not None:
            return
        entry.ended = how
        entry.sends()
        entry.finished = time.time()
        if self._watchers:
            self._tell()

    def clear(self) -> None:
        self.entries.clear()

    @property
    def last(self) -> Entry:
        return self.entries[-1]

    def chats(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.path.partition("?")[0].endswith("/chat/completions")]

    def running(self) -> int:
        return sum(entry.ended is None for entry in self.entries)

    async def until(self, predicate: Predicate, timeout: float = 5.0) -> None:
        """Wait until the predicate holds; it is asked when a request arrives, sends its first bytes or ends."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        watcher = self._watch(predicate, lambda: _at_home(loop, done))
        try:
            await asyncio.wait_for(done.wait(), timeout)
        finally:
            self._forget(watcher)

    def wait(self, predicate: Predicate, timeout: float = 5.0) -> None:
        """`until` for a stand-in that runs in a thread."""
        done = threading.Event()
        watcher = self._watch(predicate, done.set)
        try:
            if not done.wait(timeout):
                raise TimeoutError("the journal never got there")
        finally:
            self._forget(watcher)

    def _watch(self, predicate: Predicate, call: Callable[[], None]) -> tuple[Predicate, Callable[[], None]]:
        watcher = (predicate, call)
        self._watchers.append(watcher)
        self._tell()
        return watcher

    def _forget(self, watcher: tuple[Predicate, Callable[[], None]]) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _tell(self) -> None:
        for watcher in list(self._watchers):
            if watcher[0](self):
                self._forget(watcher)
                watcher[1]()

    def changed(self) -> None:
        if self._watchers:
            self._tell()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries))

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]
