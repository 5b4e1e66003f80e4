"""Every fault of the stand-ins, for JSON answers and streams, with and without a fallback.

The caller sees exactly one of: a whole answer, an HTTP error of the right class, an error event. Never silence.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest

from proxy.standins.behaviour import FAULTS, Behaviour
from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.conftest import KEY, PROMPT

CONFIG = """
version: 1
server: {{hold: 60s}}
keys: [{{name: team, key: sk-team-0123456789abcdef, tenant: acme}}]
retries: {{pause: 0s}}
timeouts: {{connect: 10s, first_content: 60s, idle: 60s, total: 60s}}
models:
  strong:
    base_url: "{strong}"
    api_key: sk-upstream-strong-canary
    dialect: openai
    price: {{input: 2.5, output: 10}}
  faulty:
    base_url: "{tuned}"
    api_key: sk-upstream-tuned-canary
    price: {{input: 0.1, output: 0.4}}
    timeouts: {{first_content: 700ms, idle: 400ms, total: 1s}}
  patient: {{base_url: "{tuned}", api_key: sk-upstream-tuned-canary, price: {{input: 0.1, output: 0.4}}}}
  hole:
    base_url: "http://127.0.0.1:{hole}/v1"
    price: {{input: 0.1, output: 0.4}}
    timeouts: {{connect: 300ms}}
prompts: {{support: prompts/support/}}
routes:
  strong: {{model: strong, prompt: support@1}}
  faulty: {{model: faulty}}
  patient: {{model: patient}}
  hole: {{model: hole}}
policies:
  alone:
    rules:
      - {{name: slow, when: {{header.x-model: faulty}}, route: faulty}}
      - {{name: hole, when: {{header.x-model: hole}}, route: hole}}
    default: patient
  helped:
    routes:
      faulty: {{model: faulty, fallback: strong}}
      patient: {{model: patient, fallback: strong}}
      hole: {{model: hole, fallback: strong}}
    rules:
      - {{name: slow, when: {{header.x-model: faulty}}, route: faulty}}
      - {{name: hole, when: {{header.x-model: hole}}, route: hole}}
    default: patient
"""

GOOD = ""
TEXT = '{"intent":"order_status","order_id":"1234"}'

# class -> status and code
ERRORS = {
    "connect": (502, "upstream_connect"),
    "timeout": (504, "upstream_timeout"),
    "rate_limited": (429, "upstream_rate_limited"),
    "upstream_5xx": (502, "upstream_5xx"),
    "bad_answer": (502, "upstream_bad_answer"),
    "auth": (502, "upstream_auth"),
    "request": (400, None),
    "context_length": (400, "context_length_exceeded"),
    "content_filter": (400, "content_filter"),
}
FINAL = ("request", "content_filter")  # another model would say the same

# fault -> what it is for a JSON answer and for a stream; `*`: an error event, for content has gone out by then
CASES: list[tuple[str, str, str]] = [
    ("", GOOD, GOOD),
    ("status=429 retry-after=3", "rate_limited", "rate_limited"),
    ("status=429 retry-after-ms=1200", "rate_limited", "rate_limited"),
    ("status=500", "upstream_5xx", "upstream_5xx"),
    ("status=500 body=empty", "upstream_5xx", "upstream_5xx"),
    ("status=502 body=html", "upstream_5xx", "upstream_5xx"),
    ("status=503 body=text", "upstream_5xx", "upstream_5xx"),
    ("status=529 body=anthropic", "upstream_5xx", "upstream_5xx"),
    ("status=401", "auth", "auth"),
    ("status=403 body=garbage", "auth", "auth"),
    ("status=400", "request", "request"),
    ("status=400 body=html", "request", "request"),
    ("status=400 body=array", "request", "request"),
    ("status=400 code=sk-upstream-tuned-canary", "request", "request"),
    ("status=400 type=sk-upstream-tuned-canary", "request", "request"),
    ("status=404", "request", "request"),
    ("status=422 body=empty", "request", "request"),
    ("status=408", "timeout", "timeout"),
    ("status=400 code=context_length_exceeded", "context_length", "context_length"),
    ("status=400 code=content_filter", "content_filter", "content_filter"),
    ("status=302", "bad_answer", "bad_answer"),
    ("status=204 body=empty", "bad_answer", "bad_answer"),
    ("status=200 body=html", "bad_answer", "bad_answer"),
    ("status=200 body=array", "bad_answer", "bad_answer"),
    ("refuse seconds=0.01", "connect", "connect"),
    ("reset", "connect", "connect"),
    ("reset after=head", "bad_answer", "bad_answer"),
    ("reset after=2", "bad_answer", "bad_answer*"),
    ("cut after=request", "connect", "connect"),
    ("cut after=head", "bad_answer", "bad_answer"),
    ("cut after=head how=end", "bad_answer", "bad_answer"),
    *((f"cut after={n} how={how}", "bad_answer", "bad_answer*") for n in (1, 3) for how in ("fin", "rst", "end")),
    ("stall after=request", "timeout", "timeout"),
    ("stall after=head", "timeout", "timeout"),
    ("stall after=2", "timeout", "timeout*"),
    *((f"malformed after=0 kind={kind}", "bad_answer", GOOD) for kind in ("json", "array", "empty", "utf8", "shape")),
    ("error-event", "upstream_5xx", "upstream_5xx"),
    ("error-event dialect=anthropic", "upstream_5xx", "upstream_5xx"),
    ("error-event after=2 pace=0.05", "upstream_5xx", "upstream_5xx*"),
    ("error-json", "upstream_5xx", "upstream_5xx"),
    ("error-json dialect=anthropic", "upstream_5xx", "upstream_5xx"),
    ("wrong-type", GOOD, "bad_answer"),
    ("wrong-type type=text/event-stream", GOOD, GOOD),
    ("wrong-type type=Text/Event-Stream", GOOD, GOOD),
    ("no-usage", GOOD, GOOD),
    *((f"usage kind={kind}", GOOD, GOOD) for kind in ("negative", "huge", "text", "float", "null", "cached")),
    ("slow rate=250", "timeout", "timeout"),
    ("slow rate=20000", GOOD, GOOD),
    ("pings", GOOD, "timeout"),
    ("pings after=2", GOOD, "timeout*"),
    ("pings count=3 every=0.01", GOOD, GOOD),
    ("bytewise", GOOD, GOOD),
    ("crlf", GOOD, GOOD),
    ("joined", GOOD, GOOD),
    ("huge-line", GOOD, "bad_answer"),
    ("truncated", "bad_answer", GOOD),
    ("gzip", GOOD, GOOD),
    ("idle-close", GOOD, GOOD),
    ("close", GOOD, GOOD),
    ("no-done", GOOD, GOOD),
    ("no-finish", GOOD, GOOD),
    ("extra-bytes", GOOD, GOOD),
    ("bad-chunk after=2", "bad_answer", "bad_answer*"),
    ("bad-chunk after=0", "bad_answer", "bad_answer"),
    ("huge-header", "bad_answer", "bad_answer"),
]


@pytest.fixture(scope="module")
def hole() -> Iterator[int]:
    """A port that takes no connection: its queue is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        yield port
        for caller in callers:
            caller.close()


@pytest.fixture(scope="module")
def proxy(strong: StandIn, tuned: StandIn, hole: int) -> Iterator[Proxy]:
    config = CONFIG.format(strong=strong.base_url, tuned=tuned.base_url, hole=hole)
    with Proxy(config, {"prompts/support/1.yaml": PROMPT}) as running:
        yield running
        assert_booked(running)
        assert_nothing_leaked(running)


def assert_booked(proxy: Proxy) -> None:
    """Every attempt is in the access log, by model and class, and the metrics say what the log says."""
    lines = {line["client_id"]: line for line in proxy.requests(len(EXPECTED))}
    for number, attempts in EXPECTED.items():
        assert [(a["model"], a["result"]) for a in lines[number]["attempts"]] == attempts, lines[number]
    found = Counter((a["model"], a["result"]) for line in lines.values() for a in line["attempts"])
    for (model, result), count in found.items():
        assert proxy.metric("pointsman_upstream_attempts_total", model=model, result=result) == count


def assert_nothing_leaked(proxy: Proxy) -> None:
    """No key anywhere, no defect."""
    found = proxy.metrics()
    assert "canary" not in proxy.text
    assert "canary" not in repr(found)
    assert "Traceback" not in proxy.text
    assert proxy.metric("pointsman_inflight_requests") == 0


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as found:
        yield found


@dataclass
class Seen:
    """What a caller saw of an answer."""

    status: int
    headers: httpx.Headers
    text: str = ""  # content
    error: dict[str, Any] | None = None
    done: bool = False

    @classmethod
    def of(cls, answer: httpx.Response) -> "Seen":
        seen = cls(answer.status_code, answer.headers)
        if not answer.headers["content-type"].startswith("text/event-stream"):
            seen._take(answer.json(), "message")
            seen.done = seen.error is None
            return seen
        assert answer.text.endswith("\n\n")
        for event in answer.text.split("\n\n")[:-1]:
            assert seen.error is None, "an error is the last event"
            assert not seen.done, "nothing follows [DONE]"
            if event == "data: [DONE]":
                seen.done = True
            elif not event.startswith(":"):
                seen._take(json.loads(event.removeprefix("data: ")), "delta")
        return seen

    def _take(self, found: dict[str, Any], part: str) -> None:
        self.error = found.get("error")
        for choice in found.get("choices", ()):
            self.text += choice[part].get("content") or ""


EXPECTED: dict[str, list[tuple[str, str]]] = {}  # a request's own id -> models and results of its attempts


def ask(client: httpx.Client, policy: str, stream: bool, *attempts: tuple[str, str]) -> Seen:
    """Send a request whose attempts should be these; that they were booked is looked at in the end."""
    number = str(len(EXPECTED))
    EXPECTED[number] = list(attempts)
    body = {"model": policy, "messages": [{"role": "user", "content": "where is my order 1234?"}], "stream": stream}
    headers = {"x-model": attempts[0][0], "x-request-id": number}
    return Seen.of(client.post("/chat/completions", json=body, headers=headers))


def test_every_fault_has_a_case() -> None:
    assert {Behaviour.parse(fault).fault for fault, _, _ in CASES} == {*FAULTS, None}


def every_case() -> Iterator[Any]:
    """Each with and without a stream and a fallback. Most time-outs with a fallback are left to the slow tests."""
    for fault, *kinds in CASES:
        for policy, stream in product(("alone", "helped"), (False, True)):
            waits = kinds[stream].startswith("timeout") and policy == "helped" and fault != "stall after=head"
            marks = [pytest.mark.slow] if waits else []
            name = f"{fault or 'none'}-{'stream' if stream else 'json'}-{policy}"
            yield pytest.param(fault, kinds[stream], stream, policy, marks=marks, id=name)


@pytest.mark.parametrize(("fault", "expected", "stream", "policy"), list(every_case()))
def test_one_of_answer_error_and_error_event(
    client: httpx.Client,
    tuned: StandIn,
    fault: str,
    expected: str,
    stream: bool,
    policy: str,
) -> None:
    tuned.script.clear()
    kind, late = expected.removesuffix("*"), expected.endswith("*")
    tuned.then(fault, *([fault] if fault == "reset" else []))  # a kept connection that resets is tried once more
    model = "faulty" if kind == "timeout" else "patient"
    helped = policy == "helped" and not late and kind not in (GOOD, *FINAL)
    attempts = [(model, kind or "ok")] + [("strong", "ok")] * helped
    seen = ask(client, policy, stream, *attempts)
    assert "canary" not in repr(seen)
    assert seen.headers["x-pointsman-attempts"] == str(len(attempts))
    if kind == GOOD or helped:
        assert (seen.status, seen.error, seen.done) == (200, None, True)
        assert seen.text.replace(": ", ":").replace(", ", ",") == TEXT
        return
    assert seen.error is not None
    assert not seen.done
    status, code = ERRORS[kind]
    assert seen.error.keys() == {"message", "type", "param", "code"}
    assert code in (None, seen.error["code"])
    if late:
        assert seen.status == 200
        assert seen.text
        assert TEXT.startswith(seen.text)
    else:
        assert seen.status in (status, Behaviour.parse(fault).count("status", 0) if kind in FINAL else status)
        assert seen.text == ""
        assert seen.headers["x-should-retry"] == "false"
    if kind in FINAL:
        assert seen.error["message"]
    elif kind != "context_length":
        assert f"'{model}'" in seen.error["message"]
    if "retry-after" in fault:
        assert seen.headers["retry-after"] == ("3" if "=3" in fault else "2")


@pytest.mark.parametrize(
    ("fault", "stream", "phase"),
    [
        ("stall after=request", True, "first_content"),
        ("stall after=head", True, "first_content"),
        ("stall after=2", True, "idle"),
        ("pings", True, "first_content"),
        ("pings after=2", True, "total"),
        ("stall after=request", False, "total"),
        ("stall after=2", False, "total"),
    ],
)
def test_a_timeout_says_which_limit_it_was(
    client: httpx.Client, tuned: StandIn, fault: str, stream: bool, phase: str
) -> None:
    """The first content of a whole answer is its end: there the total counts."""
    tuned.script.clear()
    tuned.then(fault)
    seen = ask(client, "alone", stream, ("faulty", "timeout"))
    assert seen.error is not None
    assert f"({phase} timeout of " in seen.error["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_connection_that_nobody_takes_times_out(client: httpx.Client, stream: bool) -> None:
    seen = ask(client, "alone", stream, ("hole", "timeout"))
    assert (seen.status, seen.error and seen.error["code"]) == (504, "upstream_timeout")
    seen = ask(client, "helped", stream, ("hole", "timeout"), ("strong", "ok"))
    assert (seen.status, seen.done) == (200, True)


def test_a_huge_usage_is_not_believed(proxy: Proxy, client: httpx.Client, tuned: StandIn) -> None:
    """A count that no model can have counted does not become a bill."""
    tuned.script.clear()
    tuned.then("usage kind=huge")
    before = proxy.metric("pointsman_cost_usd_total", model="patient")
    ask(client, "alone", False, ("patient", "ok"))
    assert proxy.metric("pointsman_cost_usd_total", model="patient") - before < 1
