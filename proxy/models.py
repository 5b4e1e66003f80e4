"""`GET /v1/models` and `/v1/models/{id}`: the policies, which are the models that clients may name."""

from typing import Any

import orjson

from proxy.errors import NotFound
from proxy.exchange import Exchange
from proxy.heads import JSON
from proxy.keys import Caller
from proxy.runtime import Holder, Service, Snapshot


def may_use(caller: Caller, name: str) -> bool:
    return caller.policies is None or name in caller.policies


def serving(snapshot: Snapshot, caller: Caller, model: str) -> Service:
    """The policy that serves the asked model. Raises `NotFound`, also for one that the key may not use."""
    service = snapshot.services.get(model)
    if service is None or model == "*":
        service = snapshot.services.get("*")
    if service is None or not may_use(caller, service.policy.name):
        raise NotFound(
            f"the model '{model[:200]}' does not exist or you do not have access to it",
            param="model",
            code="model_not_found",
        )
    return service


class Models:
    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    async def __call__(self, exchange: Exchange) -> None:
        snapshot = self.holder.snapshot
        caller = snapshot.keys.caller(exchange.headers.get(b"authorization"))
        names = [name for name in snapshot.services if name != "*" and may_use(caller, name)]
        exchange.reply(200, JSON, orjson.dumps({"object": "list", "data": [row(snapshot, name) for name in names]}))

    async def one(self, exchange: Exchange, name: str) -> None:
        snapshot = self.holder.snapshot
        caller = snapshot.keys.caller(exchange.headers.get(b"authorization"))
        serving(snapshot, caller, name)
        exchange.reply(200, JSON, orjson.dumps(row(snapshot, name)))


def row(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": snapshot.created, "owned_by": "pointsman"}
