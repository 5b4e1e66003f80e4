"""Runs a route's story: performs the effects it yields and sends back what came of them."""

from collections.abc import Awaitable, Callable, Generator

from routes.effects import Effect, Relay, Relayed


async def drive(
    story: Generator[Effect, Relayed | None, None],
    relay: Callable[[Relay], Awaitable[Relayed]],
) -> None:
    """Perform effects until the story ends. However it ends, the story is closed, so its `finally`s run."""
    result: Relayed | None = None
    try:
        while True:
            effect = story.send(result)
            # a FellBack needs nothing done: the attempts' roles say it to every sink
            result = await relay(effect) if isinstance(effect, Relay) else None
    except StopIteration:
        return
    finally:
        story.close()
