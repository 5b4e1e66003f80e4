"""Structured logs on standard error: JSON lines, or readable ones on a terminal. Never content, never keys.

The access log is a sink of settled requests. Lines are handed to a thread, so that a full pipe or a full disk behind
the logs never holds up a request; past a bound they are dropped and counted, and the next line that goes says so.
"""

import atexit
import logging
import select
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy.meter.cost import PICO
from proxy.meter.repeats import Repeats
from proxy.meter.usage import KINDS
from proxy.settled import Attempt, Settled

CAPACITY = 8 * 1024 * 1024  # bytes waiting to be written; some ten thousand lines
BATCH = 0.05  # seconds that the writer lets lines gather, once it has written some
RETRY = 0.5  # seconds until it tries again when they cannot be written

_LONGEST = 128  # characters of a text that a client chose


class Lines:
    """A bounded buffer of lines in front of a stream, emptied by a daemon thread.

    One buffer rather than a queue of lines: a line that is kept costs fresh memory, which is dearer than making it.
    """

    def __init__(
        self, stream: BinaryIO, capacity: int = CAPACITY, *, is_json: bool = True, is_shared: bool = False
    ) -> None:
        self.is_json = is_json
        self.dropped = 0  # lines, in all
        self._stream: BinaryIO = getattr(stream, "raw", stream)  # unbuffered: what it took is known to the byte
        # Of several processes that write to one pipe, larger pieces would tear each other's lines.
        self._most = select.PIPE_BUF if is_shared else capacity
        self._is_shared = is_shared
        self._capacity = capacity
        self._waiting = bytearray()
        self._untold = 0  # dropped lines
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line (without its newline). Never waits; drops the line when too much is waiting."""
        with self._lock:  # the writer takes the buffer
            if len(self._waiting) >= self._capacity:
                self.dropped += 1
                self._untold += 1
                return
            self._waiting += line
            self._waiting += b"\n"
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting and stop; gives up on a stream that takes nothing for `timeout` seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                batch, self._waiting = self._waiting, bytearray()
                lost, self._untold = self._untold, 0
            if lost:
                batch += orjson.dumps({"level": "warning", "event": "log lines dropped", "lines": lost}) + b"\n"
            unwritten = self._unwritten(bytes(batch))
            if not unwritten:
                self._closing.wait(BATCH)
                continue
            with self._lock:  # the disk is full, or nobody reads: serving goes on, and it may become better
                self._waiting[:0] = unwritten
            if self._closing.is_set():
                return
            self._closing.wait(RETRY)
            self._wake.set()

    def _unwritten(self, lines: bytes) -> bytes:
        """Write them; returns what could not be."""
        done = 0
        try:
            for piece in pieces(lines, self._most):
                left = memoryview(piece)
                while left:
                    count = self._stream.write(left)
                    if not count:  # a pipe that does not block, and is full
                        return lines[done:]
                    left = left[count:]
                    done += count
        except (OSError, ValueError):
            begun = lines.rfind(b"\n", 0, done) + 1
            if self._is_shared and begun < done:  # others will write before us: leave the half, say the line again
                return b"\n" + lines[begun:]
        return lines[done:]


def pieces(lines: bytes, most: int) -> Iterator[bytes]:
    """Whole lines, at most so many bytes at a time where they are not longer themselves."""
    start = 0
    while start < len(lines):
        end = len(lines) if len(lines) - start <= most else lines.rfind(b"\n", start, start + most) + 1
        end = end or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end


class _Foreign(logging.Handler):
    """What libraries say through the standard library's logging becomes lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        say = structlog.get_logger().warning if record.levelno < logging.ERROR else structlog.get_logger().error
        say(record.getMessage(), logger=record.name, exc_info=record.exc_info)


class _Logger:
    """What structlog calls with a rendered line, whatever the level."""

    def __init__(self, lines: Lines) -> None:
        self.msg = lines.write

    debug = info = warning = error = critical = exception = property(lambda self: self.msg)


_current: Lines | None = None


def dropped() -> int:
    """Lines that this process could not write."""
    return _current.dropped if _current is not None else 0


def configure(
    stream: BinaryIO | None = None, *, json: bool | None = None, level: str = "info", is_shared: bool = False
) -> Lines:
    """Set logging up for the process; returns the writer, to be closed last.

    By default lines go to standard error: JSON, or readable ones if that is a terminal. `is_shared`: other processes
    write to the same stream.
    """
    out = stream if stream is not None else sys.stderr.buffer
    if json is None:
        json = not out.isatty()
    global _current  # logging is the process's, as structlog's own configuration is
    lines = _current = Lines(out, is_json=json, is_shared=is_shared)
    structlog.configure(
        processors=[
            Repeats(),
            _head,
            structlog.processors.format_exc_info,
            _as_json if json else _for_people(out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Logger(lines),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Foreign)] + [
        _Foreign(logging.WARNING)
    ]
    atexit.register(lines.close)
    return lines


def access(lines: Lines) -> Callable[[Settled], None]:
    """The access log: a sink that writes one line for each settled request.

    JSON goes to the writer directly: the processors that other events pass would cost as much as the line itself.
    """
    if not lines.is_json:
        info = structlog.get_logger().info
        return lambda settled: info("request", settled=settled)

    def sink(settled: Settled) -> None:
        lines.write(orjson.dumps(fields(settled, datetime.now(UTC)), option=orjson.OPT_UTC_Z))

    return sink


def fields(s: Settled, timestamp: datetime, level: str = "info") -> dict[str, Any]:
    """What the access log tells of a request. Money is in US$, times in milliseconds."""
    line: dict[str, Any] = {
        "timestamp": timestamp,
        "level": level,
        "event": "request",
        "id": s.id,
        "tenant": s.tenant,
        "key": s.key,
        "api": s.api,
        "policy": s.policy,
        "rule": s.rule,
        "route": s.route,
        "served_by": s.served_by,
        "model": s.served_model,
        "prompt": s.served_prompt,
        "outcome": s.outcome,
        "status": s.status,
        "stream": s.stream,
        "ms": _ms(s.duration),
        "ttft_ms": None if s.first_content is None else _ms(s.first_content),
        "overhead_ms": _ms(s.overhead),
        "tokens": _tokens(s.attempts),
        "cost_usd": s.cost / PICO,
        "baseline_usd": None if s.baseline_cost is None else s.baseline_cost / PICO,
        "attempts": [_attempt(attempt) for attempt in s.attempts],
        "config": s.config,
    }
    if s.client_id is not None:
        line["client_id"] = _safe(s.client_id)
    if s.error is not None:
        line["error"] = s.error
    if s.parent is not None:
        line |= {"parent": s.parent, "role": s.role}
    return line


def _attempt(a: Attempt) -> dict[str, Any]:
    said = {"route": a.route, "model": a.model, "endpoint": a.endpoint, "result": a.result, "ms": _ms(a.duration)}
    if a.role == "hedge":  # the other roles show in the order
        said["role"] = a.role
    return said


def _tokens(attempts: tuple[Attempt, ...]) -> dict[str, int]:
    """Billed tokens of all attempts, by kind; kinds without any are left out."""
    totals: dict[str, int] = {}
    for attempt in attempts:
        u = attempt.usage
        counts = (u.input, u.cached_input, u.cache_write, u.output, u.reasoning)
        for kind, count in zip(KINDS, counts, strict=True):
            if count:
                totals[kind] = totals.get(kind, 0) + count
    return totals


def _ms(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000  # `round` takes three times as long


def _safe(text: str) -> str:
    """A client's text, fit for a terminal and short."""
    return text[:_LONGEST] if text.isprintable() else ascii(text[:_LONGEST])[1:-1]


def _head(_: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """The fields that every line begins with. A settled request is spelled out here, once it will be logged."""
    settled = event.pop("settled", None)
    if settled is not None:
        return fields(settled, datetime.now(UTC), level)
    return {"timestamp": datetime.now(UTC), "level": level, "event": event.pop("event"), **event}


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)


def _for_people(colors: bool) -> Processor:
    console = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)

    def render(logger: WrappedLogger, name: str, event: EventDict) -> bytes:
        if event.get("event") == "request" and "served_by" in event:
            return _sentence(event).encode()
        event["timestamp"] = f"{event['timestamp']:%H:%M:%S}"
        return str(console(logger, name, event)).encode()

    return render


def _sentence(e: EventDict) -> str:
    """One request on one line, for a person who watches."""
    where = f"{e['policy']} {e['rule']} -> {e['served_by']} ({e['model']})"
    if len(e["attempts"]) > 1:
        where += " after " + ", ".join(f"{a['route']} {a['result']}" for a in e["attempts"][:-1])
    time = f"{e['timestamp']:%H:%M:%S}"
    money = f"${e['cost_usd']:.6f}"
    if e["baseline_usd"] is not None:
        money += f" (baseline ${e['baseline_usd']:.6f})"
    return f"{time} {e['status']} {e['outcome']} {where} {e['ms']:.0f} ms {money}"
