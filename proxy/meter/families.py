"""Every metric there is: name, type, labels, buckets and help, in one place."""

from proxy.meter.cells import Family
from proxy.meter.cost import PICO

NANO = 10**9

OUTCOMES = ("ok", "client_error", "upstream_error", "cancelled", "rejected")
SOURCES = ("upstream", "estimated")
CALLER_PROMPT = ("exact", "near", "none")
RELOADS = ("success", "failure")
SHED_FOR = ("memory", "connections")
LOST_BY = ("ended", "stuck")


def _ns(*seconds: float) -> tuple[int, ...]:
    return tuple(round(bound * NANO) for bound in seconds)


_REQUEST = ("tenant", "policy", "rule", "route", "model", "prompt", "outcome")
_BOOKED = ("tenant", "policy", "route", "model", "prompt", "role", "kind", "source")

REQUESTS = Family(
    "pointsman_requests_total",
    "counter",
    "Requests settled, by the route that answered, else the last one tried.",
    _REQUEST,
)
TOKENS = Family(
    "pointsman_tokens_total",
    "counter",
    "Tokens billed, per attempt. The kinds are disjoint, so they add up to what the vendor counts.",
    _BOOKED,
)
COST = Family(
    "pointsman_cost_usd_total",
    "counter",
    "US dollars spent, per attempt; the sum is the invoice. Tokens of a model without a price add nothing.",
    _BOOKED,
    scale=PICO,
)
BASELINE_COST = Family(
    "pointsman_baseline_cost_usd_total",
    "counter",
    "US dollars that the baseline route would have cost, prompt cache hits counted. Savings are this less the cost.",
    ("tenant", "policy", "route", "baseline", "source"),
    scale=PICO,
)
BASELINE_UNCACHED = Family(
    "pointsman_baseline_uncached_cost_usd_total",
    "counter",
    "The same as if no prompt were ever cached: the naive figure, to be shown beside the honest one, never instead.",
    ("tenant", "policy", "route", "baseline", "source"),
    scale=PICO,
)
DURATION = Family(
    "pointsman_request_duration_seconds",
    "histogram",
    "Time from a request's first byte to the end of its answer.",
    ("policy", "rule", "route", "model", "stream"),
    scale=NANO,
    bounds=_ns(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600),
)
FIRST_TOKEN = Family(
    "pointsman_time_to_first_token_seconds",
    "histogram",
    "Time from a streamed request's first byte to its first content event.",
    ("policy", "rule", "route", "model"),
    scale=NANO,
    bounds=_ns(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60),
)
PER_TOKEN = Family(
    "pointsman_time_per_output_token_seconds",
    "histogram",
    "Time per output token of a streamed answer after its first content event.",
    ("policy", "rule", "route", "model"),
    scale=NANO,
    bounds=_ns(0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5),
)
OVERHEAD = Family(
    "pointsman_overhead_seconds",
    "histogram",
    "Time the proxy itself added to a request: neither waiting for an upstream nor for the client.",
    ("api",),
    scale=NANO,
    bounds=_ns(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
ATTEMPTS = Family(
    "pointsman_upstream_attempts_total",
    "counter",
    "Calls of upstream models, by how they ended: ok, cancelled or a failure class.",
    ("model", "endpoint", "result"),
)
FALLBACKS = Family(
    "pointsman_fallbacks_total",
    "counter",
    "Times one route took over from another, by the failure class that caused it.",
    ("policy", "from", "to", "reason"),
)
RETRIES = Family(
    "pointsman_retries_total",
    "counter",
    "Further calls of the same model after one that failed, by the failure class that caused them.",
    ("model", "reason"),
)
EJECTIONS = Family(
    "pointsman_ejections_total",
    "counter",
    "Times an endpoint was taken out of rotation because it failed, all workers.",
    ("model", "endpoint"),
)
ENDPOINT_STATE = Family(
    "pointsman_endpoint_state",
    "gauge",
    "0 in rotation, 1 cooling after a 429, 2 ejected, 3 waiting for its probe; of several workers the highest.",
    ("model", "endpoint"),
    merge="max",
)
CALLER_PROMPTS = Family(
    "pointsman_caller_prompt_total",
    "counter",
    "Requests by how well the caller's own prompt was recognised, in policies that look for one.",
    ("policy", "result"),
)
SPLIT_SHARE = Family(
    "pointsman_split_share",
    "gauge",
    "Share of a split's callers that a route is given now, between 0 and 1.",
    ("policy", "rule", "route"),
    merge="latest",
)
INFLIGHT = Family("pointsman_inflight_requests", "gauge", "Requests that are being served.", ("policy",))
SHED = Family(
    "pointsman_shed_total",
    "counter",
    "Requests and connections refused with 503 because memory or descriptors were running out.",
    ("reason",),
)
CONNECTIONS = Family("pointsman_connections", "gauge", "Connections of callers that are open, all workers.")
MEMORY = Family(
    "pointsman_memory_used_ratio",
    "gauge",
    "Share of the memory limit that is used, 0 without a limit; of several workers the highest.",
    merge="max",
)
LOOP_LAG = Family(
    "pointsman_event_loop_lag_seconds",
    "histogram",
    "How late the event loop was, looked at four times a second or more: what every request waits for.",
    scale=NANO,
    bounds=_ns(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
LOST = Family(
    "pointsman_workers_lost_total",
    "counter",
    "Workers that ended or hung without having been told to end, and were replaced.",
    ("reason",),
)
LOG_DROPPED = Family(
    "pointsman_log_lines_dropped_total", "counter", "Log lines that could not be written: too many waited."
)
UNPRICED = Family(
    "pointsman_unpriced_requests_total",
    "counter",
    "Billed upstream calls of models that have no price, so that their cost is missing from the totals.",
    ("model",),
)
CLAMPED = Family(
    "pointsman_usage_clamped_total",
    "counter",
    "Token counts that an upstream's usage made negative (cached above prompt, say) and that were set to 0.",
    ("model",),
)
RELOADS_TOTAL = Family(
    "pointsman_config_reloads_total", "counter", "Times the config was loaded again, by result.", ("result",)
)
RELOAD_OK = Family(
    "pointsman_config_last_reload_successful",
    "gauge",
    "1 if the newest config is the one in use, 0 if it was refused.",
    merge="min",
)
CONFIG_INFO = Family(
    "pointsman_config_info", "gauge", "1 for the hash of the config in use.", ("hash",), merge="latest"
)
BUILD_INFO = Family("pointsman_build_info", "gauge", "1 for the version that runs.", ("version",), merge="latest")

CPU = Family("process_cpu_seconds_total", "counter", "User and system CPU time spent, all workers.")
RSS = Family("process_resident_memory_bytes", "gauge", "Resident memory, all workers.")
VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Virtual memory, all workers.")
FDS = Family("process_open_fds", "gauge", "Open file descriptors, all workers.")
MAX_FDS = Family("process_max_fds", "gauge", "File descriptors that one worker may open.", merge="min")
START = Family(
    "process_start_time_seconds", "gauge", "Start of the oldest worker, seconds since the Unix epoch.", merge="min"
)

FAMILIES = {
    family.name: family
    for family in (
        REQUESTS,
        TOKENS,
        COST,
        BASELINE_COST,
        BASELINE_UNCACHED,
        DURATION,
        FIRST_TOKEN,
        PER_TOKEN,
        OVERHEAD,
        ATTEMPTS,
        FALLBACKS,
        RETRIES,
        EJECTIONS,
        ENDPOINT_STATE,
        CALLER_PROMPTS,
        SPLIT_SHARE,
        INFLIGHT,
        SHED,
        CONNECTIONS,
        MEMORY,
        LOOP_LAG,
        LOST,
        LOG_DROPPED,
        UNPRICED,
        CLAMPED,
        RELOADS_TOTAL,
        RELOAD_OK,
        CONFIG_INFO,
        BUILD_INFO,
        CPU,
        RSS,
        VIRTUAL,
        FDS,
        MAX_FDS,
        START,
    )
}
