"""With what body an endpoint is asked, and for how long a caller may take nothing. Attempts are in `test_chat`
and `test_pools`."""

import contextlib
import json
import signal
import socket
import threading
from types import TracebackType
from typing import Any, Self

import httpx
import orjson
import pytest

from proxy.errors import BadRequest
from proxy.relay import encoded
from proxy.runtime import Endpoint
from proxy.standins.standin import StandIn
from proxy.upstreams.base import Target
from routes.params import DIALECTS, Params
from tests.harness import Proxy
from tests.proxy.callers import body, chunk

TARGET = Target("a", "http://127.0.0.1:1")


def endpoint(name: str, weight: float = 1.0, *dialect: Params) -> Endpoint:
    return Endpoint(TARGET, name, weight, dialect)


def test_the_body_has_the_endpoints_model_and_dialect() -> None:
    body = {"messages": [], "max_tokens": 5, "temperature": 0.5}
    sent = orjson.loads(encoded(dict(body), endpoint("gpt-x", 1.0, DIALECTS["openai"])))
    assert sent == {"messages": [], "max_completion_tokens": 5, "temperature": 0.5, "model": "gpt-x"}
    assert orjson.loads(encoded(dict(body), endpoint("gpt-x"))) == {**body, "model": "gpt-x"}


@pytest.mark.parametrize("value", [2**65, "\ud800"])
def test_what_json_cannot_say_is_the_callers_fault(value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        encoded({"messages": [], "x": value}, endpoint("m"))
    assert refused.value.code == "invalid_json"


def test_a_caller_who_takes_nothing_is_given_up() -> None:
    """After the route's `client`, not the listener's own minute; the model is told to stop."""
    with StandIn() as standin:
        config = f"""
version: 1
timeouts: {{client: 1s}}
models: {{m: {{base_url: "{standin.base_url}", price: {{input: 1, output: 1}}}}}}
policies: {{p: {{routes: {{r: {{model: m, timeouts: {{client: 300ms}}}}}}, default: r}}}}
"""
        with Proxy(config) as proxy, socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", int(proxy.url.rpartition(":")[2])))
            data = json.dumps(body("[[fault tokens=60000]]", stream=True)).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
            caller.sendall(f"{head}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
            (line,) = proxy.requests(1)
            assert (line["outcome"], line["status"]) == ("cancelled", 499)
            assert line["ms"] >= 300
            assert standin.journal[0].ended != "complete"


def test_comments_without_a_pause_put_nothing_off() -> None:
    """Something can be read at any time, and never any content."""
    with StandIn() as standin:
        config = f"""
version: 1
timeouts: {{first_content: 300ms}}
models: {{m: {{base_url: "{standin.base_url}", price: {{input: 1, output: 1}}}}}}
policies: {{p: {{routes: {{r: {{model: m}}}}, default: r}}}}
"""
        with Proxy(config) as proxy:
            answer = httpx.post(
                f"{proxy.base_url}/chat/completions", json=body("[[fault pings every=0]]", stream=True)
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
            assert "first_content" in answer.json()["error"]["message"]


class Saying:
    """Answers a request with these bytes, in a write each, and keeps the connection. `more` lets it go on."""

    def __init__(self, *answer: bytes) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        self.more = threading.Semaphore(1)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._listening.close()
        self.more.release(len(self._answer))
        self._thread.join()
        self._caller.close()

    def _serve(self) -> None:
        self._caller, _ = self._listening.accept()
        self._caller.recv(65536)
        for part in self._answer:
            self.more.acquire()
            with contextlib.suppress(OSError):
                self._caller.sendall(part)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOLD = [chunk("so"), chunk(" far")]


def piece(*events: bytes) -> bytes:
    data = b"".join(events)
    return b"%x\r\n%b\r\n" % (len(data), data)


def config(model: Saying) -> str:
    return f"""
version: 1
server: {{announce: 0s, drain: 0s}}
models: {{m: {{base_url: "{model.base_url}", price: {{input: 1, output: 1}}}}}}
policies: {{p: {{model: m}}}}
"""


def test_content_that_comes_with_an_error_goes_out_before_it() -> None:
    """In one read; the first content came before, so that no other answer is possible."""
    error = b'data: {"error":{"message":"overloaded"}}\n\n'
    with Saying(HEAD + piece(TOLD[0]), piece(TOLD[1], error)) as model, Proxy(config(model)) as proxy:
        asked: dict[str, Any] = {"url": f"{proxy.base_url}/chat/completions", "json": body("", stream=True)}
        with httpx.stream("POST", **asked) as answer:
            parts = answer.iter_raw()
            assert next(parts) == TOLD[0]
            model.more.release()
            rest = b"".join(parts)
    assert rest.startswith(TOLD[1])
    assert b'"error":{"message"' in rest[len(TOLD[1]) :]
    assert b"[DONE]" not in rest


def test_a_stop_after_done_is_no_cut() -> None:
    """The caller has it all; only the model server has not ended its body yet, and is waited for a little."""
    whole = HEAD + piece(*TOLD, chunk("", "stop"), b"data: [DONE]\n\n")
    with Saying(whole) as model, Proxy(config(model)) as proxy:
        asked: dict[str, Any] = {"url": f"{proxy.base_url}/chat/completions", "json": body("", stream=True)}
        with httpx.stream("POST", **asked) as answer:
            assert b"".join(answer.iter_raw()).endswith(b"[DONE]\n\n")
            proxy.signal(signal.SIGTERM)
        (line,) = proxy.requests(1)  # it is in the books, and whole
    assert (line["outcome"], line["status"]) == ("ok", 200)
    assert [each["result"] for each in line["attempts"]] == ["ok"]
