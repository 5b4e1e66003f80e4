"""The data listener's table of paths, and the one seam where errors become answers."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from proxy.account import new_id
from proxy.bodies import Bodies
from proxy.errors import InternalError, MethodNotAllowed, NotFound, PointsmanError
from proxy.exchange import Exchange
from proxy.handler import Chat
from proxy.heads import reply_json
from proxy.life import Life
from proxy.models import Models
from proxy.outbox import Outbox
from proxy.runtime import Holder, Limits
from proxy.wire.error import reply_error

log = structlog.get_logger("pointsman")

Endpoint = Callable[[Exchange], Awaitable[None]]


class App:
    """Answers every exchange. Paths count with and without `/v1`."""

    def __init__(self, holder: Holder, chat: Chat, life: Life, outbox: Outbox) -> None:
        self.holder = holder
        self.models = Models(holder)
        self.life = life
        self._chat = chat
        self.bodies = Bodies()
        self.outbox = outbox
        self.table: dict[str, tuple[bytes, Endpoint]] = {
            "/chat/completions": (b"POST", chat),
            "/models": (b"GET", self.models),
            "/healthz": (b"GET", self._health),
            "/readyz": (b"GET", self._ready),
        }

    @property
    def limits(self) -> Limits:
        return self.holder.snapshot.server.limits

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._endpoint(exchange)(exchange)
        except asyncio.CancelledError:
            if not exchange.disconnected:
                raise
        except PointsmanError as error:
            reply_error(exchange, new_id(), error)
        except Exception as error:  # the last seam: a defect of ours must not leave a caller without an answer
            log.error("defect", path=exchange.path[:100], error=type(error).__name__, exc_info=error)
            if exchange.started and not exchange.complete:
                exchange.abort()
            else:
                reply_error(exchange, new_id(), InternalError())

    def _endpoint(self, exchange: Exchange) -> Endpoint:
        path = exchange.path.removeprefix("/v1")
        found = self.table.get(path) or self.table.get(path.rstrip("/"))
        if found is None:
            if path.startswith("/models/"):
                found = (b"GET", lambda asked: self.models.one(asked, path.removeprefix("/models/")))
            else:
                known = ", ".join(self.table)
                raise NotFound(f"no such path: {exchange.path[:200]}; there are {known}, also below /v1")
        method, endpoint = found
        if exchange.method != method and not (exchange.method == b"HEAD" and method == b"GET"):
            allow = method.decode()
            raise MethodNotAllowed(f"{exchange.path} takes {allow}, not {exchange.method.decode()}", allow=allow)
        return endpoint

    def shed(self, is_shedding: bool) -> None:
        """Refuse new calls of models, or take them again. The table changes, so that no request pays for asking."""
        self.table["/chat/completions"] = (b"POST", self._refuse if is_shedding else self._chat)

    async def _refuse(self, exchange: Exchange) -> None:
        raise self.bodies.overloaded()

    async def _health(self, exchange: Exchange) -> None:
        reply_json(exchange, 200, b'{"status":"alive"}')

    async def _ready(self, exchange: Exchange) -> None:
        status, body = self.life.readiness()
        reply_json(exchange, status, body)
