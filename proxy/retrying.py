"""After a failed call, before the caller has had any content: whether another one is made, where, and when.

At another endpoint of the model at once; where there is none, and no fallback either, at the same one after a pause.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.upstreams.balance import FAULTS, RETRIED, SAME_UPSTREAM, Place, Rotation
from proxy.upstreams.base import Failed
from proxy.upstreams.classify import LONGEST_WAIT
from routes import failure
from routes.route import Route

if TYPE_CHECKING:
    from proxy.relay import Relaying

# What may be gone a moment later. A timeout would be waited for twice, a refused certificate or key stays refused,
# and who is rate limited is told by the answer itself when to come back.
PASSING: Final = frozenset({failure.CONNECT, failure.UPSTREAM_5XX, failure.BAD_ANSWER})
FIRST_PAUSE: Final = 0.05  # seconds at most before a second call; twice that before a third
LONGEST_OBEYED: Final = 20.0  # seconds of `retry-after` that a caller is kept waiting for


class Silent(Failed):
    """Taken back from an endpoint that has fallen silent: its retry is granted already."""

    def __init__(self, name: str) -> None:
        super().__init__(failure.TIMEOUT, f"{name!r} has stopped answering", phase="first_content")


class Retrying:
    """Of one request at one model, once a call has failed."""

    def __init__(self, relaying: "Relaying", rotation: Rotation, route: Route, tried: list[Place]) -> None:
        self._relaying = relaying
        self._rotation = rotation
        self._route = route
        self.tried = tried

    async def next(self, failed: Failed, now: float) -> Place | None:
        """The endpoint to call now, after a pause if need be; None to give up."""
        relaying = self._relaying
        relaying.leave_seat()
        account, limits = relaying.account, relaying.account.snapshot.retries
        if failed.failure not in RETRIED or not is_open(relaying, self._route, failed.failure, now):
            return None
        place, pause = self._rotation.choose(now, self.tried), 0.0
        if place is None:
            if failed.failure == failure.RATE_LIMITED:  # the caller may come back when the first of them is ready
                relaying.retry_after = min(relaying.retry_after or LONGEST_WAIT, self._rotation.wait(now))
            place = None if falls_back(self._route, failed.failure) else self._same(failed, now)
            pause = self._pause(failed)
            if place is None or now + pause >= relaying.end:
                return None
        wasted = account.attempts[-1].cost.total
        if not isinstance(failed, Silent) and not relaying.rotations.may_retry(self._rotation, now, limits, wasted):
            return None
        if pause:
            await asyncio.sleep(pause)
            if place.health.is_out or not place.has_room:  # others have come in the meantime
                return None
        self.tried.append(place)
        return place

    def _same(self, failed: Failed, now: float) -> Place | None:
        """One that has failed this request once, where that may have been passing."""
        if failed.failure not in PASSING or failed.phase == "tls" or (failed.retry_after or 0.0) > LONGEST_OBEYED:
            return None
        if not self._relaying.account.snapshot.retries.pause:
            return None
        upstreams = [place.upstream for place in self.tried]
        for place in self.tried:
            if self.tried.count(place) > 1 or upstreams.count(place.upstream) >= SAME_UPSTREAM:
                continue
            health, lasting = place.health, self._rotation.ejection.consecutive
            if not health.is_out and health.consecutive < lasting and health.cool_until <= now and place.has_room:
                return place
        return None

    def _pause(self, failed: Failed) -> float:
        """Seconds, with full jitter, so that callers who failed together do not come back together."""
        most = min(FIRST_PAUSE * 2 ** (len(self.tried) - 1), self._relaying.account.snapshot.retries.pause)
        pause: float = self._relaying.rotations.chance() * most
        return max(pause, failed.retry_after or 0.0)

    def judge(self, failed: Failed, now: float) -> None:
        """A request that fails at one endpoint after another may be what is wrong."""
        relaying = self._relaying
        if len(set(self.tried)) > 1 and not relaying.committed and failed.failure in FAULTS:
            relaying.rotations.suspect(hash(relaying.exchange.body), now)


def falls_back(route: Route, why: str) -> bool:
    return any(why in fallback.on for fallback in route.fallback)


def is_open(relaying: "Relaying", route: Route, why: str, now: float, running: int = 0) -> bool:
    """Whether a request whose call fails, or is about to, may still be sent again. A fallback keeps one attempt."""
    account = relaying.account
    left = account.snapshot.retries.attempts - len(account.attempts) - running - falls_back(route, why)
    return left > 0 and not relaying.committed and now < relaying.end and not relaying.is_suspect()


class Wait:
    """For the first content of a call, where it may be ended early. A `proxy.upstreams.silence.Waiting`."""

    __slots__ = ("_is_over", "_relaying", "_rotation", "_route", "_task", "_tried")

    def __init__(
        self,
        relaying: "Relaying",
        rotation: Rotation,
        route: Route,
        tried: list[Place],
        task: "asyncio.Task[object]",
    ) -> None:
        self._relaying = relaying
        self._rotation = rotation
        self._route = route
        self._tried = tried
        self._task = task
        self._is_over = False

    def move(self) -> bool:
        """End it, if the request may be sent elsewhere: whoever waits is cancelled, and asks `is_over`.

        The seat it will have is taken here, or many would be moved to the same one.
        """
        relaying, now = self._relaying, self._task.get_loop().time()
        if self._is_over or not is_open(relaying, self._route, failure.TIMEOUT, now, running=1):
            return False
        if relaying.race is not None and relaying.race.is_on:  # the other call is help enough
            return False
        if relaying.exchange.disconnected:  # it goes on for its bill, which nobody else knows
            return False
        place = self._rotation.choose(now, self._tried)
        if place is None:
            return False
        if not relaying.rotations.may_retry(self._rotation, now, relaying.account.snapshot.retries, 0):
            return False
        relaying.take_seat(place)
        self._is_over = True
        return self._task.cancel()

    def is_over(self) -> bool:
        """Whether the cancellation just met was this one alone: the caller may have left in the same moment."""
        return self._is_over and self._task.uncancel() == 0
