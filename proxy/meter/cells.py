"""Where the numbers live: integer cells, grouped in families, and how the numbers of several workers become one.

A family is a metric name with its labels; a cell is one series of it. Whoever counts resolves a cell once and then
adds to it, which costs a tenth of a microsecond. Nothing here knows Prometheus: `exposition` renders a state.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Labels = tuple[str, ...]

# family -> [[label values, value]...]; a histogram's value is its buckets' own counts, then its sum. Plain lists,
# text and numbers, for pickle or JSON; integers may exceed 64 bits (money is in pico-dollars).
State = dict[str, list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is: its name, type, help and labels, and how its cells read."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    scale: int = 1  # the cell's integer divided by this is the exported number
    bounds: tuple[int, ...] = ()  # of a histogram's buckets, in the cell's unit
    # Across workers: counters and histograms add. Of gauges some add, of some the least or the latest holds.
    merge: Literal["sum", "min", "max", "latest"] = "sum"


class Cell:
    """One number. Add to `value` directly."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0) -> None:
        self.value = value

    def read(self) -> Any:
        return self.value


class Distribution:
    """One histogram: how many observations fell into each bucket (not cumulated), and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def observe(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def read(self) -> Any:
        return [*self.counts, self.sum]


class Series:
    """The cells of one family, by label values. Cells are made when asked for and stay until cleared."""

    __slots__ = ("cells", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.cells: dict[Labels, Cell | Distribution] = {}

    def cell(self, *labels: str) -> Cell:
        found = self.cells.get(labels)
        if found is None:
            self._check(labels)
            found = self.cells[labels] = Cell()
        assert isinstance(found, Cell)
        return found

    def distribution(self, *labels: str) -> Distribution:
        found = self.cells.get(labels)
        if found is None:
            self._check(labels)
            found = self.cells[labels] = Distribution(self.family.bounds)
        assert isinstance(found, Distribution)
        return found

    def _check(self, labels: Labels) -> None:
        if len(labels) != len(self.family.labels):
            raise ValueError(f"{self.family.name} has the labels {self.family.labels}, got {labels}")

    def state(self) -> list[list[Any]]:
        return [[list(labels), cell.read()] for labels, cell in self.cells.items()]


def merge(states: Iterable[State], families: Mapping[str, Family]) -> State:
    """One state out of several workers', in the order in which they started (the last one is the latest)."""
    merged: dict[str, dict[Labels, Any]] = {}
    for state in states:
        for name, series in state.items():
            rule = families[name].merge if name in families else "sum"
            into = merged.setdefault(name, {})
            if rule == "latest" and series:
                into.clear()
            for labels, value in series:
                key = tuple(labels)
                into[key] = _join(rule, into[key], value) if key in into else value
    return {name: [[list(labels), value] for labels, value in into.items()] for name, into in merged.items()}


def _join(rule: str, one: Any, other: Any) -> Any:
    if rule == "min":
        return min(one, other)
    if rule == "max":
        return max(one, other)
    if rule == "latest":
        return other
    if isinstance(one, Sequence):
        if len(one) != len(other):  # a worker of another version, with other buckets: the newer one's count
            return other
        return [a + b for a, b in zip(one, other, strict=True)]
    return one + other


def retire(state: State, families: Mapping[str, Family]) -> State:
    """What stays of a worker that ended: its counters and histograms. Its gauges go with it."""
    return {name: series for name, series in state.items() if name in families and families[name].kind != "gauge"}
