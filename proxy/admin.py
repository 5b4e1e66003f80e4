"""The admin listener: metrics, health, readiness, and what needs the admin key. Apart from the data listener."""

import asyncio
import hmac
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from proxy import __version__
from proxy.errors import Forbidden, NotFound, PointsmanError, Unauthorized
from proxy.meter.exposition import exposition
from proxy.server import Server

if TYPE_CHECKING:
    from proxy.supervisor import Supervisor


def application(supervisor: "Supervisor") -> FastAPI:
    """The FastAPI application; its documents stay off, its errors have OpenAI's shape."""
    app = FastAPI(title="Pointsman admin", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(PointsmanError)
    async def fallen(_: Any, error: PointsmanError) -> JSONResponse:
        return JSONResponse(error.body(), error.http_status)

    @app.exception_handler(404)
    async def missing(_: Any, __: Any) -> JSONResponse:
        return JSONResponse(
            NotFound("no such path; there are /metrics, /healthz, /readyz, /admin/config").body(), 404
        )

    async def admin(authorization: str = Header(default="")) -> None:
        key = supervisor.snapshot.server.admin_key
        if key is None:
            raise Forbidden("set server.admin_key in the config to use /admin")
        given = authorization.removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise Unauthorized("incorrect admin key: send it as `Authorization: Bearer KEY`")

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def ready() -> Response:
        status, body = supervisor.life.readiness()
        return Response(body, status, media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(await supervisor.state()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/admin/config", dependencies=[Depends(admin)])
    async def config() -> dict[str, Any]:
        snapshot = supervisor.snapshot
        return {
            "hash": snapshot.hash,
            "files": list(snapshot.files),
            "policies": {
                name: {
                    "rules": [rule.name for rule in service.policy.rules],
                    "routes": sorted(service.routes),
                    "baseline": service.policy.baseline,
                }
                for name, service in snapshot.services.items()
            },
            "models": sorted(snapshot.models),
        }

    @app.post("/admin/reload", dependencies=[Depends(admin)])
    async def reload() -> JSONResponse:
        done = await supervisor.reload()
        problems = [str(problem) for problem in done.problems]
        return JSONResponse({"hash": done.hash, "problems": problems}, 200 if done.is_ok else 409)

    return app


class Admin:
    """Runs the admin application on its own socket, in the supervisor's loop."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._server = Server(
            uvicorn.Config(application(supervisor), log_config=None, access_log=False, lifespan="off", ws="none")
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket) -> None:
        self._serving = self._supervisor.tasks.spawn(self._server.serve(sockets=[listener]), name="admin listener")
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await self._serving
