"""The admin listener: metrics, what the admin key opens, errors in OpenAI's shape, and nothing else."""

import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from proxy.admin import application
from proxy.life import Life
from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.callers import ask, get, request

ADMIN = "admin-canary-0123456789"
DATA = "sk-data-canary-0123456789"
UPSTREAM = "sk-upstream-canary-0123456789"

CONFIG = f"""
version: 1
server: {{admin_key: {ADMIN}}}
keys: [{{name: one, key: {DATA}}}]
upstreams:
  tuned: {{base_url: "TUNED", api_key: {UPSTREAM}}}
models:
  tuned: {{at: tuned, price: {{input: 0.1, output: 0.4}}}}
prompts:
  support: {{"1": {{messages: [{{system: A prompt canary.}}]}}}}
policies:
  p:
    routes: {{tuned: {{model: tuned, prompt: support}}}}
    rules: [{{name: gold, when: {{header.x: gold}}, route: tuned}}]
    default: tuned
"""

WRONG: list[dict[str, str]] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer {DATA}"},
    {"authorization": f"Bearer {UPSTREAM}"},
    {"authorization": f"Bearer {ADMIN}x"},
    {"authorization": f"Bearer {ADMIN[:-1]}"},
    {"authorization": f"Basic {ADMIN}"},
    {"authorization": ADMIN},
    {"x-api-key": ADMIN},
]


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture(scope="module")
def proxy(tuned: StandIn) -> Iterator[Proxy]:
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), args=("--workers=2",)) as running:
        yield running


@pytest.fixture
def admin(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.admin, headers={"authorization": f"Bearer {ADMIN}"}) as client:
        yield client


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """An error as OpenAI's clients expect it; returns its message."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert "canary" not in answer.text
    return str(error["message"])


def test_metrics_are_what_prometheus_reads(admin: httpx.Client, proxy: Proxy) -> None:
    assert ask(proxy, key=DATA).status_code == 200
    answer = admin.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "canary" not in answer.text
    assert 'pointsman_requests_total{model="tuned",outcome="ok"' in answer.text


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing(admin: httpx.Client) -> None:
    text = admin.get("/metrics").content
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_metrics_need_no_key(proxy: Proxy) -> None:
    assert get(f"{proxy.admin}/metrics").status_code == 200


def test_the_config_shows_no_secret(admin: httpx.Client, proxy: Proxy) -> None:
    answer = admin.get("/admin/config")
    found = answer.json()
    assert found["policies"]["p"]["rules"] == ["gold"]
    assert found["models"] == ["tuned"]
    assert str(proxy.config) in found["files"]
    assert found["hash"] == ask(proxy, key=DATA).headers["x-pointsman-config"]
    assert "canary" not in answer.text


@pytest.mark.parametrize("headers", WRONG, ids=str)
def test_only_the_admin_key_opens(proxy: Proxy, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/admin/config"), ("POST", "/admin/reload")):
        answer = request(method, f"{proxy.admin}{path}", headers=headers)
        assert "admin key" in refused(answer, 401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_admin_key_is_no_data_key(proxy: Proxy) -> None:
    assert ask(proxy, key=ADMIN).status_code == 401


def test_without_an_admin_key_admin_is_closed(tuned: StandIn) -> None:
    config = CONFIG.replace("TUNED", tuned.base_url).replace(f"server: {{admin_key: {ADMIN}}}\n", "")
    with Proxy(config) as proxy:
        for key in (UPSTREAM, DATA, ADMIN):
            answer = get(f"{proxy.admin}/admin/config", headers={"authorization": f"Bearer {key}"})
            assert "server.admin_key" in refused(answer, 403, "forbidden")
        assert get(f"{proxy.admin}/metrics").status_code == 200


def test_reload_says_what_came_of_it(admin: httpx.Client, proxy: Proxy) -> None:
    before = admin.get("/admin/config").json()["hash"]
    good = proxy.config.read_text()
    answer = admin.post("/admin/reload", timeout=20)
    assert answer.status_code == 200
    assert (answer.json()["hash"], answer.json()["problems"]) == (before, [])
    proxy.config.write_text(good.replace("at: tuned", "at: tunde"))
    answer = admin.post("/admin/reload", timeout=20)
    assert answer.status_code == 409
    assert answer.json()["hash"] == before
    assert any("error[unknown-upstream]" in problem for problem in answer.json()["problems"])
    assert "canary" not in answer.text
    proxy.config.write_text(good)
    assert admin.post("/admin/reload", timeout=20).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/redoc", "/openapi.json", "/admin", "/admin/", "/metrics/", "/v1/models", "/v1/chat/completions"],
)
def test_nothing_else_is_there(admin: httpx.Client, path: str) -> None:
    assert "/metrics" in refused(admin.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/metrics"), ("DELETE", "/admin/config"), ("GET", "/admin/reload"), ("PUT", "/healthz")],
)
def test_other_methods_are_refused(admin: httpx.Client, method: str, path: str) -> None:
    answer = admin.request(method, path)
    refused(answer, 405, "method_not_allowed")
    assert method not in answer.headers["allow"]


def test_admin_is_not_on_the_data_listener(proxy: Proxy) -> None:
    for path in ("/metrics", "/admin/config", "/v1/metrics"):
        answer = get(f"{proxy.url}{path}", headers={"authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 404


async def test_a_defect_is_a_500_without_its_words() -> None:
    class Broken:
        life = Life()

        async def state(self) -> Any:
            raise RuntimeError("a canary in the mine")

    transport = httpx.ASGITransport(application(Broken()), raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        refused(await client.get("/metrics"), 500, "internal_error")
