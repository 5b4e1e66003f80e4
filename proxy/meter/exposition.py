"""From cells to Prometheus' text: the only file that imports prometheus-client, and only `serve` imports it."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from proxy.meter.cells import Family, State
from proxy.meter.families import FAMILIES

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_PROCESS = ProcessCollector(registry=None)


def process() -> State:
    """CPU, memory, descriptors and start time of this process, to be sent along with its cells."""
    return {sample.name: [[[], sample.value]] for metric in _PROCESS.collect() for sample in metric.samples}


class Cells(Collector):
    """Renders a state, of one worker or merged from several, as Prometheus metrics."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        for name, family in FAMILIES.items():
            metric = Metric(name.removesuffix("_total"), family.help, family.kind)
            add = _histogram if family.kind == "histogram" else _number
            metric.samples = [
                sample for labels, value in self._state.get(name, ()) for sample in add(family, labels, value)
            ]
            yield metric


def exposition(state: State) -> bytes:
    """The page that Prometheus scrapes. Series without labels or traffic are there too, at 0."""
    registry = CollectorRegistry()
    registry.register(Cells(state))
    return generate_latest(registry)


def _number(family: Family, labels: list[str], value: float) -> Iterable[Sample]:
    # Integer division of integers is correctly rounded, however large they are.
    yield Sample(family.name, dict(zip(family.labels, labels, strict=True)), value / family.scale)


def _histogram(family: Family, labels: list[str], value: list[int]) -> Iterable[Sample]:
    of_series = dict(zip(family.labels, labels, strict=True))
    *counts, total = value
    reached = 0
    for bound, count in zip((*family.bounds, None), counts, strict=True):
        reached += count
        below = "+Inf" if bound is None else str(bound / family.scale)
        yield Sample(f"{family.name}_bucket", {**of_series, "le": below}, reached)
    yield Sample(f"{family.name}_count", of_series, reached)
    yield Sample(f"{family.name}_sum", of_series, total / family.scale)
