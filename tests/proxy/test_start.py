"""Starting `pointsman serve`: what is said and refused, readiness, and LiteLLM only where it is needed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from proxy.standins.standin import StandIn
from tests.harness import ROOT, Proxy, until
from tests.proxy.callers import ask, asks, get, request

CONFIG = """
version: 1
upstreams:
  tuned: {base_url: "TUNED"}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
policies:
  p: {default: {model: tuned}}
"""
KEYS = "keys: [{name: one, key: sk-one-0123456789}]\n"
WITH_LITELLM = CONFIG.replace(
    "policies:", "  claude: {provider: anthropic, api_key: k-1, price: {input: 1, output: 5}}\npolicies:"
).replace("p: {", "c: {default: {model: claude}}\n  p: {")

# Stands for LiteLLM: says that it is imported, and takes until the file `go` is there.
LITELLM = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
(here / f"imported-{os.getpid()}").touch()
while not (here / "go").exists():
    time.sleep(0.01)

# What the proxy confines: see `litellm_client`.
import sys, types

class Stub:
    create_client = _get_async_http_client = _get_sync_http_client = lambda *_: None

for name in ("litellm.llms", "litellm.llms.custom_httpx", "litellm.llms.custom_httpx.http_handler",
             "litellm.llms.openai", "litellm.llms.openai.common_utils"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].AsyncHTTPHandler = sys.modules[name].HTTPHandler = sys.modules[name].BaseOpenAILLM = Stub
"""
BROKEN = "raise ImportError('no such wheel')\n"


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture
def litellm(tmp_path: Path) -> Path:
    """A folder with the stand-in for LiteLLM; children find it first."""
    (tmp_path / "litellm.py").write_text(LITELLM)
    return tmp_path


def env(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def imports(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("imported-")) for path in folder.glob("imported-*")}


def serve(folder: Path, config: str, *args: str, command: str = "serve") -> subprocess.CompletedProcess[str]:
    """Run the command to its end: for starts that are refused."""
    (folder / "pointsman.yaml").write_text(config.replace("TUNED", "http://127.0.0.1:1/v1"))
    return subprocess.run(
        [sys.executable, "-m", "proxy", command, "-c", str(folder / "pointsman.yaml"), *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
    )


def test_problems_are_told_as_check_tells_them(tmp_path: Path) -> None:
    bad = CONFIG.replace("model: tuned", "model: tunde").replace("version: 1", "version: 1\nserver: {wrokers: 2}")
    refused = serve(tmp_path, bad, "--port=0", "--admin-port=0")
    checked = serve(tmp_path, bad, command="check")
    assert refused.returncode == 1
    for problem in ("unknown-model", "unknown-key"):
        assert problem in refused.stderr
    found = [line for line in checked.stdout.splitlines() if "error[" in line or "^" in line]
    assert len(found) == 4
    assert set(found) <= set(refused.stderr.splitlines())


@pytest.mark.parametrize(("option", "key"), [("--port", "server.listen"), ("--admin-port", "server.admin")])
def test_a_port_in_use_is_named_with_a_way_out(tmp_path: Path, option: str, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"--port": 0, "--admin-port": 0, option: port}
        refused = serve(tmp_path, CONFIG, *(f"{name}={value}" for name, value in options.items()))
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert option in refused.stderr
    assert key in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_address_that_is_not_ours_is_said(tmp_path: Path) -> None:
    refused = serve(tmp_path, CONFIG + KEYS, "--host=192.0.2.1", "--port=0", "--admin-port=0")
    assert refused.returncode == 1
    assert "cannot listen on 192.0.2.1:0: " in refused.stderr


@pytest.mark.parametrize(
    ("config", "args"),
    [
        (CONFIG, ["--host=0.0.0.0"]),
        (CONFIG, ["--host=::"]),
        (CONFIG + "server: {listen: ':0'}\n", []),
    ],
)
def test_no_open_listener_without_keys(tmp_path: Path, config: str, args: list[str]) -> None:
    refused = serve(tmp_path, config, "--port=0", "--admin-port=0", *args)
    assert refused.returncode == 1
    assert "keys" in refused.stderr


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_loopback_has_many_names(tuned: StandIn, host: str) -> None:
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), args=(f"--host={host}",)) as proxy:
        assert ask(proxy).status_code == 200


def test_health_and_readiness_are_on_both_listeners(tuned: StandIn) -> None:
    with Proxy(CONFIG.replace("TUNED", tuned.base_url)) as proxy:
        for url in (proxy.url, proxy.admin):
            for method in ("GET", "HEAD"):
                assert request(method, f"{url}/healthz").status_code == 200
                assert request(method, f"{url}/readyz").status_code == 200
            assert get(f"{url}/healthz").json() == {"status": "alive"}
            assert get(f"{url}/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("workers", [1, 2])
def test_without_an_admin_listener(tuned: StandIn, workers: int) -> None:
    config = CONFIG.replace("TUNED", tuned.base_url) + "server: {admin: null}\n"
    with Proxy(config, args=(f"--workers={workers}",)) as proxy:
        assert proxy.admin == ""
        assert ask(proxy).status_code == 200
        assert get(f"{proxy.url}/metrics").status_code == 404
        listening = [c for c in psutil.Process(proxy.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert len(listening) == 1
        assert proxy.stop() == 0


def test_the_folder_one_starts_in_does_not_matter(tuned: StandIn, tmp_path: Path) -> None:
    """Workers run the supervisor's code, not that of a folder that happens to be called `proxy`."""
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "__init__.py").write_text("raise SystemExit('the wrong proxy')\n")
    (tmp_path / "pointsman.yaml").write_text(CONFIG.replace("TUNED", tuned.base_url))
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from proxy.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--workers=2", "--port=0", "--admin-port=0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    with process:
        said = ""
        while '"ready"' not in said and (line := process.stderr.readline()):
            said += line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert '"ready"' in said, said
    assert process.returncode == 0


# --- LiteLLM


def test_litellm_is_not_imported_without_need(tuned: StandIn, litellm: Path) -> None:
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), env=env(litellm)) as proxy:
        assert ask(proxy).status_code == 200
        assert imports(litellm) == set()


@pytest.mark.parametrize("workers", [1, 2])
def test_litellm_is_imported_before_readiness(tuned: StandIn, litellm: Path, workers: int) -> None:
    """Alive and not ready while it is imported; callers that come early wait."""
    config = WITH_LITELLM.replace("TUNED", tuned.base_url)
    args = (f"--workers={workers}",)
    with Proxy(config, env=env(litellm), args=args, wait_until_ready=False) as proxy:
        for _ in until(20, "all imports"):
            if len(imports(litellm)) == workers:
                break
        assert get(f"{proxy.admin}/readyz").json() == {"status": "starting"}
        assert get(f"{proxy.admin}/readyz").status_code == 503
        assert get(f"{proxy.admin}/healthz").status_code == 200
        (litellm / "go").touch()
        assert ask(proxy).status_code == 200
        for _ in until(20, "readiness"):
            if get(f"{proxy.admin}/readyz").status_code == 200:
                break


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_may_need_litellm_first(tuned: StandIn, litellm: Path, workers: int) -> None:
    """Requests are served while it is imported: in a thread by one worker, in successors for several."""
    config = CONFIG.replace("TUNED", tuned.base_url)
    with Proxy(config, env=env(litellm), args=(f"--workers={workers}",)) as proxy:
        old = ask(proxy).headers["x-pointsman-config"]
        before = {child.pid for child in psutil.Process(proxy.pid).children()}
        proxy.config.write_text(WITH_LITELLM.replace("TUNED", tuned.base_url))
        for _ in until(20, "the import to begin"):
            if imports(litellm):
                break
        assert {answer.headers["x-pointsman-config"] for answer in asks(proxy, 8)} == {old}
        (litellm / "go").touch()
        proxy.wait_for_metric("pointsman_config_reloads_total", 1, result="success")
        assert old not in {answer.headers["x-pointsman-config"] for answer in asks(proxy, 8)}
        after = {child.pid for child in psutil.Process(proxy.pid).children()}
        assert imports(litellm) == ({proxy.pid} if workers == 1 else after - before)
        assert len(imports(litellm)) == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_without_litellm_a_config_that_needs_it_is_refused(tuned: StandIn, litellm: Path, workers: int) -> None:
    (litellm / "litellm.py").write_text(BROKEN)
    config = CONFIG.replace("TUNED", tuned.base_url)
    args = (f"--workers={workers}",)
    with Proxy(config, env=env(litellm), args=args) as proxy:
        proxy.config.write_text(WITH_LITELLM.replace("TUNED", tuned.base_url))
        proxy.wait_for_metric("pointsman_config_reloads_total", 1, result="failure")
        proxy.wait_for_log("pip install 'pointsman[litellm]'")
        assert {answer.status_code for answer in asks(proxy, 4)} == {200}
        assert len(psutil.Process(proxy.pid).children()) == (0 if workers == 1 else 2)
    with pytest.raises(AssertionError, match=r"ended with 1:(?s:.*)no such wheel(?s:.*)pip install"):
        Proxy(WITH_LITELLM.replace("TUNED", tuned.base_url), env=env(litellm), args=args).__enter__()
