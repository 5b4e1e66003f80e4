#!/usr/bin/env python3
"""Writes dashboards/pointsman.json: run it after a change here; a test asserts that the file is up to date."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panels import DASHED, DOTTED, QUANTILE_STYLES, SOURCE, Panel, bars, fixed, lines, override, stat, table, text
from queries import BASELINE, COST, HOUR, increase, part, quantile, rate, saved, series, share

OUTPUT = Path(__file__).parent / "dashboards" / "pointsman.json"
COLUMNS = 24
REQUESTS = "pointsman_requests_total"
TOKENS = "pointsman_tokens_total"
NAIVE = "pointsman_baseline_uncached_cost_usd_total"
DURATION = "pointsman_request_duration_seconds"
FIRST_TOKEN = "pointsman_time_to_first_token_seconds"  # noqa: S105
PER_TOKEN = "pointsman_time_per_output_token_seconds"  # noqa: S105
OVERHEAD = "pointsman_overhead_seconds"
ATTEMPTS = "pointsman_upstream_attempts_total"
FALLBACKS = "pointsman_fallbacks_total"
RETRIES = "pointsman_retries_total"
EJECTIONS = "pointsman_ejections_total"
ENDPOINT_STATE = "pointsman_endpoint_state"
CALLER_PROMPT = "pointsman_caller_prompt_total"
SPLIT_SHARE = "pointsman_split_share"
INFLIGHT = "pointsman_inflight_requests"
UNPRICED = "pointsman_unpriced_requests_total"
SHED = "pointsman_shed_total"
CONNECTIONS = "pointsman_connections"
MEMORY = "pointsman_memory_used_ratio"
LAG = "pointsman_event_loop_lag_seconds"
LOST = "pointsman_workers_lost_total"
LOG_DROPPED = "pointsman_log_lines_dropped_total"
RELOADS = "pointsman_config_reloads_total"
CONFIG_INFO = "pointsman_config_info"

ROUTE = "{{policy}} / {{route}}"
RULE = "{{policy}} / {{rule}}"
DECIDED = 'route!="none"'  # leaves out what was turned away before a decision
ERROR = 'outcome="upstream_error"'
OUTCOMES = {
    "ok": "green",
    "upstream_error": "red",
    "client_error": "yellow",
    "cancelled": "blue",
    "rejected": "purple",
}
FAILED = 'result!~"ok|cancelled"'  # a client that leaves is no failure of the upstream


# The screen, row by row


def overview() -> list[list[Panel]]:
    return [
        [
            stat("Requests", "Requests per second, whatever their outcome.", rate(REQUESTS), "reqps"),
            stat(
                "Errors",
                "Share of requests that ended in an upstream error after all fallbacks.",
                part(REQUESTS, "", ERROR),
                "percentunit",
                steps=[("green", None), ("yellow", 0.01), ("red", 0.05)],
                decimals=2,
            ),
            stat("Duration p95", "19 of 20 requests were answered within this time.", quantile(0.95, DURATION), "s"),
            stat(
                "First token p95",
                "19 of 20 streams brought their first content within this time.",
                quantile(0.95, FIRST_TOKEN),
                "s",
            ),
            stat(
                "Cost per hour",
                "US$ per hour at the present pace: all attempts, fallbacks and failed ones that were billed too.",
                f"{rate(COST)} * {HOUR}",
                "currencyUSD",
            ),
            stat(
                "Saved per hour",
                "US$ per hour less than if the baseline had answered everything, with its prompt cache counted.",
                f"{saved()} * {HOUR}",
                "currencyUSD",
                steps=[("red", None), ("green", 0)],
            ),
            stat(
                "Saved",
                "Share of the baseline's cost that was saved. Policies without a baseline are left out.",
                share(saved(), rate(BASELINE)),
                "percentunit",
                steps=[("red", None), ("yellow", 0), ("green", 0.1)],
                decimals=1,
            ),
            stat("In flight", "Requests being answered now, streams included.", f"sum({series(INFLIGHT)})", "none"),
        ]
    ]


NOTE = """\
**Saved** compares with what the baseline route would have cost for *the same requests*: its full prompt, its output \
length, and **its prompt cache at the hit share it would really have had**.

**Naive** (dotted) prices every prompt token at the full input price. It looks larger, and is wrong: with long \
prompts and steady traffic most of them are cached.

Failed attempts that were billed count as cost; a request that failed has no baseline."""


def line_above(pattern: str, colour: str, style: dict[str, Any]) -> dict[str, Any]:
    """A line for comparison, drawn over a stack and not part of it."""
    alone = {"mode": "none", "group": "B"}
    return override(pattern, color=fixed(colour), line_style=style, width=2, fill=0, stacking=alone)


def money() -> list[list[Panel]]:
    cost, requests = increase(COST, "policy, route"), increase(REQUESTS, "policy, route")
    return [
        [
            lines(
                "Cost per hour by route, against the baseline",
                "US$ per hour, stacked by the route that ran up the cost. The dashed line is what the baselines "
                "would have cost for the same requests; the gap below it is the saving. The dotted line leaves the "
                "prompt cache out.",
                [
                    (f"{rate(COST, 'policy, route')} * {HOUR}", ROUTE),
                    (f"{rate(BASELINE)} * {HOUR}", "baseline"),
                    (f"{rate(NAIVE)} * {HOUR}", "naive baseline"),
                ],
                "currencyUSD",
                size=(12, 9),
                stack="normal",
                overrides=[
                    line_above("/^baseline$/", "#e5e7eb", DASHED),
                    line_above("/^naive baseline$/", "#9aa1ad", DOTTED),
                ],
            ),
            lines(
                "Saved per hour by policy",
                "US$ per hour, baseline less cost, by policy. Below zero the policy costs more than its baseline.",
                [(f"({saved('policy')}) * {HOUR}", "{{policy}}")],
                "currencyUSD",
                size=(6, 9),
                bottom=None,
            ),
            lines(
                "Saved share by policy",
                "Share of what the baseline would have cost, by policy. Dotted: the naive figure, no cache.",
                [
                    (share(f"({saved('policy')})", rate(BASELINE, "policy")), "{{policy}}"),
                    (share(f"({saved('policy', against=NAIVE)})", rate(NAIVE, "policy")), "{{policy}}, naive"),
                ],
                "percentunit",
                size=(6, 9),
                top=1,
                bottom=None,
                overrides=[override("/, naive$/", line_style=DOTTED)],
            ),
        ],
        [
            lines(
                "Share of traffic by arm",
                "Share of each policy's requests by the route that answered.",
                [(share(rate(REQUESTS, "policy, route", DECIDED), rate(REQUESTS, "policy"), on="policy"), ROUTE)],
                "percentunit",
                top=1,
            ),
            lines(
                "Cost per hour by kind of token",
                "US$ per hour. Kinds are disjoint: input is what was neither cached nor written to the cache.",
                [(f"{rate(COST, 'kind')} * {HOUR}", "{{kind}}")],
                "currencyUSD",
                stack="normal",
            ),
            text("What the saving means", "How to read the figures about money.", NOTE),
        ],
        [
            bars(
                "Cost of 1,000 requests by route",
                "US$ in the time shown, per 1,000 requests answered by that route.",
                [(f"1000 * {share(cost, requests)}", ROUTE)],
                "currencyUSD",
            ),
            bars(
                "Spent and saved by policy",
                "US$ in the time shown.",
                [
                    (increase(COST, "policy"), "{{policy}}: spent"),
                    (saved("policy", "increase", "$__range"), "{{policy}}: saved"),
                ],
                "currencyUSD",
                overrides=[override("/spent$/", color=fixed("orange")), override("/saved$/", color=fixed("green"))],
            ),
            bars(
                "Spent by tenant",
                "US$ in the time shown, by the tenant of the caller's key.",
                [(increase(COST, "tenant"), "{{tenant}}")],
                "currencyUSD",
            ),
        ],
    ]


def latency() -> list[list[Panel]]:
    """A matrix: a measure a line, a quantile a column; the last line is the p95 of each by rule."""
    measures = {
        "Duration": (DURATION, "from the request's arrival to the end of its answer"),
        "First token": (FIRST_TOKEN, "from a streamed request's arrival to its first content"),
        "Per output token": (PER_TOKEN, "from a stream's first content to its end, per output token"),
    }

    def cell(name: str, q: float, by: str, legend: str) -> Panel:
        metric, span = measures[name]
        who = {"route": "the route that answered", "rule": "the rule that decided"}[by]
        about = f"Seconds {span}, by {who}: {round(q * 100)} of 100 requests took less."
        target = (quantile(q, metric, f"policy, {by}"), legend)
        return lines(f"{name} p{round(q * 100)} by {by}", about, [target], "s", size=(8, 7))

    by_route = [[cell(name, q, "route", ROUTE) for q in (0.5, 0.95, 0.99)] for name in measures]
    return [*by_route, [cell(name, 0.95, "rule", RULE) for name in measures]]


def tokens() -> list[list[Panel]]:
    by = "policy, route"
    prompt = 'kind=~"input|cached_input|cache_write"'
    cached = share(rate(TOKENS, by, 'kind="cached_input"'), rate(TOKENS, by, prompt))
    return [
        [
            lines(
                "Tokens by kind",
                "Tokens per second. Kinds are disjoint, so the stack is the total.",
                [(rate(TOKENS, "kind"), "{{kind}}")],
                "suffix: tok/s",
                size=(6, 8),
                stack="normal",
            ),
            lines(
                "Cache-hit share by route",
                "Share of prompt tokens that the vendor served from its prompt cache.",
                [(cached, ROUTE)],
                "percentunit",
                size=(6, 8),
                top=1,
            ),
            lines(
                "Prompt tokens per request by route",
                "What one request sends: the long prompt is the price of not having tuned.",
                [(share(rate(TOKENS, by, prompt), rate(REQUESTS, by)), ROUTE)],
                "short",
                size=(6, 8),
            ),
            lines(
                "Estimated share of tokens",
                "Share of tokens counted by us because the answer was cut before the upstream reported them.",
                [(part(TOKENS, by, 'source="estimated"'), ROUTE)],
                "percentunit",
                size=(6, 8),
            ),
        ]
    ]


def rules() -> list[list[Panel]]:
    return [
        [
            lines(
                "Requests by rule",
                "Requests per second by the rule that decided; `none` was turned away before a decision.",
                [(rate(REQUESTS, "policy, rule"), RULE)],
                "reqps",
                stack="normal",
            ),
            lines(
                "Caller prompts",
                "Requests per second by whether they brought a known prompt of their own: `exact` was cut, `near` "
                "went untouched to the baseline (somebody runs an edited copy).",
                [(rate(CALLER_PROMPT, "policy, result"), "{{policy}}: {{result}}")],
                "reqps",
                stack="normal",
            ),
            lines(
                "Requests by prompt version",
                "Requests per second by the prompt that was sent.",
                [(rate(REQUESTS, "prompt"), "{{prompt}}")],
                "reqps",
                stack="normal",
            ),
        ]
    ]


def reliability() -> list[list[Panel]]:
    # Every pair of routes and every failure has its series from the start: show those that happen.
    attempts = f"{rate(ATTEMPTS, 'model, endpoint, result', FAILED)} > 0"
    fallbacks = f"{rate(FALLBACKS, 'policy, from, to, reason')} > 0"
    ejections = f"sum by (model, endpoint) (increase({series(EJECTIONS)}[$__rate_interval])) > 0"
    state = f"max by (model, endpoint) ({series(ENDPOINT_STATE)})"
    return [
        [
            lines(
                "Requests by outcome",
                "Requests per second. `client_error` is the caller's, `rejected` was turned away by us.",
                [(rate(REQUESTS, "outcome"), "{{outcome}}")],
                "reqps",
                stack="normal",
                overrides=[override(f"/^{outcome}$/", color=fixed(colour)) for outcome, colour in OUTCOMES.items()],
            ),
            lines(
                "Errors by route",
                "Share of requests that ended in an upstream error after all fallbacks.",
                [(share(rate(REQUESTS, "policy, route", DECIDED, ERROR), rate(REQUESTS, "policy, route")), ROUTE)],
                "percentunit",
            ),
            lines(
                "Failed attempts by endpoint",
                "Calls per second that did not end well, by kind of failure; a fallback may have saved the request.",
                [(attempts, "{{model}} @ {{endpoint}}: {{result}}")],
                "suffix: /s",
                draw="bars",
                stack="normal",
                empty="None",
            ),
        ],
        [
            lines(
                "Fallbacks",
                "Times per second that another route took over, and why.",
                [(fallbacks, "{{policy}}: {{from}} → {{to}}, {{reason}}")],
                "suffix: /s",
                draw="bars",
                stack="normal",
                empty="None",
            ),
            lines(
                "Fallback share",
                "Fallbacks per request, by policy.",
                [(share(rate(FALLBACKS, "policy"), rate(REQUESTS, "policy", DECIDED)), "{{policy}}")],
                "percentunit",
            ),
            lines(
                "Overhead",
                "What the proxy itself added: waiting neither for an upstream nor for the client. "
                "p50 dotted, p95 solid, p99 dashed.",
                [(quantile(q, OVERHEAD, "api"), f"p{round(q * 100)} {{{{api}}}}") for q in (0.5, 0.95, 0.99)],
                "s",
                overrides=QUANTILE_STYLES,
            ),
        ],
        [
            lines(
                "Endpoint state",
                "0 in rotation, 1 cooling after a 429, 2 ejected, 3 waiting for its probe; of workers the highest.",
                [(state, "{{model}} @ {{endpoint}}")],
                "short",
            ),
            lines(
                "Ejections",
                "Times an endpoint was taken out of rotation: because it failed, or because it fell silent.",
                [(ejections, "{{model}} @ {{endpoint}}")],
                "short",
                draw="bars",
                stack="normal",
                empty="None",
            ),
            lines(
                "Retries per call",
                "Share of a model's calls that were further ones. The budget for them, 20 % of requests, is a sixth.",
                [(share(rate(RETRIES, "model"), rate(ATTEMPTS, "model")), "{{model}}")],
                "percentunit",
            ),
        ],
    ]


def process() -> list[list[Panel]]:
    """What the proxy itself runs out of. Zeros are drawn: that nothing is lost is what one comes here to see."""

    def lately(metric: str, by: str) -> str:
        return f"sum by ({by}) (increase({series(metric)}[$__rate_interval]))"

    return [
        [
            lines(
                "Refused when overloaded",
                "Requests and connections per second that got 503 because memory or descriptors ran short.",
                [(rate(SHED, "instance, reason"), "{{instance}}: {{reason}}")],
                "reqps",
                draw="bars",
                stack="normal",
            ),
            lines(
                "Memory used",
                "Share of the memory limit, 0 without one. At 90 % new requests are refused, at 95 % connections.",
                [(f"max by (instance) ({series(MEMORY)})", "{{instance}}")],
                "percentunit",
                top=1,
            ),
            lines(
                "Connections",
                "Callers' connections that are open. Above about 45 % of the descriptors new ones are refused.",
                [(f"sum by (instance) ({series(CONNECTIONS)})", "{{instance}}")],
                "short",
            ),
        ],
        [
            lines(
                "Event loop lag p99",
                "How late the event loop was, in 99 of 100 looks: what every request waits for.",
                [(quantile(0.99, LAG, "instance"), "{{instance}}")],
                "s",
            ),
            lines(
                "Workers lost",
                "Worker processes that ended or hung, and were replaced. What they were serving was cut off.",
                [(lately(LOST, "instance, reason"), "{{instance}}: {{reason}}")],
                "short",
                draw="bars",
                stack="normal",
            ),
            lines(
                "Log lines dropped",
                "Lines that could not be written because whoever reads the log was too slow.",
                [(lately(LOG_DROPPED, "instance"), "{{instance}}")],
                "short",
                draw="bars",
                stack="normal",
            ),
        ],
    ]


def config() -> list[list[Panel]]:
    shares = f"max by (policy, rule, route) ({series(SPLIT_SHARE)})"
    reloads = f"sum by (result) (increase({RELOADS}[$__rate_interval]))"
    return [
        [
            table(
                "Config",
                "The hashes of the configs that are served. More than one for long: replicas disagree.",
                (f"count by (hash) ({CONFIG_INFO} == 1)", "{{hash}}"),
                "none",
                names={"hash": "Hash", "Value": "Instances"},
                size=(5, 7),
            ),
            lines(
                "Reloads",
                "Config reloads by result. After a failed one the old config goes on serving.",
                [(reloads, "{{result}}")],
                "short",
                size=(4, 7),
                draw="bars",
                stack="normal",
            ),
            lines(
                "Split shares",
                "The share each arm is configured to get. Compare with the share of traffic.",
                [(shares, "{{policy}} / {{rule}}: {{route}}")],
                "percentunit",
                size=(5, 7),
                top=1,
            ),
            lines(
                "In flight by policy",
                "Requests being answered, streams included.",
                [(f"sum by (policy) ({series(INFLIGHT)})", "{{policy}}")],
                "short",
                size=(5, 7),
                stack="normal",
            ),
            lines(
                "Unpriced requests",
                "Requests per second to models without a price: they cost something, and we cannot say how much.",
                [(rate(UNPRICED, "model"), "{{model}}")],
                "reqps",
                empty="None",
                size=(5, 7),
            ),
        ]
    ]


# The dashboard around them


def variable(name: str, within: str) -> dict[str, Any]:
    """A multiple choice of a label's values; All is `.*`, which also fits series without the label."""
    query = f"label_values({REQUESTS}{within}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def variables() -> list[dict[str, Any]]:
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
        "current": {"selected": False, "text": "Prometheus", "value": "pointsman-prometheus"},
    }
    return [
        source,
        variable("tenant", ""),
        variable("policy", '{tenant=~"$tenant"}'),
        variable("route", '{tenant=~"$tenant",policy=~"$policy"}'),
        variable("model", '{tenant=~"$tenant",policy=~"$policy",route=~"$route"}'),
    ]


def annotation() -> dict[str, Any]:
    return {
        "name": "Config reloads",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": "sum by (result) (changes(pointsman_config_reloads_total[1m])) > 0",
        "step": "60s",
        "titleFormat": "Config reload",
        "textFormat": "{{result}}",
    }


def placed(rows: dict[str, list[list[Panel]]]) -> Iterator[Panel]:
    """Lay the lines of panels out from the top, each row under its title; ids count up."""
    y, number = 0, 0
    for title, lines_of_panels in rows.items():
        if title:
            number += 1
            yield {
                "type": "row",
                "id": number,
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
            y += 1
        for line in lines_of_panels:
            x = 0
            for made in line:
                number += 1
                size = made["gridPos"]
                yield {"id": number, **made, "gridPos": {"x": x, "y": y, **size}}
                x += size["w"]
            y += max(made["gridPos"]["h"] for made in line)


def dashboard() -> dict[str, Any]:
    rows = {
        "": overview(),
        "Money": money(),
        "Latency": latency(),
        "Tokens": tokens(),
        "Rules and prompts": rules(),
        "Errors and fallbacks": reliability(),
        "The proxy itself": process(),
        "Configuration": config(),
    }
    return {
        "uid": "pointsman",
        "title": "Pointsman",
        "description": "What each route costs, saves and takes: made by deploy/grafana/dashboard.py.",
        "tags": ["pointsman", "llm"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": [annotation()]},
        "links": [],
        "panels": list(placed(rows)),
    }


def rendered() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.write_text(rendered(), encoding="utf-8")
