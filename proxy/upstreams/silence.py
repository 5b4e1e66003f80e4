"""Servers that take calls and say nothing: how long an endpoint has been silent, and whether that is unlike it.

A timeout of the first content must suit the slowest honest answer, so it comes late: until then a server that has
stopped gathers calls. What gives it away is that none of many answers while, by its own past, some should have.
"""

import math
from collections.abc import Iterator
from typing import Final, Protocol

MANY: Final = 8  # calls that wait; half as many are given twice the time
FEW: Final = 2  # fewer may be waiting by chance, however long
KNOWN: Final = 20  # answers heard, before which nothing is unlike it
TIMES: Final = 3.0  # as long as the slowest of the last few hundred answers
LEAST: Final = 1.0  # second of silence: less may be a pause of the machine's, or of the network's
AGAIN: Final = 0.1  # seconds between the two looks that it takes: had we slept ourselves, answers are heard by then
FADES: Final = 0.005  # per answer: what the slowest one loses to those after it


class Waiting(Protocol):
    """A call that waits for its first content."""

    def move(self) -> bool:
        """Give up, to be made elsewhere. False where it may not."""
        ...


class Silence:
    """Of one kind of calls (streamed or whole, which wait for different things) at one endpoint."""

    __slots__ = ("_doubted", "_heard", "_known", "said", "slowest", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Waiting, None] = {}  # in order
        self.slowest = 0.0  # seconds
        self._known = 0
        self.said = -math.inf  # when it last said something
        self._heard = 0.0  # the same, or when it was first asked since
        self._doubted = 0.0  # when it was first found too silent

    def begin(self, call: Waiting, now: float) -> None:
        if not self.waiting:
            self._heard, self._doubted = now, 0.0
        self.waiting[call] = None

    def end(self, call: Waiting) -> None:
        self.waiting.pop(call, None)

    def heard(self, now: float) -> None:
        self.said = self._heard = now
        self._doubted = 0.0

    def answered(self, call: Waiting, now: float, latency: float) -> None:
        self.waiting.pop(call, None)
        self.heard(now)
        self._known += 1
        self.slowest = latency if latency > self.slowest else self.slowest - (self.slowest - latency) * FADES

    def is_odd(self, now: float, is_probe: bool = False, said: float = -math.inf) -> bool:
        """Whether so many wait for so long that it must have stopped. A probe is alone, and suspected already.

        `said`: when it last answered a call of the other kind, which tells as well that it has not.
        """
        count = len(self.waiting)
        if not count or self._known < KNOWN or (count < FEW and not is_probe):
            return False
        lots = 1.0 if is_probe or count >= MANY else MANY / count
        if now - max(self._heard, said) <= max(LEAST, TIMES * self.slowest) * lots:
            self._doubted = 0.0
            return False
        if not self._doubted:
            self._doubted = now
        return now - self._doubted >= AGAIN

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self.waiting))
