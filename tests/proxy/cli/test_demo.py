"""The demo's command: against a stand-in in the proxy's place, and whole where the proxy can be served."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from proxy.cli.demo import EXAMPLE, Plan, banner, run
from proxy.standins import StandIn

ROOT = Path(__file__).parents[3]
METRICS = (ROOT / "tests/proxy/demo/metrics.txt").read_bytes()
RUN = [sys.executable, "-c", "import typer; from proxy.cli.demo import demo; typer.run(demo)"]


@dataclass
class FakeStage:
    """A stand-in that answers in the proxy's place, and a recorded scrape."""

    base_url: str
    strong: str
    metrics_url: str

    async def __aenter__(self) -> "FakeStage":
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


@asynccontextmanager
async def fake_stage() -> AsyncIterator[tuple[FakeStage, StandIn]]:
    async def scrape(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(METRICS), METRICS)
        )
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(scrape, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, StandIn("tuned") as tuned:
        yield FakeStage(tuned.base_url, tuned.base_url, f"http://127.0.0.1:{port}/metrics"), tuned


def plan(
    requests: int | None = 10, *, rate: float | None = None, serve_on: bool = False, as_json: bool = False
) -> Plan:
    return Plan(requests, rate, serve_on, as_json, seed=1)


Captured = Callable[[], tuple[str, str]]


async def test_so_many_requests_and_the_final_table(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_stage() as (stage, model):
        assert await run(plan(), stage, None, None) == 0  # type: ignore[arg-type]
        assert len(model.journal.chats()) == 10
        assert {entry.json["model"] for entry in model.journal.chats()} == {"support"}
    out, _ = capsys.readouterr()
    assert "10 requests, 0 failed" in out
    assert "Saved 57.7 %" in out
    assert "\x1b[" not in out


async def test_figures_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_stage() as (stage, _):
        await run(plan(as_json=True), stage, None, None)  # type: ignore[arg-type]
    found = json.loads(capsys.readouterr().out)
    assert (found["sent"], found["failed"], found["baseline"]) == (10, 0, "strong")
    assert found["total"]["saved_usd"] == pytest.approx(0.0693)


async def test_failures_are_told_and_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_stage() as (stage, model):
        model.then("status=503", "reset")
        assert await run(plan(), stage, None, None) == 1  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert "10 requests, 2 failed" in out
    assert "failed: gold: 503" in err


async def test_it_serves_on_with_a_banner_until_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_stage() as (stage, model):
        running = asyncio.gather(run(plan(3, serve_on=True), stage, None, None))  # type: ignore[arg-type]
        await model.journal.until(lambda journal: len(journal.chats()) == 3 and not journal.running(), timeout=20)
        while "Ctrl-C" not in (said := capsys.readouterr().err):
            await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGINT)
        assert await running == [0]
        assert stage.metrics_url in said


async def test_load_goes_on_until_a_signal() -> None:
    async with fake_stage() as (stage, model):
        running = asyncio.gather(run(plan(None, rate=200), None, stage.base_url, None))
        await model.journal.until(lambda journal: len(journal.chats()) >= 20, timeout=20)
        signal.raise_signal(signal.SIGTERM)
        assert await running == [0]


async def test_callers_bring_the_prompt_that_the_model_received() -> None:
    """What the first request's messages became upstream is what `own prompt` callers send."""
    from proxy.cli.demo import _prompt_received
    from proxy.demo.traffic import first

    async with fake_stage() as (stage, model):
        assert await _prompt_received(stage.strong) is None
        prompt = [{"role": "system", "content": "the long prompt"}]
        body = json.dumps({"model": "m", "messages": [*prompt, *first().messages]}).encode()
        model.entry(1, "POST", "/v1/chat/completions", [], body)
        assert await _prompt_received(stage.strong) == prompt


def test_the_banner_can_be_pasted() -> None:
    said = banner("http://127.0.0.1:8080/v1", "http://127.0.0.1:8081/metrics")
    snippet = said[said.index("  from openai") : said.index("Metrics:")]
    compile("\n".join(line[2:] for line in snippet.splitlines()), "banner", "exec")
    (body,) = re.findall(r"-d '(.*)' -i", said)
    assert json.loads(body)["model"] == "support"


def test_a_config_that_is_not_there_is_a_usage_error() -> None:
    said = subprocess.run([*RUN, "-c", "missing.yaml"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (said.returncode, "missing.yaml: no such file" in said.stderr) == (2, True)


def test_without_the_client_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['openai'] = None; import typer; from proxy.cli.demo import demo; typer.run(demo)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (said.returncode, "pip install" in said.stderr) == (1, True)


def test_nothing_heavy_is_imported_until_the_demo_runs() -> None:
    code = "import sys, proxy.cli.demo; print([m for m in ('openai', 'httpx', 'uvloop') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.skipif(
    find_spec("proxy.__main__") is None or not (ROOT / EXAMPLE).is_file(),
    reason="needs the serving command and the example config",
)
def test_the_whole_demo() -> None:
    """Two stand-ins, the proxy between, real requests: every answer good, and money saved."""
    said = subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--requests", "60", "--exit", "--json"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=110,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["sent"], found["failed"], found["total"]["requests"]) == (60, 0, 60)
    assert len(found["routes"]) >= 2
    assert 0 < found["total"]["saved_usd"] < found["total"]["naively_saved_usd"]
