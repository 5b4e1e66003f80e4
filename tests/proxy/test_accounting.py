"""A thousand mixed requests: every token, pico-dollar, attempt and outcome equals an independent calculation."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from proxy.standins.persona import STRONG, Persona
from proxy.standins.standin import StandIn
from tests.harness import Labels, Proxy
from tests.proxy import oracle, traffic
from tests.proxy.oracle import Oracle, Place, Verdict
from tests.proxy.traffic import Ask

COUNT = 1000
CONCURRENCY = 20
SEED = 20261121

PICO = 10**12
PRICES: dict[str, Any] = {
    "strong": {"input": "2.5", "cached_input": "1.25", "output": "10"},
    "mini": {"input": "0.123457", "output": "0.987653", "reasoning": "0.500001",
             "above": {1500: {"input": "0.246913", "output": "1.1"}}},
    "tuned": {"input": "0.1", "output": "0.4"},
    "mute": {"input": "0.300003", "output": "1.2"},
    "spread": {"input": "3", "cached_input": "0", "output": "15"},
    "lab": None,
    "dead": {"input": "1", "output": "1"},
    "hasty": {"input": "0.7", "output": "0.9"},
}  # fmt: skip

MINI = Persona("mini", reasons=1.0)
MUTE = Persona("mute", details=False, reports_usage=False)

CONFIG = """
version: 1
keys:
  - {{name: search, key: sk-search-0123456789abcdef, tenant: search}}
  - {{name: chat-a, key: sk-chat-a-0123456789abcdef, tenant: chat}}
  - {{name: chat-b, key: sk-chat-b-0123456789abcdef, tenant: chat}}
retries: {{budget: 0%, floor: 0}}
timeouts: {{connect: 10s, first_content: 60s, idle: 60s, total: 60s}}
upstreams:
  strong: {{base_url: "{strong}", dialect: openai}}
  mini: {{base_url: "{mini}"}}
  tuned: {{base_url: "{tuned}"}}
  mute: {{base_url: "{mute}"}}
  dead: {{base_url: "http://127.0.0.1:1/v1"}}
models:
  strong: {{at: strong, price: {{input: 2.5, cached_input: 1.25, output: 10}}}}
  mini:
    at: mini
    price:
      input: 0.123457
      output: 0.987653
      reasoning: 0.500001
      above: {{1500: {{input: 0.246913, output: 1.1}}}}
  tuned: {{at: tuned, price: {{input: 0.1, output: 0.4}}}}
  mute: {{at: mute, price: {{input: 0.300003, output: 1.2}}}}
  spread:
    endpoints: [{{at: strong, model: spread-s, weight: 40%}}, {{at: tuned, model: spread-t, weight: rest}}]
    price: {{input: 3, cached_input: 0, output: 15}}
  lab: {{at: tuned, model: lab-7}}
  dead: {{at: dead, price: {{input: 1, output: 1}}}}
  hasty: {{at: tuned, model: hasty, price: {{input: 0.7, output: 0.9}},
           timeouts: {{connect: 10s, first_content: 500ms, idle: 500ms, total: 1s}}}}
prompts:
  support: prompts/support/
policies:
  support:
    caller_prompt: support@*
    baseline: strong
    routes:
      strong: {{model: strong, prompt: support@1}}
      mini: {{model: mini, prompt: support@1, fallback: strong}}
      tuned: {{model: tuned, fallback: mini}}
    rules:
      - {{name: strong, when: {{header.x-route: strong}}, route: strong}}
      - {{name: mini, when: {{header.x-route: mini}}, route: mini}}
    default: tuned
  plain:
    baseline: strong
    routes:
      strong: {{model: strong}}
      mute: {{model: mute, fallback: strong}}
      spread: {{model: spread}}
    rules:
      - {{name: strong, when: {{header.x-route: strong}}, route: strong}}
      - {{name: mute, when: {{header.x-route: mute}}, route: mute}}
    default: spread
  broken:
    routes:
      dead: {{model: dead, fallback: lab}}
      lab: {{model: lab, fallback: mini}}
      mini: {{model: mini, fallback: mute}}
      mute: {{model: mute}}
    rules: [{{name: dead, when: {{header.x-route: dead}}, route: dead}}]
    default: lab
  hasty:
    routes: {{hasty: {{model: hasty, fallback: mini}}, mini: {{model: mini}}}}
    default: hasty
"""

STRONG_AT = {"strong": ("strong", "strong")}
MINI_AT = {"mini": ("mini", "mini")}
ROUTES = {
    ("support", "strong"): Place("strong", STRONG_AT, "support@1"),
    ("support", "mini"): Place("mini", MINI_AT, "support@1", "strong"),
    ("support", "tuned"): Place("tuned", {"tuned": ("tuned", "tuned")}, fallback="mini"),
    ("plain", "strong"): Place("strong", STRONG_AT),
    ("plain", "mute"): Place("mute", {"mute": ("mute", "mute")}, fallback="strong"),
    ("plain", "spread"): Place("spread", {"spread-s": ("strong", "strong"), "spread-t": ("tuned", "tuned")}),
    ("broken", "dead"): Place("dead", {}, fallback="lab"),
    ("broken", "lab"): Place("lab", {"lab-7": ("tuned", "tuned")}, fallback="mini"),
    ("broken", "mini"): Place("mini", MINI_AT, fallback="mute"),
    ("broken", "mute"): Place("mute", {"mute": ("mute", "mute")}),
    ("hasty", "hasty"): Place("hasty", {"hasty": ("tuned", "tuned")}, fallback="mini"),
    ("hasty", "mini"): Place("mini", MINI_AT),
}
FIRST = (  # policy, route, the persona that is asked first
    ("support", "strong", "strong"), ("support", "mini", "mini"), ("support", "tuned", "tuned"),
    ("plain", "strong", "strong"), ("plain", "mute", "mute"), ("plain", "spread", "tuned"),
    ("broken", "dead", "tuned"), ("broken", "lab", "tuned"), ("hasty", "hasty", "tuned"),
)  # fmt: skip
DEFAULTS = {"support": "tuned", "plain": "spread", "broken": "lab", "hasty": "hasty"}


@dataclass
class Run:
    asks: list[Ask]
    verdicts: list[Verdict]
    log: dict[int, dict[str, Any]]  # access log, by the client's request id
    metrics: dict[tuple[str, Labels], float]

    def of(self, name: str) -> dict[Labels, float]:
        return {labels: value for (found, labels), value in self.metrics.items() if found == name and value}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with StandIn(STRONG) as strong, StandIn(MINI) as mini, StandIn("tuned") as tuned, StandIn(MUTE) as mute:
        standins = {"strong": strong, "mini": mini, "tuned": tuned, "mute": mute}
        config = CONFIG.format(**{name: standin.base_url for name, standin in standins.items()})
        asks = traffic.draw(COUNT, SEED, FIRST)
        with Proxy(config, {"prompts/support/1.yaml": traffic.PROMPT}) as proxy:
            journals = [standin.journal for standin in standins.values()]
            asyncio.run(traffic.send(proxy.base_url, asks, CONCURRENCY, journals))
            log = {int(line["client_id"]): line for line in proxy.requests(COUNT)}
            calls = oracle.by_trace(journals)
            judge = Oracle(ROUTES, (call for of_one in calls.values() for call in of_one))
            verdicts = [judge.judge(ask, calls[ask.number]) for ask in asks]
            yield Run(asks, verdicts, log, proxy.metrics())


def assert_within(found: Mapping[Labels, float], wanted: oracle.Sums, unit: int) -> None:
    """Every series is there, no other is, and each lies in its interval; exactly where that is a point."""
    wanted = {labels: bounds for labels, bounds in wanted.items() if bounds[1]}
    wrong = []
    for labels in found.keys() | wanted.keys():
        least, most = wanted.get(labels, (Fraction(0), Fraction(0)))
        value = Fraction(round(found.get(labels, 0) * unit), unit)
        if not least <= value <= most:
            wrong.append((sorted(labels), float(least), float(value), float(most)))
    assert not wrong, wrong[:3]


def test_the_traffic_is_mixed(run: Run) -> None:
    """A guard against an oracle that judges nothing: every class, source and outcome came about."""
    results = Counter(attempt.result for verdict in run.verdicts for attempt in verdict.attempts)
    assert results.keys() >= {"ok", "cancelled", "timeout", *oracle.FALLS_BACK, "request", "content_filter"}
    billed = Counter((a.source, a.place.model) for v in run.verdicts for a in v.attempts)
    assert all(billed["upstream", model] > 10 for model in ("strong", "mini", "tuned", "spread", "lab"))
    assert all(billed["estimated", model] > 2 for model in ("strong", "mini", "tuned", "spread", "lab", "mute"))
    tokens = oracle.tokens(run.verdicts)
    for kind in ("cached_input", "reasoning"):
        assert sum(most for labels, (_, most) in tokens.items() if ("kind", kind) in labels) > 1000
    assert {ask.prompt for ask in run.asks} == {"exact", "near", "none"}
    assert max(len(verdict.attempts) for verdict in run.verdicts) == 3


def test_callers_see_a_whole_answer_or_an_error(run: Run) -> None:
    """Never a silent truncation: what is done is good, and what is not says so."""
    for verdict in run.verdicts:
        ask = verdict.ask
        if verdict.outcome == "ok":
            assert ask.done, ask
            assert ask.status == 200, ask
            assert ask.error is None, ask
        elif verdict.outcome != "cancelled":
            assert not ask.done, ask
            assert ask.error, ask


def test_tokens(run: Run) -> None:
    assert_within(run.of("pointsman_tokens_total"), oracle.tokens(run.verdicts), 1)


def test_dollars(run: Run) -> None:
    assert_within(run.of("pointsman_cost_usd_total"), oracle.costs(run.verdicts, PRICES), PICO)


def test_requests_by_outcome(run: Run) -> None:
    assert run.of("pointsman_requests_total") == oracle.requests(run.verdicts, DEFAULTS)


def test_attempts_by_result(run: Run) -> None:
    assert run.of("pointsman_upstream_attempts_total") == oracle.attempts(run.verdicts)


def test_fallbacks_by_reason(run: Run) -> None:
    assert run.of("pointsman_fallbacks_total") == oracle.fallbacks(run.verdicts)


def test_caller_prompts(run: Run) -> None:
    wanted = Counter(ask.prompt for ask in run.asks if ask.policy == "support")
    found = run.of("pointsman_caller_prompt_total")
    assert found == {oracle.labels(policy="support", result=result): n for result, n in wanted.items()}


def test_models_without_a_price_are_counted(run: Run) -> None:
    billed = sum(a.place.model == "lab" and a.source != "none" for v in run.verdicts for a in v.attempts)
    assert run.of("pointsman_unpriced_requests_total") == {oracle.labels(model="lab"): billed}


def test_the_access_log_has_each_requests_cost(run: Run) -> None:
    """With its attempts; and the log's sum is the metric's."""
    for verdict in run.verdicts:
        line = run.log[verdict.ask.number]
        least, most = oracle.cost(verdict, PRICES)
        logged = Fraction(round(line["cost_usd"] * PICO), PICO)
        assert least <= logged <= most, (verdict, float(least), float(logged), float(most))
        assert line["outcome"] == verdict.outcome, (line, verdict)
        assert [(a["route"], a["model"], a["endpoint"], a["result"]) for a in line["attempts"]] == [
            (a.route, a.place.model, a.endpoint, a.result) for a in verdict.attempts
        ]
    logged_sum = sum(round(line["cost_usd"] * PICO) for line in run.log.values())
    assert logged_sum == sum(round(value * PICO) for value in run.of("pointsman_cost_usd_total").values())


def test_headers_have_each_requests_cost(run: Run) -> None:
    """On every whole answer, errors included, to the last digit of the access log."""
    whole = [ask for ask in run.asks if ask.status and "text/event-stream" not in ask.headers["content-type"]]
    assert len(whole) > COUNT / 3
    for ask in whole:
        told = Fraction(ask.headers["x-pointsman-cost-usd"])
        assert told == Fraction(round(run.log[ask.number]["cost_usd"] * PICO), PICO), ask
    assert not any("x-pointsman-cost-usd" in ask.headers for ask in run.asks if ask not in whole)


def test_the_baselines_own_answers_are_their_cost(run: Run) -> None:
    """Where the baseline route answered with its own usage, the baseline is what its attempts cost."""
    wanted: Counter[Labels] = Counter()
    for verdict in run.verdicts:
        last, ask = verdict.attempts[-1], verdict.ask
        if ask.policy not in ("support", "plain") or last.route != "strong":
            continue
        if last.result != "ok" or last.source != "upstream":
            continue
        own = sum(oracle.dollars(PRICES["strong"], [n for n, _ in last.bill]), Fraction(0))
        labels = oracle.labels(tenant=traffic.KEYS[ask.secret], policy=ask.policy, route="strong",
                               baseline="strong", source="upstream")  # fmt: skip
        wanted[labels] += int(own * PICO)
        if not ask.stream:
            assert Fraction(ask.headers["x-pointsman-baseline-cost-usd"]) == own
    found = run.of("pointsman_baseline_cost_usd_total")
    assert {
        labels: round(value * PICO) for labels, value in found.items() if ("source", "upstream") in labels
    } == wanted


def test_nothing_is_left_running(run: Run) -> None:
    assert run.of("pointsman_inflight_requests") == {}
