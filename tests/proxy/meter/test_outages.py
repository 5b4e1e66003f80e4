"""A dead upstream is said once, not a thousand times."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.meter.outages import Outages
from tests.proxy.meter.samples import attempt, settled


@pytest.fixture
def lines() -> Any:
    with capture_logs() as captured:
        yield captured


def send(outages: Outages, result: str, at: float, **changed: Any) -> None:
    outages.settled(settled(attempt(result=result, started=at, duration=0.0, **changed)))


def test_an_outage_is_told_at_its_begin_now_and_then_and_at_its_end(lines: list[dict[str, Any]]) -> None:
    """A thousand failures in 100 seconds: a line, one each 30 seconds, and one for the recovery."""
    outages = Outages()
    for n in range(1000):
        send(outages, "connect", n / 10)
    send(outages, "ok", 99.95)  # too soon after a failure to be a recovery
    send(outages, "ok", 115.0)
    send(outages, "ok", 116.0)
    assert [(line["event"], line.get("failures")) for line in lines] == [
        ("upstream fails", None),
        ("upstream still fails", 300),
        ("upstream still fails", 300),
        ("upstream still fails", 300),
        ("upstream recovered", 1000),
    ]
    assert lines[0] == {
        "event": "upstream fails",
        "log_level": "warning",
        "model": "lora",
        "endpoint": "at-lora",
        "result": "connect",
        "status": 200,
    }


def test_one_that_flaps_is_one_outage(lines: list[dict[str, Any]]) -> None:
    outages = Outages()
    for second in range(60):
        send(outages, "upstream_5xx" if second % 2 else "ok", float(second))
    assert [line["event"] for line in lines] == ["upstream fails", "upstream still fails"]


def test_endpoints_are_told_apart(lines: list[dict[str, Any]]) -> None:
    outages = Outages()
    for endpoint in ("azure", "openai"):
        send(outages, "timeout", 0.0, endpoint=endpoint)
        send(outages, "timeout", 1.0, endpoint=endpoint)
    assert [line["endpoint"] for line in lines] == ["azure", "openai"]


@pytest.mark.parametrize("result", ["ok", "cancelled", "request", "content_filter", "context_length", "check:json"])
def test_what_is_not_the_upstreams_fault_is_not_said(result: str, lines: list[dict[str, Any]]) -> None:
    send(Outages(), result, 0.0)
    assert lines == []
