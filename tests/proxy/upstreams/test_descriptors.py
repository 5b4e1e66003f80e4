"""When descriptors run out: idle connections make room, else the call is refused and no endpoint is blamed."""

import errno
import os
import resource
from socket import socket
from typing import Any

import pytest

from proxy.outbox import Outbox
from proxy.standins.standin import StandIn
from proxy.upstreams import descriptors
from proxy.upstreams.base import Target
from proxy.upstreams.registry import Upstreams
from tests.harness import Proxy
from tests.proxy.raw import Raw, post
from tests.proxy.upstreams.conftest import Serve, fetch
from tests.proxy.upstreams.rawserver import always, answer

CONFIG = """
version: 1
upstreams: {{a: {{base_url: "{a}"}}, b: {{base_url: "{b}"}}, c: {{base_url: "{b}"}}}}
models:
  one: {{at: a, model: strong, price: {{input: 1, output: 1}}}}
  two: {{endpoints: [{{at: b, model: tuned}}, {{at: c, model: tuned}}], price: {{input: 1, output: 1}}}}
policies: {{first: {{default: {{model: one}}}}, second: {{default: {{model: two}}}}}}
"""


async def test_idle_connections_of_all_pools_make_room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = await serve(always(answer(b"one"))), await serve(always(answer(b"two")))
    upstreams = Upstreams(Outbox())
    first, second = (upstreams.get(Target(name, server.url)) for name, server in (("one", one), ("two", two)))
    await fetch(first)
    most = len(os.listdir("/proc/self/fd"))

    def limited(*given: Any) -> socket:
        if len(os.listdir("/proc/self/fd")) >= most:
            raise OSError(errno.EMFILE, "Too many open files")
        return socket(*given)

    monkeypatch.setattr(descriptors, "socket", limited)
    assert await fetch(second) == (200, b"two")
    assert upstreams.descriptors.refused == 0
    await upstreams.close()


def test_a_call_without_a_descriptor_is_refused_and_nobody_blamed() -> None:
    def ask(raw: Raw, model: str) -> Any:
        return raw.send(post(b'{"model": "%s", "messages": [{"role": "user", "content": "hi"}]}' % model.encode()))

    with StandIn("strong") as a, StandIn("tuned") as b, Proxy(CONFIG.format(a=a.base_url, b=b.base_url)) as proxy:
        with Raw(proxy.url) as raw:
            assert ask(raw, "first").answer().status == 200
            before = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (0, before[1]))
            for _ in range(8):  # more than eject an endpoint
                told = ask(raw, "second").answer()
                assert (told.status, told.error["code"]) == (503, "overloaded")
                assert told.headers["retry-after"] == "1"
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, before)
            assert ask(raw, "second").answer().status == 200
        assert proxy.metric("pointsman_shed_total", reason="connections") == 8
        assert proxy.metric("pointsman_endpoint_state") == 0
        assert proxy.metric("pointsman_ejections_total") == 0
        assert "defect" not in proxy.text
