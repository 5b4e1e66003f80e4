"""A stand-in for a busy proxy's /metrics: the contract's names and labels, every kind of event, moving."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tests.deploy.contract import COUNTERS, GAUGES, HISTOGRAMS

BUCKETS = {
    "pointsman_request_duration_seconds": (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600),
    "pointsman_time_to_first_token_seconds": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60),
    "pointsman_time_per_output_token_seconds": (
        0.01,
        0.025,
        0.05,
        0.075,
        0.1,
        0.15,
        0.2,
        0.3,
        0.4,
        0.5,
        0.75,
        1,
        2.5,
    ),
    "pointsman_overhead_seconds": (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    "pointsman_event_loop_lag_seconds": (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
}


@dataclass(frozen=True)
class Way:
    """How one route answers: its share of a policy's traffic, speed, tokens and prices (US$ per 1M)."""

    policy: str
    rule: str
    route: str
    model: str
    prompt: str
    weight: float
    first: float  # seconds to the first token
    pace: float  # seconds per output token
    tokens: dict[str, int]
    price: dict[str, float]
    baseline: str | None = "strong"
    baseline_usd: float = 0.0  # what the baseline would have cost for one such request


STRONG = {"input": 1.25, "cached_input": 0.125, "cache_write": 1.25, "output": 10.0, "reasoning": 10.0}
TUNED = {"input": 0.10, "cached_input": 0.05, "cache_write": 0.10, "output": 0.40, "reasoning": 0.40}
FULL = {"input": 240, "cached_input": 1900, "cache_write": 60, "output": 120, "reasoning": 90}
SHORT = {"input": 90, "cached_input": 60, "cache_write": 0, "output": 110, "reasoning": 0}
WAYS = (
    Way("support", "default", "tuned", "support-lora", "none", 6, 0.09, 0.006, SHORT, TUNED, "strong", 0.0026),
    Way("support", "default", "strong", "strong", "support@3", 2, 0.45, 0.014, FULL, STRONG, "strong", 0.00275),
    Way("support", "gold", "strong", "strong", "support@3", 1, 0.5, 0.015, FULL, STRONG, "strong", 0.00275),
    Way("triage", "default", "cheap", "haiku", "triage@1", 3, 0.2, 0.008, SHORT, STRONG, "strong", 0.0019),
    Way("triage", "heavy", "strong", "strong", "triage@1", 1, 0.6, 0.014, FULL, STRONG, "strong", 0.00275),
)


class Traffic:
    """The counters of a proxy, and batches of requests that move them. One seed, one course of events."""

    def __init__(self, seed: int = 7) -> None:
        self.chance = random.Random(seed)
        self.registry = CollectorRegistry()
        self.lock = threading.Lock()
        make: dict[str, Any] = {"registry": self.registry, "documentation": "as the contract says"}
        self.count = {name: Counter(name, labelnames=labels, **make) for name, labels in COUNTERS.items()}
        self.time = {
            name: Histogram(name, labelnames=labels, buckets=BUCKETS[name], **make)
            for name, labels in HISTOGRAMS.items()
        }
        self.gauge = {name: Gauge(name, labelnames=labels, **make) for name, labels in GAUGES.items()}
        self.start()

    def start(self) -> None:
        self.gauge["pointsman_config_last_reload_successful"].set(1)
        self.gauge["pointsman_config_info"].labels("3f9a1c0d77be").set(1)
        for way in WAYS:
            self.gauge["pointsman_split_share"].labels(way.policy, way.rule, way.route).set(way.weight / 9)
        self.batch(500)  # so that every series is there at the first scrape
        for result in ("success", "failure"):
            self.count["pointsman_config_reloads_total"].labels(result).inc()

    def batch(self, requests: int) -> None:
        """Serve so many requests at once; every kind of event occurs in any batch of a few dozen."""
        with self.lock:
            for way in self.chance.choices(WAYS, [way.weight for way in WAYS], k=requests):
                self.request(way)
            self.reject()
            self.retry("strong")
            self.strain()
            self.count["pointsman_unpriced_requests_total"].labels("experiment").inc()
            self.count["pointsman_config_reloads_total"].labels("success").inc()
            for policy in ("support", "triage"):
                self.gauge["pointsman_inflight_requests"].labels(policy).set(self.chance.randint(1, 9))

    def request(self, way: Way) -> None:
        tenant = self.chance.choice(("search", "shop"))
        role = "primary"
        if way.route != "strong" and self.chance.random() < 0.05:
            self.fall_back(way)
            way, role = (
                next(other for other in WAYS if (other.policy, other.route) == (way.policy, "strong")),
                "fallback",
            )
        outcome = self.chance.choices(("ok", "upstream_error", "client_error", "cancelled"), (95, 2, 1, 2))[0]
        source = "estimated" if outcome == "cancelled" else "upstream"
        where = (tenant, way.policy, way.route, way.model, way.prompt, role)
        names = (way.policy, way.rule, way.route, way.model)
        self.count["pointsman_requests_total"].labels(tenant, *names, way.prompt, outcome).inc()
        self.count["pointsman_caller_prompt_total"].labels(
            way.policy, self.chance.choice(("exact", "near", "none"))
        ).inc()
        self.attempt(way.model, {"upstream_error": "upstream_5xx", "client_error": "request"}.get(outcome, outcome))
        self.time["pointsman_overhead_seconds"].labels("chat").observe(self.chance.gammavariate(2, 0.0001))
        if outcome not in ("ok", "cancelled"):
            return
        for kind, tokens in way.tokens.items():
            used = round(tokens * self.chance.uniform(0.7, 1.3))
            self.count["pointsman_tokens_total"].labels(*where, kind, source).inc(used)
            self.count["pointsman_cost_usd_total"].labels(*where, kind, source).inc(used * way.price[kind] / 1e6)
        estimate = "upstream" if way.route == way.baseline else "estimated"
        usd = way.baseline_usd * self.chance.uniform(0.9, 1.1)
        for name, times in (("baseline_cost", 1), ("baseline_uncached_cost", 1.7)):
            counter = self.count[f"pointsman_{name}_usd_total"]
            counter.labels(tenant, way.policy, way.route, way.baseline, estimate).inc(usd * times)
        first = way.first * self.chance.lognormvariate(0, 0.4)
        pace = way.pace * self.chance.lognormvariate(0, 0.2)
        self.time["pointsman_time_to_first_token_seconds"].labels(*names).observe(first)
        self.time["pointsman_time_per_output_token_seconds"].labels(*names).observe(pace)
        self.time["pointsman_request_duration_seconds"].labels(*names, self.chance.choice(("true", "false"))).observe(
            first + pace * way.tokens["output"]
        )

    def attempt(self, model: str, result: str) -> None:
        self.count["pointsman_upstream_attempts_total"].labels(model, "vllm", result).inc()

    def fall_back(self, way: Way) -> None:
        reason = self.chance.choice(("timeout", "rate_limited", "connect"))
        self.count["pointsman_fallbacks_total"].labels(way.policy, way.route, "strong", reason).inc()
        self.attempt(way.model, reason)

    def retry(self, model: str) -> None:
        """An endpoint is ejected, and what it failed is called elsewhere."""
        self.count["pointsman_retries_total"].labels(model, "upstream_5xx").inc()
        self.count["pointsman_ejections_total"].labels(model, "vllm").inc()
        self.gauge["pointsman_endpoint_state"].labels(model, "vllm").set(self.chance.randint(0, 3))
        self.attempt(model, "upstream_5xx")

    def strain(self) -> None:
        """The process is short of everything, and loses a worker."""
        for reason in ("memory", "connections"):
            self.count["pointsman_shed_total"].labels(reason).inc()
        for reason in ("ended", "stuck"):
            self.count["pointsman_workers_lost_total"].labels(reason).inc()
        self.count["pointsman_log_lines_dropped_total"].inc()
        self.time["pointsman_event_loop_lag_seconds"].observe(self.chance.gammavariate(2, 0.0005))
        self.gauge["pointsman_connections"].set(self.chance.randint(20, 90))
        self.gauge["pointsman_memory_used_ratio"].set(self.chance.uniform(0.3, 0.9))

    def reject(self) -> None:
        """A caller without a key: turned away before any decision."""
        self.count["pointsman_requests_total"].labels(*["none"] * 6, "rejected").inc()

    def text(self) -> bytes:
        with self.lock:
            return generate_latest(self.registry)


@contextmanager
def serving(traffic: Traffic, *, per_scrape: int = 120) -> Iterator[str]:
    """Serve /metrics on loopback, a new batch of requests with every scrape; yields `host:port`."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            traffic.batch(per_scrape)
            body = traffic.text()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
