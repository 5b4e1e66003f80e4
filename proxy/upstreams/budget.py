"""How many further calls there may be, retries and second ones: a share of the requests, and of the money."""

from dataclasses import dataclass
from typing import Final

SAVED: Final = 10.0  # second calls that can be earned ahead
LATELY: Final = 32  # requests over which their mean cost is taken
SPAN: Final = 10.0  # seconds: what is remembered is one to two spans old


@dataclass(frozen=True, slots=True)
class Retries:
    """Further calls of a model after one that failed, before the caller has had any content."""

    budget: float = 0.2  # of the requests of the last 10 to 20 seconds, or of those in flight if these are more
    floor: float = 3.0  # retries a second that are always allowed
    spend: float = 0.05  # of the money spent in that time, what failed attempts may cost
    attempts: int = 3  # calls of models for one request, fallbacks included
    pause: float = 2.0  # seconds at most before the same endpoint is called again; 0: it never is


class Budget:
    """Of one model, or of the worker. Counts in two spans of time, of which the older is forgotten as a whole."""

    __slots__ = ("_ends", "_now", "_past")

    def __init__(self) -> None:
        self._now = [0, 0, 0, 0, 0]  # requests, retries, spent, wasted, retries after an attempt that cost money
        self._past = [0, 0, 0, 0, 0]
        self._ends = 0.0

    def begin(self, now: float) -> None:
        """A request begins."""
        if now >= self._ends:
            self._turn(now)
        self._now[0] += 1

    def pay(self, cost: int, is_wasted: bool) -> None:
        """An attempt has cost so many pico-dollars; wasted where it was not the answer."""
        self._now[2] += cost
        if is_wasted:
            self._now[3] += cost

    def allows(self, now: float, limits: Retries, in_flight: int, wasted: int) -> bool:
        """Whether a retry may follow an attempt that cost `wasted` pico-dollars and gave nothing."""
        if now >= self._ends:
            self._turn(now)
        requests, retries, spent, lost, paid = map(sum, zip(self._now, self._past, strict=True))
        if retries + 1 > max(limits.floor * SPAN, limits.budget * max(requests, in_flight)):
            return False
        return not wasted or paid < limits.floor or lost <= limits.spend * spent

    def retried(self, wasted: int) -> None:
        """A retry is made, after an attempt that cost so much."""
        self._now[1] += 1
        self._now[4] += wasted > 0

    def _turn(self, now: float) -> None:
        self._past = self._now if now < self._ends + SPAN else [0, 0, 0, 0, 0]
        self._now = [0, 0, 0, 0, 0]
        self._ends = now + SPAN


class Stakes:
    """What second calls of a model may cost: every request, and every dollar, earns the next ones a share."""

    __slots__ = ("_calls", "_mean", "_money")

    def __init__(self) -> None:
        self._calls = 0.0  # second calls that have been earned
        self._money = 0.0  # pico-dollars that they may lose
        self._mean = 0.0  # pico-dollars that a request costs

    def begin(self, share: float) -> None:
        """A request begins that may be hedged."""
        self._calls = min(self._calls + share, SAVED)

    def paid(self, cost: int, share: float) -> None:
        """The answer has cost so much."""
        self._mean += (cost - self._mean) / (LATELY if self._mean else 1)
        self._money = min(self._money + share * cost, SAVED * self._mean)

    def take(self) -> float | None:
        """Set aside what a second call may lose; None where it has not been earned. To be given back as `lost`."""
        if self._calls < 1 or self._money < self._mean:
            return None
        self._calls -= 1
        self._money -= self._mean
        return self._mean

    def lost(self, stake: float, cost: int) -> None:
        """The second call is over; the loser has cost so much."""
        self._money += stake - cost
