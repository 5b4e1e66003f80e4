"""The metrics the product promises, with their labels: what the rules and the dashboard may use, and nothing else."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

COUNTERS = {
    "pointsman_requests_total": ("tenant", "policy", "rule", "route", "model", "prompt", "outcome"),
    "pointsman_tokens_total": ("tenant", "policy", "route", "model", "prompt", "role", "kind", "source"),
    "pointsman_cost_usd_total": ("tenant", "policy", "route", "model", "prompt", "role", "kind", "source"),
    "pointsman_baseline_cost_usd_total": ("tenant", "policy", "route", "baseline", "source"),
    "pointsman_baseline_uncached_cost_usd_total": ("tenant", "policy", "route", "baseline", "source"),
    "pointsman_upstream_attempts_total": ("model", "endpoint", "result"),
    "pointsman_fallbacks_total": ("policy", "from", "to", "reason"),
    "pointsman_retries_total": ("model", "reason"),
    "pointsman_ejections_total": ("model", "endpoint"),
    "pointsman_caller_prompt_total": ("policy", "result"),
    "pointsman_shed_total": ("reason",),
    "pointsman_workers_lost_total": ("reason",),
    "pointsman_log_lines_dropped_total": (),
    "pointsman_unpriced_requests_total": ("model",),
    "pointsman_config_reloads_total": ("result",),
}
HISTOGRAMS = {
    "pointsman_request_duration_seconds": ("policy", "rule", "route", "model", "stream"),
    "pointsman_time_to_first_token_seconds": ("policy", "rule", "route", "model"),
    "pointsman_time_per_output_token_seconds": ("policy", "rule", "route", "model"),
    "pointsman_overhead_seconds": ("api",),
    "pointsman_event_loop_lag_seconds": (),
}
GAUGES = {
    "pointsman_split_share": ("policy", "rule", "route"),
    "pointsman_inflight_requests": ("policy",),
    "pointsman_endpoint_state": ("model", "endpoint"),
    "pointsman_connections": (),
    "pointsman_memory_used_ratio": (),
    "pointsman_config_last_reload_successful": (),
    "pointsman_config_info": ("hash",),
}
METRICS = COUNTERS | HISTOGRAMS | GAUGES

# What Prometheus adds to what it scrapes, and the one series it makes itself.
TARGET_LABELS = ("job", "instance")
OWN = {"up": ()}


def labels_of(name: str) -> tuple[str, ...] | None:
    """The labels of a series by its exposed name (`..._bucket` too), or None for a name nobody promised."""
    if name in COUNTERS or name in GAUGES:
        return METRICS[name]
    for suffix, extra in (("_bucket", ("le",)), ("_sum", ()), ("_count", ())):
        base = name.removesuffix(suffix)
        if base != name and base in HISTOGRAMS:
            return (*HISTOGRAMS[base], *extra)
    return OWN.get(name)


def breaches(exposition: str) -> Iterator[str]:
    """How a page of metrics breaks the contract: what is missing, or has other labels. More is no breach."""
    found: set[str] = set()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            promised = labels_of(sample.name)
            if promised is None:
                continue
            found.add(family.name + ("_total" if family.type == "counter" else ""))
            if set(sample.labels) != set(promised):
                yield f"{sample.name} has {sorted(sample.labels)}, not {sorted(promised)}"
    yield from (f"{name} is missing" for name in METRICS if name not in found)
