"""The admin application: metrics, health, readiness, and what needs the admin key. Apart from the data listener."""

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Header, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from proxy.errors import Forbidden, InternalError, MethodNotAllowed, NotFound, PointsmanError, Unauthorized
from proxy.keys import digest
from proxy.meter.exposition import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from proxy.supervisor import Supervisor

log = structlog.get_logger("pointsman")

READ = ["GET", "HEAD"]


def application(supervisor: "Supervisor") -> FastAPI:
    """The FastAPI application; its documents stay off, its errors have OpenAI's shape."""
    app = FastAPI(title="Pointsman admin", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.exception_handler(PointsmanError)(fallen)
    app.exception_handler(HTTPException)(refused)
    app.exception_handler(Exception)(broken)

    async def with_admin_key(authorization: Annotated[str, Header()] = "") -> None:
        key = supervisor.snapshot.server.admin_key
        if key is None:
            raise Forbidden("/admin/* is closed: set `server.admin_key` in the config to open it")
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest(given.strip()), digest(key)):
            raise Unauthorized("incorrect admin key: send it as `Authorization: Bearer KEY`")

    @app.api_route("/healthz", methods=READ)
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.api_route("/readyz", methods=READ)
    async def ready() -> Response:
        status, body = supervisor.life.readiness()
        return Response(body, status, media_type="application/json")

    @app.api_route("/metrics", methods=READ)
    async def metrics() -> Response:
        return Response(exposition(await supervisor.state()), headers={"content-type": CONTENT_TYPE})

    @app.get("/admin/config", dependencies=[Depends(with_admin_key)])
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

    @app.post("/admin/reload", dependencies=[Depends(with_admin_key)])
    async def reload() -> JSONResponse:
        done = await supervisor.reload()
        problems = [str(problem) for problem in done.problems]
        return JSONResponse({"hash": done.hash, "problems": problems}, 200 if done.is_ok else 409)

    return app


async def fallen(_: Any, error: Exception) -> JSONResponse:
    assert isinstance(error, PointsmanError)
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return JSONResponse(error.body(), error.http_status, headers)


async def refused(request: Any, error: Exception) -> JSONResponse:
    """What the framework itself refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "GET")
        return await fallen(request, MethodNotAllowed(f"this path takes {allow}", allow=allow))
    return await fallen(
        request, NotFound("no such path; there are /metrics, /healthz, /readyz, /admin/config, /admin/reload")
    )


async def broken(request: Any, error: Exception) -> JSONResponse:
    """A defect of ours. The framework raises it again once this is sent."""
    log.error("defect", path=request.url.path, exc_info=error)
    return await fallen(request, InternalError())
