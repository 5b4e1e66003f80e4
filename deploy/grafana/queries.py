"""PromQL for the dashboard: filtered by its variables, divisions guarded, quantiles over `sum by (le, ...)`."""

from typing import Any

COST = "pointsman_cost_usd_total"
BASELINE = "pointsman_baseline_cost_usd_total"
HOUR = 3600  # seconds: costs are shown per hour

# Which of the dashboard's variables each metric can be filtered by.
FILTERS = {
    "pointsman_requests_total": ("tenant", "policy", "route", "model"),
    "pointsman_tokens_total": ("tenant", "policy", "route", "model"),
    "pointsman_cost_usd_total": ("tenant", "policy", "route", "model"),
    "pointsman_baseline_cost_usd_total": ("tenant", "policy", "route"),
    "pointsman_baseline_uncached_cost_usd_total": ("tenant", "policy", "route"),
    "pointsman_request_duration_seconds": ("policy", "route", "model"),
    "pointsman_time_to_first_token_seconds": ("policy", "route", "model"),
    "pointsman_time_per_output_token_seconds": ("policy", "route", "model"),
    "pointsman_overhead_seconds": (),
    "pointsman_upstream_attempts_total": ("model",),
    "pointsman_fallbacks_total": ("policy",),
    "pointsman_retries_total": ("model",),
    "pointsman_ejections_total": ("model",),
    "pointsman_endpoint_state": ("model",),
    "pointsman_caller_prompt_total": ("policy",),
    "pointsman_split_share": ("policy", "route"),
    "pointsman_inflight_requests": ("policy",),
    "pointsman_unpriced_requests_total": ("model",),
    "pointsman_shed_total": (),
    "pointsman_connections": (),
    "pointsman_memory_used_ratio": (),
    "pointsman_event_loop_lag_seconds": (),
    "pointsman_workers_lost_total": (),
    "pointsman_log_lines_dropped_total": (),
    "pointsman_config_reloads_total": (),
    "pointsman_config_info": (),
}
Target = tuple[str, str]  # (expression, legend)


def series(metric: str, *matchers: str, suffix: str = "", without: tuple[str, ...] = ()) -> str:
    """The metric's selector, filtered by the dashboard's variables and these further matchers."""
    chosen = [f'{name}=~"${name}"' for name in FILTERS[metric] if name not in without]
    inside = ",".join([*chosen, *matchers])
    return f"{metric}{suffix}{{{inside}}}" if inside else metric + suffix


def total(function: str, metric: str, by: str = "", *matchers: str, window: str, **how: Any) -> str:
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}({function}({series(metric, *matchers, **how)}[{window}]))"


def rate(metric: str, by: str = "", *matchers: str, **how: Any) -> str:
    return total("rate", metric, by, *matchers, window="$__rate_interval", **how)


def increase(metric: str, by: str = "", *matchers: str, **how: Any) -> str:
    """Over the whole of the time shown."""
    return total("increase", metric, by, *matchers, window="$__range", **how)


def quantile(q: float, metric: str, by: str = "") -> str:
    """A quantile; the comparison drops the NaN of a window without observations."""
    grouping = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(metric, grouping, suffix='_bucket')}) >= 0"


def share(part: str, whole: str, *, on: str = "") -> str:
    """A quotient that has no value, rather than NaN, while nothing happens; `on` repeats the whole for each part."""
    matching = f" on ({on}) group_left ()" if on else ""
    return f"{part} /{matching} ({whole} > 0)"


def part(metric: str, by: str, *matchers: str) -> str:
    """The share of a metric's rate that fits these matchers, in each group."""
    return share(rate(metric, by, *matchers), rate(metric, by))


def saved(by: str = "", function: str = "rate", window: str = "$__rate_interval", against: str = BASELINE) -> str:
    """US$ saved per policy: those without a baseline drop out, for only matching sides subtract.

    Cost has a model label, the baseline none: filtering one side only would invent a saving.
    """
    baseline = total(function, against, "policy", window=window)
    cost = total(function, COST, "policy", window=window, without=("model",))
    return f"{baseline} - {cost}" if by == "policy" else f"sum({baseline} - {cost})"
