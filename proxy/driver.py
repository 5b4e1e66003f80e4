"""Runs a route's story: performs the effects it yields and sends back what came of them."""

from collections.abc import Awaitable, Callable, Generator

from routes.effects import Effect, FellBack, Relay, Relayed


async def drive(
    story: Generator[Effect, Relayed | None, None],
    relay: Callable[[Relay], Awaitable[Relayed]],
    note: Callable[[FellBack], None],
) -> None:
    """Perform effects until the story ends. However it ends, the story is closed, so its `finally`s run."""
    result: Relayed | None = None
    try:
        while True:
            effect = story.send(result)
            if isinstance(effect, Relay):
                result = await relay(effect)
            else:
                result = None
                note(effect)
    except StopIteration:
        return
    finally:
        story.close()
