"""What is logged, where it goes, and what it never holds."""

import errno
import io
import logging
import os
import select
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import orjson
import pytest
import structlog

from proxy.meter import log
from proxy.meter.usage import Usage
from tests.proxy.meter.samples import attempt, settled


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(*requests: Any, **options: Any) -> str:
    """What the access log writes for these requests."""
    out = io.BytesIO()
    lines = log.configure(out, **options)
    sink = log.access(lines)
    for request in requests:
        sink(request)
    lines.close()
    return out.getvalue().decode()


def test_a_request_is_one_line_of_json() -> None:
    cut = attempt(result="timeout", source="estimated", usage=Usage(input=80, output=3))
    answer = attempt(route="strong", model="strong", role="fallback", usage=Usage(200, 100, 0, 10, 5))
    request = settled(cut, answer, client_id="abc-1", error=None)
    line = orjson.loads(logged(request))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "id": "req_1",
        "client_id": "abc-1",
        "tenant": "search",
        "key": "search-key",
        "api": "chat",
        "policy": "support",
        "rule": "default",
        "route": "tuned",
        "served_by": "strong",
        "model": "strong",
        "prompt": "none",
        "outcome": "ok",
        "status": 200,
        "stream": True,
        "ms": 1000.0,
        "ttft_ms": 250.0,
        "overhead_ms": 0.3,
        "tokens": {"input": 280, "cached_input": 100, "output": 13, "reasoning": 5},
        "cost_usd": (cut.cost.total + answer.cost.total) / 10**12,
        "baseline_usd": 0.00041,
        "attempts": [
            {"route": "tuned", "model": "lora", "endpoint": "at-lora", "result": "timeout", "ms": 900.0},
            {"route": "strong", "model": "strong", "endpoint": "at-strong", "result": "ok", "ms": 900.0},
        ],
        "config": "0123456789ab",
    }


def test_a_failed_request_tells_its_error_and_a_shadow_its_parent() -> None:
    line = orjson.loads(
        logged(
            settled(error="upstream_timeout", parent="req_0", role="shadow", baseline_cost=None, first_content=None)
        )
    )
    assert (line["error"], line["parent"], line["role"]) == ("upstream_timeout", "req_0", "shadow")
    assert (line["baseline_usd"], line["ttft_ms"]) == (None, None)


def test_sessions_stay_out_of_the_log() -> None:
    assert "c-17" not in logged(settled(session="c-17"))


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b]0;owned\x07", 'a"}\n{"event":"forged', "x" * 100_000, "\u202eevil"])
def test_a_clients_id_can_neither_forge_a_line_nor_move_a_cursor(hostile: str) -> None:
    for json in (True, False):
        text = logged(settled(client_id=hostile), json=json)
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()
        assert len(text) < 2000


def test_on_a_terminal_a_request_reads_as_a_sentence() -> None:
    text = logged(settled(attempt(result="timeout"), attempt(route="strong", model="strong")), json=False)
    assert "support default -> strong (strong) after tuned timeout 1000 ms $0.000" in text
    assert "(baseline $0.000410)" in text
    assert "(baseline" not in logged(settled(baseline_cost=None), json=False)


def test_other_lines_are_structured_too() -> None:
    out = io.BytesIO()
    lines = log.configure(out, level="warning")
    logger = structlog.get_logger()
    logger.info("quiet")
    logger.warning("config refused", file="a.yaml", problems=2)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("odd")
    lines.close()
    warning, error = (orjson.loads(line) for line in out.getvalue().splitlines())
    assert (warning["event"], warning["level"], warning["problems"]) == ("config refused", "warning", 2)
    assert error["level"] == "error"
    assert "ValueError: broken" in error["exception"]


def test_for_people_other_lines_are_readable() -> None:
    out = io.BytesIO()
    lines = log.configure(out, json=False)
    structlog.get_logger().warning("config refused", file="a.yaml")
    lines.close()
    assert b"config refused" in out.getvalue()
    assert b"a.yaml" in out.getvalue()


def test_a_full_pipe_holds_nobody_up_and_the_loss_is_logged() -> None:
    """Nobody reads the pipe: writing returns at once, and what did not fit is counted when it moves again."""
    reader, writer = os.pipe()
    with open(reader, "rb") as read, open(writer, "wb", buffering=0) as write:
        lines = log.Lines(write, capacity=100)
        for _ in range(1000):
            lines.write(b"x" * 1000)
        received = bytearray()

        def drain() -> None:
            while chunk := read.read1(65536):
                received.extend(chunk)

        draining = threading.Thread(target=drain)
        draining.start()
        lines.close(timeout=10)
        write.close()
        draining.join(10)
    written = received.splitlines()
    lost = sum(orjson.loads(line)["lines"] for line in written if line.startswith(b"{"))
    kept = sum(line.startswith(b"x") for line in written)
    assert lost > 0
    assert kept + lost == 1000


def test_a_log_that_nobody_reads_any_more_does_not_stop_the_proxy() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as write:
        lines = log.Lines(write, capacity=10)
        for _ in range(50):
            lines.write(b"x")
        lines.close()
        assert not lines._thread.is_alive()


def test_what_libraries_say_is_logged_like_the_rest() -> None:
    """asyncio tells of forgotten exceptions in this way; uvicorn and LiteLLM of their troubles."""
    out = io.BytesIO()
    lines = log.configure(out)
    logging.getLogger("asyncio").error("Task exception was %s retrieved", "never", exc_info=ValueError("why"))
    logging.getLogger("uvicorn.error").info("Started")
    lines.close()
    (line,) = map(orjson.loads, out.getvalue().splitlines())
    assert (line["level"], line["logger"]) == ("error", "asyncio")
    assert line["event"] == "Task exception was never retrieved"
    assert "ValueError: why" in line["exception"]


def test_several_processes_can_share_a_pipe() -> None:
    """Each write is whole lines, and small enough for the kernel not to part it from the next process's."""
    writes: list[bytes] = []

    class Out(io.BytesIO):
        def write(self, data: Any) -> int:
            writes.append(bytes(data))
            return len(data)

    lines = log.Lines(Out(), is_shared=True)
    written = [b"%d " % number * 90 for number in range(200)]
    for line in written:
        lines.write(line)
    lines.close()
    assert b"".join(writes).splitlines() == written
    assert all(write.endswith(b"\n") and len(write) <= select.PIPE_BUF for write in writes)


@pytest.mark.parametrize("most", [1, 10, 64, 10_000])
def test_pieces_are_whole_lines(most: int) -> None:
    lines = b"".join(b"x" * length + b"\n" for length in (0, 1, 5, 9, 10, 30, 200, 3, 0))
    found = list(log.pieces(lines, most))
    assert b"".join(found) == lines
    assert all(piece.endswith(b"\n") for piece in found)
    assert all(len(piece) <= most or piece.count(b"\n") == 1 for piece in found)
    assert list(log.pieces(b"", most)) == []


class Disk:
    """A stream that takes so many bytes and is full then, until there is `room` again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written = bytearray()
        self.refused = threading.Event()

    def write(self, data: Any) -> int:
        if not self.room:
            self.refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(self.room, len(data))
        self.written += bytes(data[:count])
        self.room -= count
        return count


def numbered(count: int) -> list[bytes]:
    return [b'{"n": %d}' % number for number in range(count)]


def test_after_a_full_disk_the_log_goes_on_where_it_stopped() -> None:
    """No line is lost as long as they fit into the buffer, and none is torn."""
    disk = Disk(25)
    lines = log.Lines(cast(BinaryIO, disk))
    for line in numbered(10):
        lines.write(line)
    assert disk.refused.wait(10)
    for line in numbered(20)[10:]:
        lines.write(line)
    disk.room = 10**6
    lines.close(timeout=10)
    assert disk.written.splitlines() == numbered(20)
    assert lines.dropped == 0


def test_what_a_full_disk_costs_is_counted_and_told() -> None:
    disk = Disk(25)
    lines = log.Lines(cast(BinaryIO, disk), capacity=100)
    lines.write(b"x" * 90)
    assert disk.refused.wait(10)
    for _ in range(1000):
        lines.write(b"y" * 90)
    disk.room = 10**6
    lines.close(timeout=10)
    *kept, told = disk.written.splitlines()
    assert {len(line) for line in kept} == {90}
    assert orjson.loads(told)["lines"] == lines.dropped == 1001 - len(kept) > 900


def test_of_several_processes_a_half_line_is_said_again() -> None:
    """Others will have written behind the half."""
    disk = Disk(25)
    lines = log.Lines(cast(BinaryIO, disk), is_shared=True)
    for line in numbered(10):
        lines.write(line)
    assert disk.refused.wait(10)
    disk.written += b'{"other": 1}\n'
    disk.room = 10**6
    lines.close(timeout=10)
    whole = [line for line in disk.written.splitlines() if line.endswith(b"}")]
    assert [line for line in whole if b"other" not in line] == numbered(10)
