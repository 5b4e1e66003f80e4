import asyncio
import os
import socket
from pathlib import Path

import httpx
import pytest

from proxy.demo.stage import NotReady, Stage, end, free_port


def test_a_taken_port_gives_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
    assert free_port(port) == port
    assert free_port(port, besides=port) != port


async def test_a_proxy_that_does_not_start_is_told_with_its_words_and_nothing_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "missing.yaml", port=0, admin_port=0)
    with pytest.raises(NotReady, match="the proxy did not become ready"):
        await stage.__aenter__()
    assert stage.strong.startswith("http://127.0.0.1:")
    for url in (stage.strong, stage.tuned):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/models", trust_env=False)


async def test_ending_a_process_that_has_ended_is_fine() -> None:
    process = await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)
    await process.wait()
    await end(process)
    assert process.returncode == 0


async def test_a_process_that_ignores_us_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.demo.stage.STOP", 0.05)
    script = "trap '' INT; echo up; while :; do read x || exec sleep 60; done"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await end(process)
    assert process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
