"""A second call of a model at another endpoint, where the first is late: who has content first answers.

Opt-in, and within a budget: the loser may have to be paid. It is cancelled, and booked with the role `hedge`, so that
the cost of that role is what hedging costs.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proxy.account import Trial
from proxy.runtime import Endpoint, Model
from proxy.sending import encoded
from proxy.upstreams.balance import Place, Rotation
from proxy.upstreams.base import Failed
from routes.effects import Relay
from routes.route import Hedge

if TYPE_CHECKING:
    from proxy.relay import Relaying

Run = Coroutine[Any, Any, Failed | None]
Calling = asyncio.Task[Failed | None]
Outlives = Callable[[Calling, Endpoint], bool]

ROLE = "hedge"


class Race:
    """Between two calls. Each enters with its trial; the first that has content says that it has won."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._trials: dict[asyncio.Task[Any] | None, Trial] = {}
        self._calls: list[Calling] = []
        self._winner: asyncio.Task[Any] | None = None

    @property
    def is_on(self) -> bool:
        """Whether there are two."""
        return len(self._calls) > 1

    def enter(self, trial: Trial) -> None:
        self._trials[asyncio.current_task()] = trial

    async def won(self, trial: Trial) -> None:
        """Cancel the other call and wait until it is booked: its connection is closed by then."""
        self._winner = asyncio.current_task()
        for task, other in self._trials.items():
            if task is not self._winner:
                other.role = ROLE
        trial.role = self._role
        losers = [call for call in self._calls if call is not self._winner]
        for loser in losers:
            loser.cancel()
        if losers:
            await asyncio.wait(losers)

    async def run(
        self, first: Run, second: Callable[[], Run | None], after: float, outlives: Outlives
    ) -> Failed | None:
        """Begin with `first`; `second` makes the other call once `after` seconds have passed, if it may be made.

        Returns the failure of the call that won, or of the last one if none did. However it ends, both have; but if
        the caller leaves, the one that won, or is alone, may outlive it.
        """
        loop = asyncio.get_running_loop()
        self._calls.append(loop.create_task(first))
        try:
            await asyncio.wait(self._calls, timeout=after)
            other = second() if self._winner is None and not self._calls[0].done() else None
            if other is not None:
                self._calls.append(loop.create_task(other))
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            last = self._last()
            await asyncio.wait((last,))  # a cancellation is ours alone
            return last.result()
        except asyncio.CancelledError:
            last = self._last()
            is_alone = last is self._winner or sum(not call.done() for call in self._calls) == 1
            if is_alone and last in self._trials and outlives(last, self._trials[last].endpoint):
                self._calls.remove(last)
            raise
        finally:
            await self._end()

    def _last(self) -> Calling:
        """The winner's call, or the one that still runs."""
        if self._winner in self._calls:
            return self._calls[self._calls.index(self._winner)]
        return next((call for call in self._calls if not call.done()), self._calls[-1])

    async def _end(self) -> None:
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        for call in self._calls:
            if not call.cancelled():
                call.exception()  # of the one that nobody awaited


async def hedged(
    relaying: "Relaying", effect: Relay, model: Model, rotation: Rotation, tried: list[Place], hedge: Hedge
) -> Failed | None:
    """As `Relaying.call`, with a second endpoint called where content is late and the budget allows it."""
    account, stakes = relaying.account, rotation.stakes
    before, limits = len(account.attempts), account.snapshot.retries
    stake: float | None = None
    stakes.begin(hedge.budget)

    def second() -> Run | None:
        nonlocal stake
        left = limits.attempts - len(account.attempts) - 1 - bool(effect.route.fallback)
        now = asyncio.get_running_loop().time()
        relaying.leave_seat()  # the first may be about to be moved: then this is where
        place = rotation.choose(now, tried) if left > 0 and rotation.ejected < 2 else None
        if place is None or (stake := stakes.take()) is None:
            return None
        tried.append(place)
        data = encoded(effect.body, model.endpoints[place.index])
        return relaying.call(replace(effect, role=ROLE), data, model, rotation, [*tried], relaying.end)

    relaying.race = race = Race(effect.role)
    data = encoded(effect.body, model.endpoints[tried[-1].index])
    try:
        first = relaying.call(effect, data, model, rotation, [*tried], None)
        return await race.run(first, second, hedge.after, relaying.outlives)
    finally:
        relaying.race = None
        made = account.attempts[before:]
        for attempt in made:
            if attempt.role != ROLE:
                stakes.paid(attempt.cost.total, hedge.budget)
        if stake is not None:
            stakes.lost(stake, sum(attempt.cost.total for attempt in made if attempt.role == ROLE))
