"""From the proxy's /metrics to what the demo shows: per route and in all. Pure."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

PROMPT_KINDS = ("input", "cached_input", "cache_write")
ANSWER_KINDS = ("output", "reasoning")


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """Read Prometheus' text format; comments are skipped."""
    return [
        Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3]))
        for line in text.splitlines()
        if (found := _LINE.match(line))
    ]


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """One route. Tokens and dollars are of its attempts, requests and latencies (seconds) of what it answered."""

    route: str
    requests: int
    failed: int
    input: int  # prompt tokens, cached ones included
    cached: int
    output: int  # completion tokens, reasoning included
    usd: float
    baseline_usd: float
    uncached_baseline_usd: float | None  # the baseline as if it had no prompt cache; None while unknown
    p50: float | None
    p95: float | None
    first_token: float | None  # median

    @property
    def saved(self) -> float:
        """Against the baseline with its cache hits: what the invoice would show."""
        return self.baseline_usd - self.usd

    @property
    def naively_saved(self) -> float | None:
        """Against the baseline at list price: the larger number that slides show."""
        return None if self.uncached_baseline_usd is None else self.uncached_baseline_usd - self.usd


@dataclass(frozen=True, slots=True)
class Figures:
    routes: tuple[RouteFigures, ...]
    total: RouteFigures
    baseline: str | None  # the route that savings are measured against
    fallbacks: int

    def describe(self) -> dict[str, Any]:
        """For a program: dollars and seconds as numbers."""
        return {
            "baseline": self.baseline,
            "fallbacks": self.fallbacks,
            "routes": [_describe(each) for each in self.routes],
            "total": _describe(self.total),
        }


def _describe(row: RouteFigures) -> dict[str, Any]:
    naive = row.naively_saved
    return {
        "route": row.route,
        "requests": row.requests,
        "failed": row.failed,
        "tokens": {"input": row.input, "cached_input": row.cached, "output": row.output},
        "cost_usd": round(row.usd, 9),
        "baseline_usd": round(row.baseline_usd, 9),
        "saved_usd": round(row.saved, 9),
        "naively_saved_usd": None if naive is None else round(naive, 9),
        "p50_seconds": row.p50,
        "p95_seconds": row.p95,
        "first_token_p50_seconds": row.first_token,
    }


class Scrape:
    """The samples of one scrape, summed by what is asked."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._samples[sample.name].append(sample)

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def sum(self, name: str, **labels: str | tuple[str, ...]) -> float:
        return math.fsum(sample.value for sample in self._matching(name, labels))

    def values(self, name: str, label: str) -> list[str]:
        return sorted({found for sample in self._samples[name] if (found := sample.labels.get(label))})

    def quantile(self, q: float, name: str, **labels: str | tuple[str, ...]) -> float | None:
        """As PromQL's histogram_quantile: linear inside the bucket; None without observations."""
        buckets: dict[float, float] = defaultdict(float)
        for sample in self._matching(f"{name}_bucket", labels):
            buckets[float(sample.labels["le"])] += sample.value
        return quantile(q, sorted(buckets.items()))

    def _matching(self, name: str, labels: Mapping[str, str | tuple[str, ...]]) -> Iterable[Sample]:
        for sample in self._samples[name]:
            if all(sample.labels.get(k) in ((v,) if isinstance(v, str) else v) for k, v in labels.items()):
                yield sample


def quantile(q: float, buckets: list[tuple[float, float]]) -> float | None:
    """`buckets`: (upper bound, cumulative count), rising."""
    if not buckets or not buckets[-1][1]:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * ((rank - below) / (count - below) if count > below else 1.0)
        lower, below = bound, count
    return lower


def figures(text: str) -> Figures:
    """Compute everything the demo shows from one scrape."""
    scrape = Scrape(parse(text))
    baselines = scrape.values("pointsman_baseline_cost_usd_total", "baseline")
    baseline = next((each for each in baselines if each != "none"), None)
    names = [name for name in scrape.values("pointsman_requests_total", "route") if name != "none"]
    list_price = _mean_at_list_price(scrape, baseline)
    rows = tuple(_row(scrape, name, baseline, list_price) for name in names)
    rows = tuple(row for row in rows if row.requests or row.usd)
    fallbacks = round(scrape.sum("pointsman_fallbacks_total"))
    return Figures(rows, _total(scrape, rows), baseline, fallbacks)


def _row(scrape: Scrape, route: str, baseline: str | None, list_price: float | None) -> RouteFigures:
    requests = round(scrape.sum("pointsman_requests_total", route=route))
    answered = round(scrape.sum("pointsman_requests_total", route=route, outcome="ok"))
    return RouteFigures(
        route=route,
        requests=requests,
        failed=requests - answered,
        input=round(scrape.sum("pointsman_tokens_total", route=route, kind=PROMPT_KINDS)),
        cached=round(scrape.sum("pointsman_tokens_total", route=route, kind="cached_input")),
        output=round(scrape.sum("pointsman_tokens_total", route=route, kind=ANSWER_KINDS)),
        usd=scrape.sum("pointsman_cost_usd_total", route=route),
        baseline_usd=scrape.sum("pointsman_baseline_cost_usd_total", route=route),
        uncached_baseline_usd=_uncached(scrape, route, baseline, answered, list_price),
        p50=scrape.quantile(0.5, "pointsman_request_duration_seconds", route=route),
        p95=scrape.quantile(0.95, "pointsman_request_duration_seconds", route=route),
        first_token=scrape.quantile(0.5, "pointsman_time_to_first_token_seconds", route=route),
    )


def _total(scrape: Scrape, rows: tuple[RouteFigures, ...]) -> RouteFigures:
    uncached = [row.uncached_baseline_usd for row in rows]
    return RouteFigures(
        route="total",
        requests=sum(row.requests for row in rows),
        failed=sum(row.failed for row in rows),
        input=sum(row.input for row in rows),
        cached=sum(row.cached for row in rows),
        output=sum(row.output for row in rows),
        usd=math.fsum(row.usd for row in rows),
        baseline_usd=math.fsum(row.baseline_usd for row in rows),
        uncached_baseline_usd=None if None in uncached else math.fsum(each for each in uncached if each is not None),
        p50=scrape.quantile(0.5, "pointsman_request_duration_seconds"),
        p95=scrape.quantile(0.95, "pointsman_request_duration_seconds"),
        first_token=scrape.quantile(0.5, "pointsman_time_to_first_token_seconds"),
    )


UNCACHED = "pointsman_baseline_uncached_cost_usd_total"


def _uncached(
    scrape: Scrape, route: str, baseline: str | None, answered: int, list_price: float | None
) -> float | None:
    """The naive baseline: the proxy's own figure if it exports one, else each answer at the mean list price."""
    if UNCACHED in scrape:
        return scrape.sum(UNCACHED, route=route)
    if route == baseline:
        return _at_list_price(scrape, route)
    return None if list_price is None else answered * list_price


def _mean_at_list_price(scrape: Scrape, baseline: str | None) -> float | None:
    if baseline is None:
        return None
    total = _at_list_price(scrape, baseline)
    answered = scrape.sum("pointsman_requests_total", route=baseline, outcome="ok")
    return total / answered if total is not None and answered else None


def _at_list_price(scrape: Scrape, route: str) -> float | None:
    """What a route's tokens would have cost with no cache hits; the price is what its uncached ones did cost."""
    uncached = scrape.sum("pointsman_tokens_total", route=route, kind="input")
    if not uncached:
        return None
    price = scrape.sum("pointsman_cost_usd_total", route=route, kind="input") / uncached
    prompt = scrape.sum("pointsman_tokens_total", route=route, kind=PROMPT_KINDS)
    return prompt * price + scrape.sum("pointsman_cost_usd_total", route=route, kind=ANSWER_KINDS)
