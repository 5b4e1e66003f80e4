"""`/v1/models` lists the policies that the key may use, and nothing else."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from proxy.app import App
from proxy.books import Books
from proxy.handler import Chat
from proxy.life import Life
from proxy.listener import Listener, address_of, bind, ours
from proxy.means import Means
from proxy.meter.baseline import Learned
from proxy.meter.metrics import Meters
from proxy.orphans import Orphans
from proxy.outbox import Outbox
from proxy.runtime import Holder, Snapshot
from proxy.tasks import Tasks
from proxy.upstreams.balance import Rotations
from proxy.upstreams.registry import Upstreams

SEARCH, NIGHT = "sk-search-0123456789", "sk-night-0123456789"


@pytest.fixture
async def client(snapshot: Snapshot) -> AsyncIterator[httpx.AsyncClient]:
    """The application on a real listener in this process."""
    tasks, sock, holder = Tasks(), bind("127.0.0.1:0"), Holder(snapshot)
    chat = Chat(holder, Means(Upstreams(Outbox()), Rotations(), Learned(), Orphans()), Meters("0"), Books([]))
    listener = Listener(ours(App(holder, chat, Life(), Outbox())), sock, tasks)
    url = f"http://{address_of(sock)}"
    await listener.start()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as made:
        yield made
    await listener.stop(1.0)
    await tasks.close()


async def get(client: httpx.AsyncClient, path: str, key: str | None) -> tuple[int, Any]:
    answer = await client.get(path, headers={"authorization": f"Bearer {key}"} if key else {})
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.status_code, json.loads(answer.content)


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
@pytest.mark.parametrize("key", [SEARCH, NIGHT])
async def test_the_policies_are_the_models_and_the_star_is_none(
    client: httpx.AsyncClient, snapshot: Snapshot, path: str, key: str
) -> None:
    status, found = await get(client, path, key)
    row = {"id": "support", "object": "model", "created": snapshot.created, "owned_by": "pointsman"}
    assert (status, found) == (200, {"object": "list", "data": [row]})


async def test_one_model_by_its_name(client: httpx.AsyncClient) -> None:
    status, found = await get(client, "/v1/models/support", SEARCH)
    assert (status, found["id"]) == (200, "support")


async def test_what_the_key_may_not_use_does_not_exist(client: httpx.AsyncClient) -> None:
    """The star answers for any name, so only a key that may use it finds others."""
    assert (await get(client, "/v1/models/gpt-4o", NIGHT))[0] == 200
    status, found = await get(client, "/v1/models/gpt-4o", SEARCH)
    assert (status, found["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/support"])
async def test_without_a_key_nothing_is_told(client: httpx.AsyncClient, path: str) -> None:
    status, found = await get(client, path, None)
    assert (status, found["error"]["code"]) == (401, "invalid_api_key")
