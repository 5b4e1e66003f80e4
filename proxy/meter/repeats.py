"""Log storms: a warning that repeats itself in the same words is one line each few seconds, with its count."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, WrappedLogger

WINDOW = 10.0  # seconds
LEVELS = frozenset({"warning", "error", "exception", "critical"})
MOST = 1000  # different lines remembered; past that all are forgotten, and told once more


@dataclass(slots=True)
class _Told:
    at: float
    untold: int = 0


class Repeats:
    """A structlog processor. Lines are the same when their event and all their texts are; numbers may differ."""

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._told: dict[tuple[tuple[str, str], ...], _Told] = {}

    def __call__(self, _: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if level not in LEVELS:
            return event
        same = tuple((name, value) for name, value in event.items() if type(value) is str)
        now = self._clock()
        told = self._told.get(same)
        if told is not None and now - told.at < self._window:
            told.untold += 1
            raise structlog.DropEvent
        if len(self._told) >= MOST:
            self._told.clear()
        self._told[same] = _Told(now)
        return {**event, "repeated": told.untold} if told is not None and told.untold else event
