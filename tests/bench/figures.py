"""Statistics of a run, and the targets they are held against. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` percent of the values do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * share / 100), 1) - 1]


@dataclass(frozen=True)
class Figure:
    """One number from several rounds: their median, lowest and highest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        return cls(median(values), min(values), max(values))

    def show(self, unit: str) -> str:
        """`4.12x (3.95-4.40)`; the range only where there was more than one round."""
        gap = "" if unit == "x" else " "
        spread = "" if self.low == self.high else f" ({_digits(self.low)}–{_digits(self.high)})"
        return f"{_digits(self.middle)}{gap}{unit}{spread}"


def _digits(value: float) -> str:
    """Three digits or so, and thousands whole."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{decimals}f}"


def ratio(subject: Sequence[float], reference: Sequence[float]) -> Figure:
    """Round by round, so that a machine that slows down during the run slows both sides of each division."""
    return Figure.of([mine / theirs for mine, theirs in zip(subject, reference, strict=True)])


@dataclass(frozen=True)
class Target:
    """What a figure should stay at or below."""

    figure: str
    limit: float
    unit: str

    def verdict(self, figure: Figure | None) -> str:
        if figure is None:
            return "not measured"
        return "met" if figure.middle <= self.limit else "missed"


TARGETS = (
    Target("JSON / nginx", 6, "x"),
    Target("burst / nginx", 3, "x"),
    Target("paced / nginx", 2.5, "x"),
    Target("JSON / tensorzero", 0.4, "x"),
    Target("burst / tensorzero", 0.1, "x"),
    Target("paced / tensorzero", 0.5, "x"),
    Target("added latency, p50", 0.3, "ms"),
    Target("added latency, p99", 2, "ms"),
    Target("start to ready", 1.5, "s"),
    Target("memory, ready", 100, "MB"),
    Target("memory, 10,000 open streams", 600, "MB"),
)
