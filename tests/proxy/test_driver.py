"""The driver performs what a story yields, in order, and always closes the story."""

import asyncio
from collections.abc import Generator

import pytest

from proxy.driver import drive
from routes.effects import Effect, FellBack, Relay, Relayed
from routes.route import Route

STRONG, TUNED = Route("strong", "strong"), Route("tuned", "lora")
Story = Generator[Effect, Relayed | None, None]


def relay(route: Route) -> Relay:
    return Relay(route, {})


async def test_each_relay_is_answered_and_a_note_is_not_waited_for() -> None:
    told: list[Relayed | None] = []
    relayed: list[str] = []
    noted: list[FellBack] = []

    def story() -> Story:
        told.append((yield relay(TUNED)))
        told.append((yield FellBack("tuned", "strong", "timeout")))
        told.append((yield relay(STRONG)))

    async def perform(effect: Relay) -> Relayed:
        relayed.append(effect.route.name)
        return Relayed(failure="timeout" if effect.route is TUNED else None)

    await drive(story(), perform, noted.append)
    assert relayed == ["tuned", "strong"]
    assert told == [Relayed("timeout"), None, Relayed()]
    assert noted == [FellBack("tuned", "strong", "timeout")]


@pytest.mark.parametrize("error", [RuntimeError("a defect"), asyncio.CancelledError()])
async def test_the_story_is_closed_when_an_effect_does_not_come_back(error: BaseException) -> None:
    """A caller who leaves cancels the effect; what a story cleans up in its `finally` is cleaned up."""
    closed: list[bool] = []
    noted: list[FellBack] = []

    def story() -> Story:
        try:
            yield relay(STRONG)
        finally:
            closed.append(True)

    async def perform(_: Relay) -> Relayed:
        raise error

    with pytest.raises(type(error)):
        await drive(story(), perform, noted.append)
    assert closed == [True]


async def test_a_storys_own_error_comes_out() -> None:
    noted: list[FellBack] = []

    def story() -> Story:
        raise ValueError("cannot be rendered")
        yield relay(STRONG)

    async def perform(_: Relay) -> Relayed:
        raise AssertionError("nothing was asked for")

    with pytest.raises(ValueError, match="cannot be rendered"):
        await drive(story(), perform, noted.append)
