"""Each sabotage of the product is caught, by the scenario and for the reason that are named here."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from tests.faults import invariants, scenarios
from tests.faults.invariants import SOON
from tests.faults.rig import Rig
from tests.faults.sabotage import SABOTAGES

Scenario = Callable[[Rig], Awaitable[object]]


async def bounded_buffers(rig: Rig) -> None:
    growth, _ = await scenarios.slow_readers(rig, 10)
    assert growth < 10 * 256 * 1024 + 8 * 2**20, f"{growth} bytes for slow readers"


async def few_series(rig: Rig) -> None:
    from tests.faults.probe import scrape

    before = (await asyncio.to_thread(scrape, rig.proxy.admin)).series
    await scenarios.unique_names(rig, 50)
    after = (await asyncio.to_thread(scrape, rig.proxy.admin)).series
    assert after - before < 50, f"{after - before} new series"


async def free_loop(rig: Rig) -> None:
    lag = await scenarios.loop_is_free(rig)
    assert lag["busiest"] < 50, f"the loop was busy for {lag['busiest']:.0f} ms"


async def drained(rig: Rig) -> None:
    async with rig.streams(5, fault="pace=0.02 tokens=40") as streams:
        rig.proxy.signal(signal.SIGTERM)
        for asked in streams:
            await asked.ended()
            assert asked.ending == "complete", f"drain: {asked.ending}"


async def told_goodbye(rig: Rig) -> None:
    async with rig.streams(5, fault="pace=0.05 tokens=400") as streams:
        rig.proxy.signal(signal.SIGTERM)
        for asked in streams:
            await asked.ended()
            assert asked.ending == "in-band error", f"drain: {asked.ending}"


STOPS: dict[str, tuple[Scenario, dict[str, str]]] = {
    "no-drain": (drained, {}),
    "silent-goodbye": (told_goodbye, {"drain": "1s"}),
}
CAUGHT: dict[str, tuple[Scenario, str]] = {
    "no-upstream-cancel": (partial(scenarios.vanishing_clients, count=3, how="rst"), "I3|I4"),
    "no-error-on-truncation": (scenarios.cut_streams, "silent"),
    "double-settle": (scenarios.healthy, "I5"),
    "swallowed-done": (scenarios.healthy, "silent: the stream ended"),
    "ignored-limits": (scenarios.too_large, "413|431|^$"),
    "unbounded-buffer": (bounded_buffers, "bytes for slow readers"),
    "leaked-inflight": (scenarios.healthy, "I3.*in flight"),
    "leaked-connection": (partial(scenarios.vanishing_clients, count=3, how="rst"), "I3.*upstream calls|I4"),
    "leaked-task": (scenarios.healthy, "I3.*tasks"),
    "secret-in-error": (scenarios.quoted_key, "I8: "),
    "prompt-in-log": (scenarios.healthy, "I8: the log"),
    "wrong-label": (scenarios.healthy, "I2.*booked on acme"),
    "retry-after-content": (scenarios.fallback_after_content, "I6|I1|complete"),
    "too-many-attempts": (scenarios.chained, "I6"),
    "forwarded-malformed": (scenarios.malformed_events, "json|Expecting|list|choices"),
    "usage-not-hidden": (scenarios.healthy, "I1.*usage"),
    "no-idle-timeout": (scenarios.stalled_stream, "^$"),
    "free-of-charge": (scenarios.usage_missing, "I2.*for nothing"),
    "crossed-answers": (scenarios.crossing, "I7"),
    "all-headers-forwarded": (scenarios.odd_headers, "I8: a request"),
    "blocking-call": (free_loop, "busy"),
    "unbounded-labels": (few_series, "new series"),
}


LEAKS = ("no-upstream-cancel", "leaked-inflight", "leaked-connection", "leaked-task")  # mending comes too late


def test_every_sabotage_is_named_here() -> None:
    assert CAUGHT.keys() | STOPS.keys() == SABOTAGES.keys()


def run_and_check(scenario: Scenario, rig: Rig) -> None:
    asyncio.run(scenario(rig))  # type: ignore[arg-type]
    rig.check()


@pytest.fixture
def broken(running: Rig) -> Iterator[Rig]:
    """The module's rig, mended afterwards."""
    running.forget()
    running.patience = 1.5
    yield running
    running.patience = SOON
    running.sabotage("")
    invariants.quiet(running)  # what the sabotage left running is not the next one's
    running.forget()


@pytest.mark.parametrize("name", [name for name in CAUGHT if name not in LEAKS])
def test_it_is_caught(broken: Rig, name: str) -> None:
    """Both the scenario and the invariants after it count; a timeout is a scenario that noticed."""
    scenario, reason = CAUGHT[name]
    broken.sabotage(name)
    with pytest.raises((AssertionError, TimeoutError, ValueError), match=reason):
        run_and_check(scenario, broken)


@pytest.mark.parametrize("name", LEAKS)
def test_leaks_are_caught(name: str) -> None:
    """What they leave behind stays: each has a rig of its own."""
    scenario, reason = CAUGHT[name]
    with Rig(sabotage=name) as rig:
        rig.patience = 1.5
        with pytest.raises(AssertionError, match=reason):
            run_and_check(scenario, rig)


@pytest.mark.parametrize("name", STOPS)
def test_a_bad_stop_is_caught(name: str) -> None:
    scenario, settings = STOPS[name]
    with Rig(sabotage=name, settings=settings) as rig, pytest.raises(AssertionError, match="drain: "):
        asyncio.run(scenario(rig))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CAUGHT)
def test_the_scenario_passes_without_it(rig: Rig, name: str) -> None:
    """Else it would catch anything."""
    asyncio.run(CAUGHT[name][0](rig))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STOPS)
def test_a_good_stop_passes(name: str) -> None:
    scenario, settings = STOPS[name]
    with Rig(settings=settings) as rig:
        asyncio.run(scenario(rig))  # type: ignore[arg-type]
