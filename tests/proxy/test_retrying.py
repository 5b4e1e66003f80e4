"""A second call of the same endpoint, over real sockets: when it is made, and when it would be in vain."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from proxy.standins.behaviour import Behaviour
from proxy.standins.standin import StandIn
from proxy.upstreams.silence import KNOWN, MANY
from tests.harness import Proxy
from tests.proxy.callers import ask, asking, asks, body, poke
from tests.proxy.raw import Raw, post

TICK = 0.001  # second: a loop counts in whole ones, and may be early by less than one
CONFIG = """
version: 1
timeouts: {{connect: 5s, first_content: {first}, idle: 20s, total: 10s}}
upstreams:
  a: {{base_url: "{a}", api_keys: [sk-one-0123456789, sk-two-0123456789]}}
models:
  m: {{base_url: "{a}", price: {{input: 1, output: 1}}}}
  other: {{base_url: "{b}", price: {{input: 1, output: 1}}}}
  keys: {{at: a, price: {{input: 1, output: 1}}}}
policies:
  p: {{model: m}}
  keys: {{model: keys}}
  helped: {{routes: {{m: {{model: m, fallback: other}}, other: {{model: other}}}}, default: m}}
"""


@pytest.fixture(scope="module")
def a() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def running(a: StandIn) -> Iterator[Proxy]:
    with StandIn() as b, Proxy(CONFIG.format(a=a.base_url, b=b.base_url, first="500ms")) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: Proxy, a: StandIn) -> Proxy:
    a.script.clear()
    a.journal.clear()
    return running


PASSING = ("status=500", "status=503 body=empty", "reset", "cut after=head", "error-json", "status=200 body=html")


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_be_passing_is_asked_again(proxy: Proxy, a: StandIn, fault: str) -> None:
    if fault == "reset":  # of a used connection it is no failure yet: a fresh one is tried first
        assert ask(proxy, "well?").status_code == 200  # so that there is a used one
        a.then(fault)
    a.then(fault)
    answer = ask(proxy, f"{fault}?")
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-attempts"] == "2"


LASTING = ("status=401", "status=400", "status=429", "status=429 retry-after=1", "stall after=head",
           "status=503 retry-after=21", "status=503 retry-after=19.9")  # fmt: skip


@pytest.mark.parametrize("fault", LASTING)
def test_what_would_be_in_vain_is_not(proxy: Proxy, a: StandIn, fault: str) -> None:
    """A wait of over 20 s is not kept; nor is one that would end after the route's total time."""
    a.then(fault)
    answer = ask(proxy, f"{fault}?") if "stall" not in fault else ask(proxy, "[[fault stall]]")
    assert answer.status_code != 200
    assert answer.headers["x-pointsman-attempts"] == "1"


def test_the_server_says_how_long_to_wait(proxy: Proxy, a: StandIn) -> None:
    a.then("status=503 retry-after=0.3")
    assert ask(proxy).status_code == 200
    first, second = a.journal
    assert second.received - first.received >= 0.3 - TICK


def test_twice_and_no_more(proxy: Proxy, a: StandIn) -> None:
    """No upstream more than twice, however many keys it has."""
    a.then(*["status=503"] * 4)
    assert ask(proxy, "one").headers["x-pointsman-attempts"] == "2"
    assert ask(proxy, "another", model="keys").headers["x-pointsman-attempts"] == "2"
    assert len(a.journal) == 4


def test_a_fallback_is_asked_instead(proxy: Proxy, a: StandIn) -> None:
    a.then("status=503", "status=503")
    answer = ask(proxy, model="helped")
    assert (answer.status_code, answer.headers["x-pointsman-served-by"]) == (200, "other")
    assert len(a.journal) == 1


def test_one_that_is_down_is_not_asked_twice(a: StandIn) -> None:
    """Five failures in a row are no longer passing: an outage must not cost the server twice the load."""
    a.script.clear()
    a.journal.clear()
    a.then(*["status=503"] * 100)
    with Proxy(CONFIG.format(a=a.base_url, b=a.base_url, first="5s")) as proxy:
        for number in range(20):
            assert ask(proxy, f"{number}").status_code == 502
        assert len(a.journal) == 20 + 2
    a.script.clear()


def test_a_seat_that_is_taken_during_the_pause_stays_taken(a: StandIn) -> None:
    """`max_in_flight` is a promise to the server, also where its own `retry-after` was obeyed."""
    a.script.clear()
    a.journal.clear()
    config = f"""
version: 1
upstreams: {{a: {{base_url: "{a.base_url}"}}}}
models: {{m: {{endpoints: [{{at: a, max_in_flight: 1}}], price: {{input: 1, output: 1}}}}}}
policies: {{p: {{model: m}}}}
"""
    a.then("status=503 retry-after=2", "stall")
    with Proxy(config) as proxy, ThreadPoolExecutor(1) as pool, Raw(proxy.url) as other:
        waiting = pool.submit(ask, proxy)
        a.journal.wait(lambda journal: len(journal) == 1 and not journal.running(), timeout=10)
        other.send(post(json.dumps(body("another")).encode()))
        a.journal.wait(lambda journal: len(journal) == 2, timeout=10)
        answer = waiting.result()
        assert (answer.status_code, answer.headers["x-pointsman-attempts"]) == (502, "1")
        assert len(a.journal) == 2
    a.script.clear()


def test_one_seat_elsewhere_takes_one_of_those_that_silence_keeps(a: StandIn) -> None:
    """The others wait on, and are answered."""
    a.script.clear()
    with StandIn() as b, ExitStack() as opened:
        config = f"""
version: 1
upstreams: {{a: {{base_url: "{a.base_url}"}}, b: {{base_url: "{b.base_url}"}}}}
models: {{m: {{endpoints: [{{at: a}}, {{at: b, priority: 1, max_in_flight: 1}}], price: {{input: 1, output: 1}}}}}}
policies: {{p: {{model: m}}}}
"""
        proxy = opened.enter_context(Proxy(config))
        asks(proxy, KNOWN + 1)
        opened.callback(setattr, a, "every", None)
        a.every = b.every = (1, Behaviour.parse("ttft=4"))
        waiting = [asking(proxy, opened) for _ in range(MANY)]
        poke(proxy, "a")
        assert [each.answer().status for each in waiting] == [200] * MANY
        assert len(b.journal) == 1


async def test_a_refused_certificate_is_not_asked_again(tmp_path: Path) -> None:
    """Nor told our key."""
    ca, stranger = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("localhost").configure_cert(context)
    made = 0
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())

    def count() -> asyncio.Protocol:
        nonlocal made
        made += 1
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, serve)

    server = await asyncio.get_running_loop().create_server(count, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    config = f"""
version: 1
models:
  m: {{base_url: "https://localhost:{port}/v1", api_key: sk-canary-0123456789, tls: {{ca: "{tmp_path}/ca.pem"}},
       price: {{input: 1, output: 1}}}}
policies: {{p: {{model: m}}}}
"""
    async with server:
        with Proxy(config) as proxy:
            answer = await asyncio.to_thread(ask, proxy)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_connect"
    assert "certificate" in answer.json()["error"]["message"]
    assert made == 1
    assert not heard
