"""The Redis controls do what they say: what a client sees in each state, and that it is well afterwards.

How long a state holds is told by the server's own clock, and only as a lower bound: a busy machine changes neither.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoScriptError, OutOfMemoryError, ReadOnlyError, TimeoutError

from tests.faults.lossy import Lossy, Trouble
from tests.faults.redisctl import RedisServer

pytestmark = pytest.mark.needs("redis-server")

SHORT = 0.3  # seconds of a state that is waited for
LONG = 60.0  # of one that is ended otherwise
HASTY = 0.5  # seconds after which a client gives up
ADD = "return redis.call('incrby', KEYS[1], ARGV[1])"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def client_of(port: int, patience: float = 30.0) -> AsyncIterator[Redis]:
    """The client without the retries it makes on its own, so that every failure is seen."""
    retry = Retry(NoBackoff(), 0)
    async with Redis(port=port, socket_timeout=patience, socket_connect_timeout=patience, retry=retry) as client:
        yield client


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    """Connected, with one key; when the test is over, it must be able to write and to read what it wrote."""
    server.flush()
    async with client_of(server.port) as client:
        await client.set("spent", 7)
        yield client
        await well(client)


async def well(client: Redis) -> None:
    await client.set("well", "yes")
    assert await client.get("well") == b"yes"


async def now(client: Redis) -> float:
    """The server's clock."""
    seconds, micros = await client.time()
    return float(seconds + micros / 1e6)


# --- silence


async def test_a_pause_holds_every_command(server: RedisServer, client: Redis) -> None:
    begun = await now(client)
    server.pause(SHORT)
    assert await client.get("spent") == b"7"
    assert await now(client) >= begun + SHORT


async def test_a_sleep_holds_every_command(server: RedisServer, client: Redis) -> None:
    before = after = await now(client)
    server.sleep(SHORT)
    while after < before + SHORT:  # the sleep is between two commands of ours
        before, after = after, await now(client)
    assert await client.get("spent") == b"7"


async def _until_it_fails(client: Redis) -> None:
    """A sleep begins a little after it was asked for."""
    while True:
        assert await client.get("spent") == b"7"


SILENCES = {
    "pause": lambda server: server.pause(LONG),
    "sleep": lambda server: server.sleep(LONG),
    "freeze": lambda server: server.freeze(),
}


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("connected", [True, False])
async def test_silence_is_a_timeout(server: RedisServer, client: Redis, silence: str, connected: bool) -> None:
    """A new connection is accepted, by the kernel, and as silent as an old one."""
    async with client_of(server.port, HASTY) as hasty:
        if connected:
            assert await hasty.get("spent") == b"7"
        SILENCES[silence](server)
        with pytest.raises(TimeoutError):
            await _until_it_fails(hasty)
        server.kill()
        server.start()
        await well(hasty)
    await client.connection_pool.disconnect()  # it was the old server's


async def test_a_frozen_server_goes_on_where_it_was(server: RedisServer, client: Redis) -> None:
    """What was asked meanwhile is answered: a write that nobody waited for is not undone."""
    server.freeze()
    async with client_of(server.port, HASTY) as hasty:
        with pytest.raises(TimeoutError):
            await hasty.get("spent")
    adding = asyncio.ensure_future(client.incrby("spent", 3))
    await asyncio.sleep(0)
    server.thaw()
    assert await adding == 10


# --- loss


async def test_a_flush_forgets(server: RedisServer, client: Redis) -> None:
    server.flush()
    assert await client.get("spent") is None


async def test_a_killed_server_refuses_and_comes_back_empty(server: RedisServer, client: Redis) -> None:
    """Keys and scripts are gone; the address is the same, and the client connects anew by itself."""
    script = await client.script_load(ADD)
    assert await client.evalsha(script, 1, "spent", 3) == 10
    server.kill()
    for _ in range(2):  # an old connection that has ended, a new one that is refused
        with pytest.raises(ConnectionError):
            await client.get("spent")
    server.start()
    assert await client.get("spent") is None
    with pytest.raises(NoScriptError):
        await client.evalsha(script, 1, "spent", 3)


# --- refusal: what is read is answered, what is written is not, by a script neither


@pytest.mark.parametrize(
    ("state", "refusal"), [(RedisServer.read_only, ReadOnlyError), (RedisServer.full, OutOfMemoryError)]
)
async def test_takes_no_writes(server: RedisServer, client: Redis, state: Any, refusal: type[Exception]) -> None:
    with state(server):
        assert await client.get("spent") == b"7"
        with pytest.raises(refusal):
            await client.set("spent", 8)
        with pytest.raises(refusal):
            await client.eval(ADD, 1, "spent", 3)
    assert await client.get("spent") == b"7"


# --- the way to it


async def test_a_late_network(server: RedisServer, client: Redis) -> None:
    async with Lossy(server.port) as lossy, client_of(lossy.port) as far:
        begun = await now(far)
        lossy.trouble = Trouble(delay=SHORT / 2)
        assert await far.get("spent") == b"7"
        lossy.trouble = Trouble()
        assert await now(far) >= begun + SHORT  # there and back
        await well(far)


async def test_a_reset(server: RedisServer, client: Redis) -> None:
    async with Lossy(server.port) as lossy, client_of(lossy.port) as far:
        assert await far.get("spent") == b"7"
        lossy.trouble = Trouble(hole=True)
        asking = asyncio.ensure_future(far.get("spent"))
        await asyncio.sleep(0)
        lossy.reset()
        with pytest.raises(ConnectionError):
            await asking
        lossy.trouble = Trouble()
        await well(far)


@pytest.mark.parametrize("connected", [True, False])
async def test_a_partition(server: RedisServer, client: Redis, connected: bool) -> None:
    """Silence on old and on new connections; a write that was under way arrives once the hole has closed."""
    async with Lossy(server.port) as lossy, client_of(lossy.port, HASTY) as far:
        if connected:
            assert await far.get("spent") == b"7"
        lossy.trouble = Trouble(hole=True)
        with pytest.raises(TimeoutError):
            await far.incrby("spent", 3)
        assert await client.get("spent") == b"7"  # the others are not cut off
        lossy.trouble = Trouble()
        await well(far)
