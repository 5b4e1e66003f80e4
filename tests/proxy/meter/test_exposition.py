"""The page that Prometheus scrapes."""

import os
import subprocess
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.meter.cells import merge
from proxy.meter.exposition import exposition, process
from proxy.meter.families import FAMILIES
from proxy.meter.metrics import Meters
from tests.proxy.meter.samples import attempt, service, settled, snapshot

CONTRACT = {
    "pointsman_requests_total": "tenant policy rule route model prompt outcome",
    "pointsman_tokens_total": "tenant policy route model prompt role kind source",
    "pointsman_cost_usd_total": "tenant policy route model prompt role kind source",
    "pointsman_baseline_cost_usd_total": "tenant policy route baseline source",
    "pointsman_baseline_uncached_cost_usd_total": "tenant policy route baseline source",
    "pointsman_request_duration_seconds": "policy rule route model stream",
    "pointsman_time_to_first_token_seconds": "policy rule route model",
    "pointsman_time_per_output_token_seconds": "policy rule route model",
    "pointsman_overhead_seconds": "api",
    "pointsman_upstream_attempts_total": "model endpoint result",
    "pointsman_fallbacks_total": "policy from to reason",
    "pointsman_caller_prompt_total": "policy result",
    "pointsman_split_share": "policy rule route",
    "pointsman_inflight_requests": "policy",
    "pointsman_unpriced_requests_total": "model",
    "pointsman_config_reloads_total": "result",
    "pointsman_config_last_reload_successful": "",
    "pointsman_config_info": "hash",
}


def busy() -> Meters:
    meters = Meters("0.1.0")
    meters.use(snapshot(service(rules=3), tenants=('with "quotes"', "new\nline", "back\\slash")))
    meters.settled(settled())
    return meters


def samples(page: bytes) -> dict[tuple[str, frozenset[Any]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(page.decode())
        for sample in metric.samples
    }


def test_every_promised_series_is_there_from_the_first_scrape_with_its_labels() -> None:
    meters = Meters("0.1.0")
    meters.use(snapshot())
    found: dict[str, set[frozenset[str]]] = {}
    for name, labels in samples(exposition(meters.state())):
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        found.setdefault(base, set()).add(frozenset(label for label, _ in labels) - {"le"})
    for name, expected in CONTRACT.items():
        assert found.get(name) == {frozenset(expected.split())}, name


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say() -> None:
    meters = busy()
    page = exposition({**meters.state(), **process()})
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_money_is_exported_as_the_nearest_number_of_dollars() -> None:
    """After a billion odd additions too: the cell is an integer."""
    meters = busy()
    cell = meters._series["pointsman_cost_usd_total"].cell(
        "search", "support", "tuned", "lora", "none", "primary", "input", "upstream"
    )
    cell.value = 123_456_789_012_345_678_901
    value = [
        value
        for (name, labels), value in samples(exposition(meters.state())).items()
        if name == "pointsman_cost_usd_total" and {("kind", "input"), ("tenant", "search")} <= labels and value
    ]
    assert value == [float(Fraction(123_456_789_012_345_678_901, 10**12))]


def test_buckets_cumulate_and_end_in_the_count() -> None:
    meters = busy()
    for duration in (0.05, 0.0500001, 599.0, 700.0):
        meters.settled(settled(duration=duration, stream=False))
    found = samples(exposition(meters.state()))
    name = "pointsman_request_duration_seconds"
    labels = {("policy", "support"), ("rule", "default"), ("route", "tuned"), ("model", "lora"), ("stream", "false")}
    buckets = {
        dict(given)["le"]: value
        for (sample, given), value in found.items()
        if sample == f"{name}_bucket" and labels <= given
    }
    assert (buckets["0.05"], buckets["0.1"], buckets["300.0"], buckets["600.0"], buckets["+Inf"]) == (1, 2, 2, 3, 4)
    assert found[f"{name}_count", frozenset(labels)] == 4
    assert found[f"{name}_sum", frozenset(labels)] == pytest.approx(1299.1000001)
    assert list(buckets.values()) == sorted(buckets.values())


def test_several_workers_make_one_page() -> None:
    """Two workers and the sums of a dead one: counters add, the process metrics too."""
    one, two = busy(), busy()
    two.settled(settled(attempt(), attempt(route="strong", model="strong", prompt="support@3", role="fallback")))
    page = exposition(merge([{**one.state(), **process()}, {**two.state(), **process()}], FAMILIES))
    found = samples(page)
    assert sum(value for (name, _), value in found.items() if name == "pointsman_requests_total") == 3
    assert found["pointsman_config_info", frozenset({("hash", "0123456789ab")})] == 1
    assert found["process_open_fds", frozenset()] > len(os.listdir("/proc/self/fd"))


def test_process_metrics_are_the_usual_ones() -> None:
    found = samples(exposition(process()))
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"):
        assert found[f"process_{name}", frozenset()] > 0


def test_a_config_reload_shows_its_version_and_hash() -> None:
    found = samples(exposition(busy().state()))
    assert found["pointsman_build_info", frozenset({("version", "0.1.0")})] == 1
