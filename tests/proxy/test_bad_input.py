"""Bad input, over bare sockets: each is answered with a 4xx in OpenAI's shape, and nothing of it reaches a model."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.conftest import KEY
from tests.proxy.raw import HEAD, Answer, Raw, chunked, post

MAX_BODY = 256 * 1024
OTHER = "sk-other-0123456789abcdef"

CONFIG = """
version: 1
server: {{max_body: 256KiB}}
keys:
  - {{name: team, key: sk-team-0123456789abcdef, tenant: acme}}
  - {{name: other, key: sk-other-0123456789abcdef, tenant: globex, policies: [plain]}}
models:
  strong: {{base_url: "{strong}", api_key: sk-upstream-strong-canary, price: {{input: 2.5, output: 10}}}}
prompts:
  greet: prompts/greet/
policies:
  support:
    baseline: strong
    routes:
      strong: {{model: strong, prompt: greet@1}}
    rules:
      - {{name: long, when: {{prompt_tokens: {{gt: 6000}}}}, route: strong}}
    default: strong
  plain: {{routes: {{strong: {{model: strong}}}}, default: strong}}
"""

GREET = """
variables: {company: {required: true}, tone: {default: kind}}
messages:
  - system: You answer for {{ company }}, in a {{ tone }} tone.
  - input
"""

ASK = [{"role": "user", "content": "where is my order 1234?"}]
GOOD: dict[str, Any] = {"model": "plain", "messages": ASK}
GOOD_BODY = json.dumps(GOOD).encode()


@pytest.fixture(scope="module")
def proxy(strong: StandIn) -> Iterator[Proxy]:
    with Proxy(CONFIG.format(strong=strong.base_url), {"prompts/greet/1.yaml": GREET}) as running:
        yield running
        log = running.text
        assert "Traceback" not in log
        assert '"event":"defect"' not in log
        gauges = {labels: n for (name, labels), n in running.metrics().items() if name.endswith("inflight_requests")}
        assert set(gauges.values()) == {0.0}, gauges
        assert running.metric("pointsman_upstream_attempts_total", result="cancelled") == 0


@pytest.fixture(autouse=True)
def nothing_reaches_the_model(request: pytest.FixtureRequest, strong: StandIn) -> Iterator[None]:
    strong.journal.clear()
    yield
    sent = 0 if "reaches" not in request.keywords else request.node.get_closest_marker("reaches").args[0]
    assert len(strong.journal) == sent


@pytest.fixture
def raw(proxy: Proxy) -> Iterator[Raw]:
    with Raw(proxy.url) as connection:
        yield connection


def refused(answer: Answer, status: int, code: str | None = None, param: str | None = None) -> Answer:
    assert answer.status == status, answer
    error = answer.error
    assert code in (None, error["code"]), error
    assert param in (None, error["param"]), error
    return answer


# --- JSON

DEEP = 100_000
NOT_JSON = {
    "empty": b"",
    "blank": b"  \n",
    "cut": GOOD_BODY[:-1],
    "text": b"hello",
    "trailing": GOOD_BODY + b"x",
    "two": GOOD_BODY + GOOD_BODY,
    "comment": b'{"model": "plain", /* hm */ "messages": []}',
    "single quotes": b"{'model': 'plain'}",
    "trailing comma": GOOD_BODY[:-1] + b",}",
    "array": b"[" + GOOD_BODY + b"]",
    "string": b'"model"',
    "number": b"1",
    "null": b"null",
    "duplicate key": GOOD_BODY[:-1] + b', "model": "support"}',
    "duplicate key by escape": GOOD_BODY[:-1] + b', "mod\\u0065l": "support"}',
    "duplicate key below": b'{"model": "plain", "messages": [{"role": "user", "content": "a", "content": "b"}]}',
    "NaN": GOOD_BODY[:-1] + b', "temperature": NaN}',
    "Infinity": GOOD_BODY[:-1] + b', "temperature": Infinity}',
    "-Infinity": GOOD_BODY[:-1] + b', "temperature": -Infinity}',
    "1e999": GOOD_BODY[:-1] + b', "temperature": 1e999}',
    "-1e999": GOOD_BODY[:-1] + b', "temperature": -1e999}',
    "1e999 below": GOOD_BODY[:-1] + b', "metadata": {"a": [1e999]}}',
    "66 bits": GOOD_BODY[:-1] + b', "seed": 36893488147419103232}',
    "66 bits in a tool": GOOD_BODY[:-1] + b', "tools": [{"a": [-36893488147419103232]}]}',
    "66 bits below": GOOD_BODY[:-1] + b', "metadata": {"a": [-36893488147419103232]}}',
    "5000 digits": GOOD_BODY[:-1] + b', "seed": 1%b}' % (b"0" * 5000),
    "300 digits": GOOD_BODY[:-1] + b', "seed": 1%b}' % (b"0" * 300),
    "leading zero": GOOD_BODY[:-1] + b', "seed": 01}',
    "deep arrays": b"[" * DEEP,
    "deep arrays, closed": GOOD_BODY[:-1] + b', "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep below": GOOD_BODY[:-1] + b', "x": ' + b"[" * 300 + b"]" * 300 + b"}",
    "not UTF-8": GOOD_BODY[:-1] + b', "user": "\xff\xfe"}',
    "overlong UTF-8": GOOD_BODY[:-1] + b', "user": "\xc0\xaf"}',
    "surrogate in UTF-8": GOOD_BODY[:-1] + b', "user": "\xed\xa0\x80"}',
    "UTF-16": GOOD_BODY.decode().encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + GOOD_BODY,
    "lone surrogate": GOOD_BODY[:-1] + b', "user": "\\ud800"}',
    "lone low surrogate": GOOD_BODY[:-1] + b', "user": "\\udc00x"}',
    "surrogates the wrong way round": GOOD_BODY[:-1] + b', "user": "\\udc00\\ud800"}',
    "control character": GOOD_BODY[:-1] + b', "user": "a\x00b"}',
    "line break in a text": GOOD_BODY[:-1] + b', "user": "a\nb"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_one_plain_json_object_is_refused(raw: Raw, body: bytes) -> None:
    answer = refused(raw.send(post(body)).answer(), 400, "invalid_json")
    assert len(answer.body) < 1000
    assert raw.is_open


WRONG_TYPES: dict[str, list[Any]] = {
    "model": [1, True, ["plain"], {"a": 1}, 1.5],
    "messages": ["hi", 1, {}, True],
    "stream": ["true", 1, 0, [], {}],
    "stream_options": [True, "include_usage", []],
    "tools": [{}, "search", 1],
    "tool_choice": [1, True, []],
    "functions": [{}, "f"],
    "response_format": ["json_object", [], 1],
    "metadata": ["a", [], 1],
    "user": [1, {}, ["u"], True],
    "safety_identifier": [1, {}],
    "max_tokens": ["10", 1.5, True, [], {}],
    "max_completion_tokens": ["10", 1.5, False, []],
    "n": ["1", 1.5, True],
    "temperature": ["hot", True, [], {}],
    "top_p": ["1", False],
    "presence_penalty": ["1", {}],
    "frequency_penalty": ["1", []],
    "logprobs": [1, "true"],
    "top_logprobs": ["2", 1.5, True],
    "seed": ["1", 1.5, True],
    "stop": [1, {}, True],
    "logit_bias": [[], "a"],
    "parallel_tool_calls": ["yes", 1],
    "reasoning_effort": [1, {}],
    "pointsman": ["x", [], 1, True],
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_known_field_of_the_wrong_type_is_refused_by_name(raw: Raw, field: str) -> None:
    for value in WRONG_TYPES[field]:
        refused(raw.send(post(json.dumps({**GOOD, field: value}).encode())).answer(), 400, "invalid_type", field)


BAD_MESSAGES: list[tuple[Any, str, str]] = [
    (None, "missing_required_parameter", "messages"),
    ([], "empty_array", "messages"),
    (["hi"], "invalid_type", "messages[0]"),
    ([None], "invalid_type", "messages[0]"),
    ([[]], "invalid_type", "messages[0]"),
    ([{}], "invalid_value", "messages[0].role"),
    ([{"role": None, "content": "x"}], "invalid_value", "messages[0].role"),
    ([{"role": "wizard", "content": "x"}], "invalid_value", "messages[0].role"),
    ([{"role": ["user"], "content": "x"}], "invalid_value", "messages[0].role"),
    ([{"role": {}, "content": "x"}], "invalid_value", "messages[0].role"),
    ([*ASK, {"role": 1}], "invalid_value", "messages[1].role"),
    ([{"role": "user", "content": 1}], "invalid_type", "messages[0].content"),
    ([{"role": "user", "content": {"type": "text"}}], "invalid_type", "messages[0].content"),
    ([{"role": "user", "content": True}], "invalid_type", "messages[0].content"),
    ([{"role": "user", "content": ["x"]}], "invalid_type", "messages[0].content[0]"),
    ([{"role": "user", "content": [{"type": "text", "text": "x"}, 1]}], "invalid_type", "messages[0].content[1]"),
]


@pytest.mark.parametrize(("messages", "code", "param"), BAD_MESSAGES)
def test_messages_that_are_none_are_refused(raw: Raw, messages: Any, code: str, param: str) -> None:
    refused(raw.send(post(json.dumps({"model": "plain", "messages": messages}).encode())).answer(), 400, code, param)


def test_missing_fields_are_named(raw: Raw) -> None:
    refused(raw.send(post(b'{"messages": []}')).answer(), 400, "missing_required_parameter", "model")
    refused(raw.send(post(b'{"model": "", "messages": []}')).answer(), 400, "missing_required_parameter", "model")
    refused(raw.send(post(b'{"model": null, "messages": []}')).answer(), 400, "missing_required_parameter", "model")
    refused(raw.send(post(b'{"model": "plain"}')).answer(), 400, "missing_required_parameter", "messages")


@pytest.mark.parametrize(
    "model", ["nope", "Plain", "plain ", "strong", "*", "../plain", "plain\u0000", "x" * 5000, "ä"]
)
def test_an_unknown_model_is_404(raw: Raw, model: str) -> None:
    """Also one that is a model or a route, but no policy."""
    answer = raw.send(post(json.dumps({"model": model, "messages": ASK}).encode())).answer()
    assert len(refused(answer, 404, "model_not_found", "model").body) < 1000


BAD_EXTRAS: list[tuple[Any, str, str]] = [
    ({}, "missing_variable", "pointsman.variables.company"),
    ({"variables": {}}, "missing_variable", "pointsman.variables.company"),
    ({"variables": {"company": "A", "colour": "red"}}, "unknown_variable", "pointsman.variables.colour"),
    ({"variables": {"company": ["A"]}}, "invalid_type", "pointsman.variables.company"),
    ({"variables": {"company": {"a": 1}}}, "invalid_type", "pointsman.variables.company"),
    ({"variables": ["company"]}, "invalid_type", "pointsman.variables"),
    ({"variables": "company"}, "invalid_type", "pointsman.variables"),
    ({"variables": {"company": "A"}, "session": 5}, "invalid_type", "pointsman.session"),
    ({"variables": {"company": "A"}, "route": "strong"}, "unknown_parameter", "pointsman.route"),
    ({"variables": {"company": "A"}, "": 1}, "unknown_parameter", "pointsman."),
]


@pytest.mark.parametrize(("extras", "code", "param"), BAD_EXTRAS)
def test_extras_are_checked(raw: Raw, extras: Any, code: str, param: str) -> None:
    body = {"model": "support", "messages": ASK, "pointsman": extras}
    refused(raw.send(post(json.dumps(body).encode())).answer(), 400, code, param)


def test_a_variable_too_long_to_render_is_refused(raw: Raw) -> None:
    """Python's integers have a limit of their own when they are printed."""
    body = b'{"model": "support", "messages": [{"role": "user"}], "pointsman": {"variables": {"company": 1%b}}}'
    for digits in (400, 4290, 4400):
        refused(raw.send(post(body % (b"0" * digits))).answer(), 400)


# --- size

LARGE = json.dumps({**GOOD, "user": "u" * MAX_BODY}).encode()


def refused_unread(answer: Answer) -> None:
    """A client's pool must know at once that the connection is at its end, or it sends its next request there."""
    assert refused(answer, 413, "request_too_large").headers["connection"] == "close"


def test_a_body_that_says_it_is_too_large_is_not_read(raw: Raw) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}content-length: {MAX_BODY + 1}\r\n\r\n"
    refused_unread(raw.send(head.encode()).answer())
    assert raw.rest() == b""


@pytest.mark.parametrize("size", [MAX_BODY + 1, 20 * MAX_BODY])
def test_a_client_that_sends_too_much_can_read_why(raw: Raw, size: int) -> None:
    """All of it is sent before the answer is read: a closed connection would have been reset by then."""
    refused_unread(raw.send(post(LARGE.ljust(size))).answer())


def test_chunks_are_counted(raw: Raw) -> None:
    refused_unread(raw.send(chunked(*[b" " * 60_000] * 6)).answer())


@pytest.mark.parametrize("size", [MAX_BODY + 1, 40 * MAX_BODY])
def test_a_library_understands_too(proxy: Proxy, size: int) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with httpx.Client(base_url=proxy.url, headers=headers) as client:
        for content in (LARGE.ljust(size), (b" " * 5000 for _ in range(size // 5000 + 1))):
            answer = client.post("/v1/chat/completions", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"


def test_a_body_that_says_it_is_shorter_leaves_a_rest_that_is_no_request(raw: Raw) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}content-length: 20\r\n\r\n".encode()
    raw.send(head + GOOD_BODY)
    refused(raw.answer(), 400, "invalid_json")
    refused(raw.answer(), 400, "malformed_http")
    assert raw.rest() == b""


def test_a_request_that_is_cut_short_harms_nobody(proxy: Proxy, raw: Raw) -> None:
    with Raw(proxy.url) as cut:
        cut.send(post(GOOD_BODY)[:-5])
    assert raw.is_open


@pytest.mark.parametrize("head", ["expect: 100-continue\r\n", "Expect: 100-Continue\r\n"])
def test_a_body_that_would_be_refused_is_never_asked_for(raw: Raw, head: str) -> None:
    """No `100 Continue` comes before the refusal."""
    bad_key = HEAD.replace(KEY, "sk-wrong") + head
    line = "POST /v1/chat/completions HTTP/1.1\r\n"
    refused(raw.send(f"{line}{bad_key}content-length: 100\r\n\r\n".encode()).answer(), 401)
    assert raw.rest() == b""


def test_a_body_too_large_is_not_asked_for_either(raw: Raw) -> None:
    line = "POST /v1/chat/completions HTTP/1.1\r\n"
    raw.send(f"{line}{HEAD}expect: 100-continue\r\ncontent-length: {2 * MAX_BODY}\r\n\r\n".encode())
    refused(raw.answer(), 413)


@pytest.mark.reaches(1)
def test_a_good_body_is_asked_for(raw: Raw) -> None:
    line = "POST /v1/chat/completions HTTP/1.1\r\n"
    raw.send(f"{line}{HEAD}expect: 100-continue\r\ncontent-length: {len(GOOD_BODY)}\r\n\r\n".encode())
    assert raw.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert raw.send(GOOD_BODY).answer().status == 200
    assert raw.is_open


# --- HTTP

TE = "transfer-encoding: chunked\r\n"
LINE = "POST /v1/chat/completions HTTP/1.1\r\n"
MALFORMED: dict[str, bytes] = {
    "CL and TE": f"{LINE}{HEAD}content-length: 4\r\n{TE}\r\n0\r\n\r\n".encode(),
    "TE and CL": f"{LINE}{HEAD}{TE}content-length: 4\r\n\r\n0\r\n\r\n".encode(),
    "two CL": f"{LINE}{HEAD}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}".encode(),
    "two different CL": f"{LINE}{HEAD}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}} ".encode(),
    "a list of CL": f"{LINE}{HEAD}content-length: 2, 2\r\n\r\n{{}}".encode(),
    "signed CL": f"{LINE}{HEAD}content-length: +2\r\n\r\n{{}}".encode(),
    "negative CL": f"{LINE}{HEAD}content-length: -2\r\n\r\n{{}}".encode(),
    "hex CL": f"{LINE}{HEAD}content-length: 0x2\r\n\r\n{{}}".encode(),
    "CL of 23 digits": f"{LINE}{HEAD}content-length: {'9' * 23}\r\n\r\n{{}}".encode(),
    "empty CL": f"{LINE}{HEAD}content-length: \r\n\r\n{{}}".encode(),
    "unknown TE": f"{LINE}{HEAD}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n".encode(),
    "TE identity": f"{LINE}{HEAD}transfer-encoding: identity\r\n\r\n".encode(),
    "TE twice": f"{LINE}{HEAD}{TE}{TE}\r\n0\r\n\r\n".encode(),
    "TE not last": f"{LINE}{HEAD}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n".encode(),
    "chunk size of letters": f"{LINE}{HEAD}{TE}\r\nzz\r\nhello\r\n0\r\n\r\n".encode(),
    "chunk size 0x": f"{LINE}{HEAD}{TE}\r\n0x2\r\n{{}}\r\n0\r\n\r\n".encode(),
    "chunk size negative": f"{LINE}{HEAD}{TE}\r\n-2\r\n{{}}\r\n0\r\n\r\n".encode(),
    "chunk size overflow": f"{LINE}{HEAD}{TE}\r\nffffffffffffffffff\r\n{{}}\r\n0\r\n\r\n".encode(),
    "chunk too long": f"{LINE}{HEAD}{TE}\r\n2\r\n{{}}x\r\n0\r\n\r\n".encode(),
    "chunk with bare LF": f"{LINE}{HEAD}{TE}\r\n2\n{{}}\n0\n\n".encode(),
    "obs-fold": f"{LINE}{HEAD}x-folded: a\r\n b\r\ncontent-length: 2\r\n\r\n{{}}".encode(),
    "space before the colon": f"{LINE}{HEAD}content-length : 2\r\n\r\n{{}}".encode(),
    "space before the name": f"{LINE} host: x\r\n{HEAD}\r\n".encode(),
    "NUL in a value": f"{LINE}{HEAD}x-tier: go\0ld\r\n\r\n".encode(),
    "CR in a value": f"{LINE}{HEAD}x-tier: go\rld\r\n\r\n".encode(),
    "NUL in a name": f"{LINE}{HEAD}x-\0tier: gold\r\n\r\n".encode(),
    "no name": f"{LINE}{HEAD}: gold\r\n\r\n".encode(),
    "no colon": f"{LINE}{HEAD}gold\r\n\r\n".encode(),
    "bare LF": b"POST /v1/chat/completions HTTP/1.1\nhost: x\n\n",
    "space in the path": b"GET /v1/mod els HTTP/1.1\r\nhost: x\r\n\r\n",
    "byte above ASCII in the path": b"GET /v1/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "NUL in the path": b"GET /v1/\0 HTTP/1.1\r\nhost: x\r\n\r\n",
    "unknown method": b"STEAL /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "method in lower case": b"get /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /v1/models HTTP\r\nhost: x\r\n\r\n",
    "version 3": b"GET /v1/models HTTP/3.0\r\nhost: x\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\0" * 32,
    "garbage": b"\x00\x01\x02\x03\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": f"GET /v1/models HTTP/1.1\r\n{HEAD}host: x\r\n\r\n".encode(),
    "underscore in a name": f"{LINE}{HEAD}x_tier: gold\r\n\r\n".encode(),
    "chunks in HTTP/1.0": f"{LINE.replace('1.1', '1.0')}{HEAD}{TE}\r\n0\r\n\r\n".encode(),
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "target that is no URL": b"GET http://:80:80/ HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_http_is_answered_once_and_ends_the_connection(raw: Raw, request_: bytes) -> None:
    refused(raw.send(request_).answer(), 400)
    assert raw.rest() == b""


FLOODS = {
    "300 headers": LINE + HEAD + "".join(f"x-{n}: a\r\n" for n in range(300)),
    "101 headers": LINE + HEAD + "".join(f"x-{n}: a\r\n" for n in range(101 - HEAD.count("\n"))),
    "one of 9 KB": f"{LINE}{HEAD}x-long: {'a' * 9000}\r\n",
    "five of 7 KB": LINE + HEAD + "".join(f"x-{n}: {'a' * 7000}\r\n" for n in range(5)),
    "one of 100 KiB": f"{LINE}{HEAD}x-long: {'a' * 100_000}\r\n",
    "one of 5 MiB": f"{LINE}{HEAD}x-long: {'a' * 5_000_000}\r\n",
    "a name of 100 KiB": f"{LINE}{HEAD}{'a' * 100_000}: 1\r\n",
    "a path of 100 KiB": f"GET /{'a' * 100_000} HTTP/1.1\r\n{HEAD}",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_header_floods_are_431(raw: Raw, flood: str) -> None:
    refused(raw.send(flood.encode() + b"\r\n").answer(), 431)
    assert raw.rest() == b""


def test_a_large_head_behind_a_body_is_one_too(raw: Raw) -> None:
    """Both came in one read."""
    flood = f"GET /v1/models HTTP/1.1\r\n{HEAD}x-long: {'a' * 40_000}\r\n\r\n"
    raw.send(post(b"{") + flood.encode())
    refused(raw.answer(), 400, "invalid_json")
    refused(raw.answer(), 431)


def test_heads_within_the_limits_are_taken(raw: Raw) -> None:
    lines = "".join(f"x-{n}: a\r\n" for n in range(100 - HEAD.count("\n") - 3))
    lines += "".join(f"x-long-{n}: {'a' * 8000}\r\n" for n in range(3))
    for _ in range(2):
        assert raw.send(f"GET /v1/models HTTP/1.1\r\n{HEAD}{lines}\r\n".encode()).answer().status == 200


@pytest.mark.reaches(1)
def test_trailers_are_dropped(raw: Raw, strong: StandIn) -> None:
    """They come too late to say who asks, or for what."""
    end = b"0\r\nauthorization: Bearer x\r\ntraceparent: 00-1-1-01\r\nx-tier: gold\r\n\r\n"
    assert raw.send(chunked(GOOD_BODY, end=end)).answer().status == 200
    assert not strong.journal.last.header("traceparent")
    assert raw.is_open


@pytest.mark.reaches(1)
def test_what_connection_names_goes_no_further(raw: Raw, strong: StandIn) -> None:
    lines = "connection: keep-alive, TraceParent\r\ntraceparent: 00-1-1-01\r\ntracestate: a=b\r\n"
    assert raw.send(post(GOOD_BODY, head=HEAD + lines)).answer().status == 200
    assert (strong.journal.last.header("traceparent"), strong.journal.last.header("tracestate")) == ("", "a=b")
    assert raw.is_open


def test_endless_trailers_and_chunk_extensions_too(proxy: Proxy) -> None:
    for end in (b"0\r\nx-trailer: " + b"a" * 200_000, b"0;" + b"x" * 200_000):
        with Raw(proxy.url) as raw:
            refused(raw.send(chunked(GOOD_BODY, end=end)).answer(), 431)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("DELETE", "/chat/completions", 405),
        ("PATCH", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("TRACE", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("OPTIONS", "*", 404),
        ("GET", "/", 404),
        ("POST", "/v1", 404),
        ("POST", "/v1/", 404),
        ("POST", "/v2/chat/completions", 404),
        ("POST", "/v1/v1/chat/completions", 404),
        ("POST", "/v1/completion", 404),
        ("POST", "/V1/chat/completions", 404),
        ("POST", "//v1/chat/completions", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/v1/./chat/completions", 404),
        ("POST", "/v1/chat/../chat/completions", 404),
        ("POST", "/v1/%2e%2e/v1/chat/completions", 404),
        ("POST", "/v1/chat%2f..%2fcompletions", 404),
        ("POST", "/v1/chat/completions;x=1", 404),
        ("POST", "/v1/chat/completions%00", 404),
        ("POST", "/v1/chat/completions%0d%0ax: y", None),
        ("GET", "/v1/../admin/config", 404),
        ("GET", "/v1/%2e%2e/admin/config", 404),
        ("GET", "/admin/config", 404),
        ("GET", "/metrics", 404),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/models/..%2f..%2fadmin", 404),
        ("GET", "/v1/models/%ff%fe", 404),
    ],
)
def test_other_methods_and_paths_are_refused(raw: Raw, method: str, path: str, status: int | None) -> None:
    answer = raw.send(f"{method} {path} HTTP/1.1\r\n{HEAD}content-length: 2\r\n\r\n{{}}".encode()).answer()
    refused(answer, status or 400)
    if status == 405:
        assert answer.headers["allow"] == ("GET" if path.endswith("models") else "POST")
    if status:
        assert raw.is_open


def test_another_host_changes_nothing(raw: Raw) -> None:
    """Neither the Host header nor an absolute target chooses anything."""
    for target in ("http://admin.internal/metrics", "http://127.0.0.1:8081/admin/config"):
        refused(raw.send(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:8081\r\n\r\n".encode()).answer(), 404)
    answer = raw.send(f"GET http://elsewhere/v1/models HTTP/1.1\r\n{HEAD}\r\n".encode()).answer()
    assert [row["id"] for row in answer.json["data"]] == ["support", "plain"]


def test_head_has_no_body(raw: Raw) -> None:
    answer = raw.send(f"HEAD /v1/models HTTP/1.1\r\n{HEAD}\r\n".encode()).answer("HEAD")
    assert (answer.status, answer.body) == (200, b"")
    answer = raw.send(f"HEAD /v1/chat/completions HTTP/1.1\r\n{HEAD}\r\n".encode()).answer("HEAD")
    assert answer.status == 405
    assert raw.is_open


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "json", "", " "]
)
def test_other_content_types_are_415(raw: Raw, kind: str) -> None:
    head = HEAD.replace("application/json", kind)
    refused(raw.send(post(GOOD_BODY, head=head)).answer(), 415, "unsupported_media_type")


@pytest.mark.reaches(3)
def test_json_by_another_spelling_is_taken(raw: Raw) -> None:
    """With parameters, in capitals, and (as curl's users do) without saying so."""
    for line in ("content-type: application/json; charset=utf-8\r\n", "Content-Type: Application/JSON\r\n", ""):
        head = HEAD.replace("content-type: application/json\r\n", line)
        assert raw.send(post(GOOD_BODY, head=head)).answer().status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip", "x"])
def test_compressed_bodies_are_415(raw: Raw, encoding: str) -> None:
    """Also where the body is no such thing: who reads it on the way may believe the header."""
    head = f"{HEAD}content-encoding: {encoding}\r\n"
    refused(raw.send(post(GOOD_BODY, head=head)).answer(), 415, "unsupported_media_type")


@pytest.mark.reaches(1)
def test_a_body_that_is_said_to_be_as_it_is_is_taken(raw: Raw) -> None:
    assert raw.send(post(GOOD_BODY, head=f"{HEAD}content-encoding: identity\r\n")).answer().status == 200


def test_without_a_length_there_is_no_body(raw: Raw) -> None:
    refused(raw.send(f"{LINE}{HEAD}\r\n".encode()).answer(), 400, "invalid_json")
    assert raw.is_open


# --- keys

BAD_AUTHORIZATION = {
    "none": "",
    "empty": "authorization: \r\n",
    "no scheme": f"authorization: {KEY}\r\n",
    "another scheme": f"authorization: Basic {KEY}\r\n",
    "no key": "authorization: Bearer\r\n",
    "blank key": "authorization: Bearer   \r\n",
    "wrong": "authorization: Bearer sk-team-0123456789abcdeg\r\n",
    "a prefix": f"authorization: Bearer {KEY[:-1]}\r\n",
    "longer": f"authorization: Bearer {KEY}x\r\n",
    "capitals": f"authorization: Bearer {KEY.upper()}\r\n",
    "two": f"authorization: Bearer {KEY}\r\nauthorization: Bearer {KEY}\r\n",
    "good after bad": f"authorization: Bearer bad\r\nauthorization: Bearer {KEY}\r\n",
    "a list": f"authorization: Bearer {KEY}, Bearer {OTHER}\r\n",
    "api-key": f"api-key: {KEY}\r\n",
    "above ASCII": "authorization: Bearer \xff\xfe\r\n",
    "the upstream's": "authorization: Bearer sk-upstream-strong-canary\r\n",
}


@pytest.mark.parametrize("line", BAD_AUTHORIZATION.values(), ids=BAD_AUTHORIZATION.keys())
def test_a_missing_or_wrong_key_is_401(raw: Raw, line: str) -> None:
    head = re.sub("authorization: .*\r\n", lambda _: line, HEAD)
    answer = refused(raw.send(post(GOOD_BODY, head=head)).answer(), 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.body.decode()
    refused(raw.send(f"GET /v1/models HTTP/1.1\r\n{head}\r\n".encode("latin-1")).answer(), 401, "invalid_api_key")


def test_a_key_is_checked_before_the_body(raw: Raw) -> None:
    head = HEAD.replace(KEY, "sk-wrong")
    refused(raw.send(post(b"nonsense", head=head)).answer(), 401)


def test_a_key_sees_only_its_policies(raw: Raw) -> None:
    """One it may not use looks like one that does not exist."""
    head = HEAD.replace(KEY, OTHER)
    body = json.dumps({"model": "support", "messages": ASK}).encode()
    hidden = refused(raw.send(post(body, head=head)).answer(), 404, "model_not_found")
    unknown = refused(raw.send(post(body.replace(b"support", b"suppose"), head=head)).answer(), 404)
    assert hidden.body == unknown.body.replace(b"suppose", b"support")
    answer = raw.send(f"GET /v1/models HTTP/1.1\r\n{head}\r\n".encode()).answer()
    assert [row["id"] for row in answer.json["data"]] == ["plain"]
    refused(raw.send(f"GET /v1/models/support HTTP/1.1\r\n{head}\r\n".encode()).answer(), 404, "model_not_found")


# --- the order of things


@pytest.mark.reaches(3)
def test_pipelined_requests_are_answered_in_order(raw: Raw) -> None:
    """Good, bad, large and streamed ones; and what is no request comes last, after all answers that are owed."""
    large = json.dumps({**GOOD, "user": "u" * (MAX_BODY - 1000)}).encode()
    stream = json.dumps({**GOOD, "stream": True}).encode()
    raw.send(
        post(GOOD_BODY)
        + post(b"{")
        + post(large)
        + f"GET /v1/models HTTP/1.1\r\n{HEAD}\r\n".encode()
        + post(stream)
        + b"NONSENSE\r\n\r\n"
    )
    assert raw.answer().json["object"] == "chat.completion"
    refused(raw.answer(), 400, "invalid_json")
    assert raw.answer().json["object"] == "chat.completion"
    assert raw.answer().json["object"] == "list"
    assert raw.answer().body.endswith(b"data: [DONE]\n\n")
    refused(raw.answer(), 400, "malformed_http")
    assert raw.rest() == b""


@pytest.mark.reaches(1)
def test_a_request_byte_by_byte(raw: Raw) -> None:
    for at in range(len(request_ := post(GOOD_BODY))):
        raw.send(request_[at : at + 1])
    assert raw.answer().status == 200
    assert raw.is_open


@pytest.mark.reaches(1)
def test_a_chunk_a_byte(raw: Raw) -> None:
    assert raw.send(chunked(*(GOOD_BODY[at : at + 1] for at in range(len(GOOD_BODY))))).answer().status == 200
    assert raw.is_open


@pytest.mark.reaches(2)
def test_http_1_0_gets_no_chunks(proxy: Proxy) -> None:
    """Its answers end with the connection."""
    for stream in (False, True):
        with Raw(proxy.url) as raw:
            raw.send(post(json.dumps({**GOOD, "stream": stream}).encode(), version="HTTP/1.0"))
            answer = raw.answer()
            assert answer.status == 200
            assert "transfer-encoding" not in answer.headers
            assert answer.headers["connection"] == "close"
            assert answer.body.endswith(b"data: [DONE]\n\n" if stream else b"}")
            assert raw.rest() == b""


@pytest.mark.reaches(3)
def test_an_offer_to_upgrade_is_ignored(raw: Raw) -> None:
    """Java's client offers HTTP/2 with each plain request."""
    head = f"{HEAD}connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    raw.send(post(GOOD_BODY, head=head) * 2 + chunked(GOOD_BODY, head=head))
    assert [raw.answer().status for _ in range(3)] == [200, 200, 200]
    assert raw.is_open


def test_forty_thousand_blank_lines_are_no_request(raw: Raw) -> None:
    refused(raw.send(b"\r\n" * 40_000).answer(), 431)


def test_unknown_fields_of_any_shape_are_the_models_affair(raw: Raw, strong: StandIn) -> None:
    """They pass; the stand-in, strict as OpenAI, refuses them in its own words."""
    for value in (None, 0, -0.0, 2**63, 1e308, "", [], {}, [[{}]], "\U0001f600", "\u0000"):
        answer = raw.send(post(json.dumps({**GOOD, "surprise": value}).encode())).answer()
        refused(answer, 400, "unknown_parameter", "surprise")
        assert strong.journal.last.json["surprise"] == value
    strong.journal.clear()
