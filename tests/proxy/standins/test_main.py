"""A stand-in as a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "proxy.standins", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_serves_and_ends_well(number: int) -> None:
    with process("tuned", "--every", "2:status=503") as (running, url):
        statuses = [
            httpx.post(
                f"{url}/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            ).status_code
            for _ in range(2)
        ]
        running.send_signal(number)
        assert running.wait(10) == 0
    assert statuses == [503, 200] or statuses == [200, 503]


def test_it_ends_with_the_process_that_started_it() -> None:
    with process("strong", "--until-stdin-closes") as (running, url):
        assert url.endswith("/v1")
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(10) == 0


def test_help_lists_the_faults() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "proxy.standins", "--help"], capture_output=True, text=True, check=True
    )
    assert "bytewise" in said.stdout
