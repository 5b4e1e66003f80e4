"""`GET /v1/models` and `/v1/models/{id}`: the policies, which are the models that clients may name."""

from typing import Any

import orjson

from proxy.exchange import Exchange
from proxy.heads import reply_json
from proxy.reading import may_use, serving
from proxy.runtime import Holder, Snapshot


class Models:
    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    async def __call__(self, exchange: Exchange) -> None:
        snapshot = self.holder.snapshot
        caller = snapshot.keys.caller(exchange.headers.get(b"authorization"), exchange.headers)
        names = [name for name in snapshot.services if name != "*" and may_use(caller, name)]
        reply_json(exchange, 200, orjson.dumps({"object": "list", "data": [row(snapshot, name) for name in names]}))

    async def one(self, exchange: Exchange, name: str) -> None:
        snapshot = self.holder.snapshot
        caller = snapshot.keys.caller(exchange.headers.get(b"authorization"), exchange.headers)
        serving(snapshot, caller, name)
        reply_json(exchange, 200, orjson.dumps(row(snapshot, name)))


def row(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": snapshot.created, "owned_by": "pointsman"}
