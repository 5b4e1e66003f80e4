"""`pointsman demo`: see the whole thing work, on one machine, without keys.

Starts the stage (two stand-ins, the proxy), sends the mixture through it, shows what the proxy's own metrics say.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from rich.console import Console

    from proxy.demo.figures import Figures
    from proxy.demo.stage import Stage
    from proxy.demo.traffic import Ask, Message, Outcome

MODEL = "support"  # the policy in the demo's config
CONCURRENCY = 8
IN_FLIGHT = 512  # under --load: more than this at once are not sent but counted as skipped
REFRESH = 0.5  # seconds between looks at the metrics
EXAMPLE = "policies/examples/demo.yaml"


def demo(
    requests: Annotated[int, typer.Option(min=1, help="How many requests to send.")] = 200,
    exit_: Annotated[bool, typer.Option("--exit", help="End after them, instead of serving on.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
    load: Annotated[
        float | None, typer.Option(min=0.01, help="Send for ever at this rate (requests a second) instead.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Base URL of a proxy that runs already, as http://proxy:8080/v1; starts nothing."),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="The metrics address of that proxy.")] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Another config for the demo's proxy.")
    ] = None,
    port: Annotated[int, typer.Option(help="The proxy's port; another one if it is taken.")] = 8080,
    admin_port: Annotated[int, typer.Option(help="The admin listener's port; another one if it is taken.")] = 8081,
    seed: Annotated[int, typer.Option(help="Of the mixture and of the stand-ins' answers.")] = 0,
) -> None:
    """Run two stand-in models, the proxy in front of them and traffic through it; show what it cost and saved."""
    try:
        import openai  # noqa: F401 - asked for here, to say plainly what is missing
    except ImportError:
        typer.echo("The demo sends with the official client: pip install 'pointsman[demo]' (or openai).", err=True)
        raise typer.Exit(1) from None
    plan = Plan(
        requests=None if load else requests,
        rate=load,
        serve_on=not exit_ and load is None and target is None,
        as_json=json_,
        seed=seed,
    )
    stage = None if target else _stage(config, port, admin_port, seed)
    raise typer.Exit(asyncio.run(run(plan, stage, target, metrics)))


@dataclass(frozen=True, slots=True)
class Plan:
    requests: int | None  # None: until stopped
    rate: float | None  # requests a second; None: as fast as `CONCURRENCY` callers get answers
    serve_on: bool
    as_json: bool
    seed: int


@dataclass(slots=True)
class Tally:
    """What the answers' own headers said, to hold beside the metrics."""

    sent: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)  # the first few
    failed: int = 0
    last: "Outcome | None" = None

    def add(self, outcome: "Outcome") -> None:
        self.sent += 1
        self.last = outcome
        if not outcome.ok:
            self.failed += 1
            if len(self.problems) < 5:
                self.problems.append(f"{outcome.kind}: {outcome.status} {outcome.problem}")


def _stage(config: Path | None, port: int, admin_port: int, seed: int) -> "Stage":
    from proxy.demo.stage import Stage

    found = config or Path(__file__).parents[2] / EXAMPLE
    if not found.is_file():
        typer.echo(f"{found}: no such file", err=True)
        raise typer.Exit(2)
    return Stage(found, port=port, admin_port=admin_port, seed=seed)


async def run(plan: Plan, stage: "Stage | None", target: str | None, metrics: str | None) -> int:
    """Do it all, until done or until a signal. Returns the exit code."""
    from rich.console import Console

    from proxy.demo.stage import NotReady

    talk, results = Console(stderr=True), Console(width=None if sys.stdout.isatty() else 150)
    stop = _stopped_by_signals()
    async with AsyncExitStack() as stack:
        if stage is not None:
            talk.print("Starting two stand-in models and the proxy ...", style="dim")
            try:
                if not await _unless(stop, stack.enter_async_context(stage)):
                    return 0
            except NotReady as failed:
                talk.print(str(failed), style="red", markup=False)
                return 1
            target, metrics = stage.base_url, stage.metrics_url
        assert target is not None
        tally = Tally()
        client = await stack.enter_async_context(_client(target))
        strong = stage.strong if stage is not None else os.environ.get("STRONG_URL")
        async with _live(talk, metrics, tally, plan):
            await _unless(stop, _traffic(client, plan, strong, tally))
        _report(results, talk, await _figures(metrics), tally, plan)
        if plan.serve_on and stage is not None and not stop.is_set():
            talk.print(banner(target, stage.metrics_url), markup=False, highlight=False, soft_wrap=True)
            await stop.wait()
    return 1 if tally.failed and plan.requests and not plan.serve_on else 0


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Do the work, or give it up when told to stop. Returns whether it was done."""
    loop = asyncio.get_running_loop()
    working: asyncio.Task[Any] = loop.create_task(work)
    stopped: asyncio.Task[Any] = loop.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if working.cancelled():
        return False
    working.result()  # raises what it raised
    return True


@asynccontextmanager
async def _client(base_url: str) -> AsyncIterator["AsyncOpenAI"]:
    import openai

    async with openai.AsyncOpenAI(base_url=base_url, api_key="demo", max_retries=0, timeout=120) as client:
        yield client


async def _traffic(client: "AsyncOpenAI", plan: Plan, strong: str | None, tally: Tally) -> None:
    """Send what the plan says. The first request goes to the strong model, to learn the prompt that it receives."""
    from proxy.demo.traffic import asks, first, send

    tally.add(await send(client, MODEL, first()))
    sequence = asks(plan.seed, await _prompt_received(strong) if strong else None)
    async with asyncio.TaskGroup() as group:
        if plan.rate is not None:
            await _at_rate(group, client, sequence, plan.rate, tally)
            return
        shared = itertools.islice(sequence, plan.requests - 1 if plan.requests else None)
        for _ in range(CONCURRENCY):
            group.create_task(_caller(client, shared, tally))


async def _prompt_received(strong: str) -> "list[Message] | None":
    """The long prompt as a caller has it who still sends it: all that the strong model got before the question."""
    import httpx

    from proxy.demo.traffic import first

    question = first().messages[-1]["content"]
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            journal = (await http.get(strong.removesuffix("/v1") + "/journal?last=50")).json()
        except httpx.HTTPError:
            return None
    for entry in journal:
        messages = entry["body"].get("messages", []) if isinstance(entry["body"], dict) else []
        if len(messages) > 1 and messages[-1].get("content") == question:
            return list(messages[:-1])
    return None


async def _caller(client: "AsyncOpenAI", shared: "Iterator[Ask]", tally: Tally) -> None:
    from proxy.demo.traffic import send

    for ask in shared:
        tally.add(await send(client, MODEL, ask))


async def _at_rate(
    group: asyncio.TaskGroup, client: "AsyncOpenAI", sequence: "Iterator[Ask]", rate: float, tally: Tally
) -> None:
    """Send at fixed times whatever the answers do, as independent callers would."""
    from proxy.demo.traffic import send

    running: set[asyncio.Task[None]] = set()

    async def one(ask: "Ask") -> None:
        tally.add(await send(client, MODEL, ask))

    started = time.monotonic()
    for number, ask in enumerate(sequence):
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
        if len(running) >= IN_FLIGHT:
            tally.skipped += 1
            continue
        task = group.create_task(one(ask))
        running.add(task)
        task.add_done_callback(running.discard)


@asynccontextmanager
async def _live(talk: "Console", metrics: str | None, tally: Tally, plan: Plan) -> AsyncIterator[None]:
    """Show the figures while the traffic runs: a live table on a terminal, else a line now and then."""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(talk, metrics, tally, plan))
        try:
            yield
        finally:
            watching.cancel()


async def _watch(talk: "Console", metrics: str | None, tally: Tally, plan: Plan) -> None:
    from rich.live import Live

    from proxy.demo.table import screen

    if not talk.is_terminal or metrics is None:
        while True:
            await asyncio.sleep(30)
            talk.print(f"{tally.sent} sent, {tally.failed} failed, {tally.skipped} skipped", highlight=False)
    with Live(console=talk, auto_refresh=False, transient=True) as live:
        while True:
            found = await _figures(metrics)
            if found is not None:
                title = f"{tally.sent} of {plan.requests} requests" if plan.requests else f"{tally.sent} requests"
                live.update(screen(found, title, tally.last), refresh=True)
            await asyncio.sleep(REFRESH)


async def _figures(metrics: str | None) -> "Figures | None":
    import httpx

    from proxy.demo.figures import figures

    if metrics is None:
        return None
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        try:
            answer = await http.get(metrics)
            answer.raise_for_status()
        except httpx.HTTPError:
            return None
    return figures(answer.text)


def _report(results: "Console", talk: "Console", found: "Figures | None", tally: Tally, plan: Plan) -> None:
    from proxy.demo.table import summary, table

    for problem in tally.problems:
        talk.print(f"failed: {problem}", style="red", markup=False)
    if plan.as_json:
        described = found.describe() if found else {}
        print(json.dumps({"sent": tally.sent, "failed": tally.failed, **described}))  # noqa: T201
        return
    if found is None:
        talk.print(f"{tally.sent} sent, {tally.failed} failed, {tally.skipped} skipped", highlight=False)
        return
    results.print(table(found, f"{tally.sent} requests, {tally.failed} failed"))
    results.print(summary(found), highlight=False, markup=False, soft_wrap=True)


def banner(base_url: str, metrics_url: str) -> str:
    """What to try now."""
    return f"""
Serving on until Ctrl-C. Try:

  curl {base_url}/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Where is my order AC-10423?"}}]}}' -i

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="demo")
  answer = client.chat.completions.create(
      model="{MODEL}", messages=[{{"role": "user", "content": "Where is my order AC-10423?"}}]
  )
  print(answer.choices[0].message.content)

Metrics: {metrics_url}
"""
