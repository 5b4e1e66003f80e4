"""One client per target, kept over reloads."""

import dataclasses

import pytest

from proxy.outbox import Outbox
from proxy.upstreams.base import TLS, Call, Target
from proxy.upstreams.httpx_client import HttpxUpstream
from proxy.upstreams.pool import Pool
from proxy.upstreams.registry import Upstreams
from tests.proxy.upstreams.conftest import Serve, fetch, read_all, soon
from tests.proxy.upstreams.rawserver import always, answer


async def test_equal_targets_share_a_client_and_others_do_not() -> None:
    upstreams = Upstreams(Outbox())
    target = Target("a", "http://a.test", provider={"x": 1})
    one = upstreams.get(target)
    assert isinstance(one, Pool)
    assert upstreams.get(target) is one
    assert upstreams.get(dataclasses.replace(target)) is one
    for change in ({"headers": ((b"api-key", b"new"),)}, {"tls": TLS(certificate=None)}, {"provider": {"x": 2}}):
        other = upstreams.get(dataclasses.replace(target, **change))
        assert (other is one) == (change.keys() == {"tls"})
    renewed = dataclasses.replace(target, tls=TLS(seen=(b"new",)))
    assert upstreams.get(renewed) is not one
    assert isinstance(upstreams.get(dataclasses.replace(target, client="httpx")), HttpxUpstream)
    await upstreams.close()


async def test_a_reload_keeps_the_connections_of_unchanged_targets(serve: Serve) -> None:
    server = await serve(always(answer(b"ok")))
    upstreams = Upstreams(Outbox())
    old = Target("a", server.url)
    await fetch(upstreams.get(old))
    new = dataclasses.replace(old)
    await upstreams.retire([new])
    await fetch(upstreams.get(new))
    assert server.connections == 1
    await upstreams.close()


async def test_requests_of_the_old_snapshot_finish_on_a_retired_client(serve: Serve) -> None:
    server = await serve(always(answer(b"ok")))
    upstreams = Upstreams(Outbox())
    old = Target("a", server.url)
    pool = upstreams.get(old)
    reply = await pool.send(Call(b"/x", b""), soon())
    await upstreams.retire([])
    assert await read_all(reply) == b"ok"
    reply.close()
    assert upstreams.get(old) is pool  # a fallback of the same request
    assert await fetch(upstreams.get(old)) == (200, b"ok")
    assert isinstance(pool, Pool)
    assert pool.size == 0
    await upstreams.retire([])
    assert upstreams.get(old) is not pool
    await upstreams.close()


@pytest.mark.parametrize(
    "target",
    [
        Target("a", "a.test/v1"),
        Target("a", "http://a.test", headers=((b"x", b"1\n2"),)),
        Target("a", "https://a.test", tls=TLS(ca="/nowhere.pem")),
    ],
)
async def test_what_would_fail_at_the_first_call_is_found_at_load(target: Target) -> None:
    with pytest.raises((ValueError, OSError)):
        Upstreams(Outbox()).get(target)


async def test_good_targets_pass() -> None:
    upstreams = Upstreams(Outbox())
    assert upstreams.get(Target("a", "https://a.test/v1", headers=((b"authorization", b"Bearer x"),)))
    await upstreams.close()


@pytest.mark.parametrize("url", ["ftp://a", "https://user:pw@a.test"])
async def test_a_target_that_cannot_be_is_refused_and_not_kept(url: str) -> None:
    upstreams = Upstreams(Outbox())
    with pytest.raises(ValueError, match="URL"):
        upstreams.get(Target("a", url))
    assert not upstreams._upstreams
