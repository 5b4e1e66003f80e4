"""A real Prometheus on loopback, run with the shipped config: only the target and the pace are the test's."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **params: str | float) -> Any:
        query = urllib.parse.urlencode(params)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def instant(self, expr: str) -> list[dict[str, Any]]:
        """Every series' newest value: `{"metric": labels, "value": [time, text]}`."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=expr)["result"]
        return result

    def range(self, expr: str, *, seconds: float, step: float) -> list[dict[str, Any]]:
        """Every series over the last `seconds`: `{"metric": labels, "values": [[time, text], ...]}`."""
        now = time.time()
        result: list[dict[str, Any]] = self.get(
            "/api/v1/query_range", query=expr, start=now - seconds, end=now, step=step
        )["result"]
        return result

    def has_scraped(self, times: int) -> bool:
        return bool(self.instant(f'count_over_time(up{{job="pointsman"}}[5m]) >= {times} and on () up == 1'))


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
    """Ask again and again: Prometheus tells nobody when it has scraped."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def shipped_config(target: str) -> dict[str, Any]:
    """deploy/prometheus/prometheus.yml, scraping `target` each second."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    return config


@contextmanager
def scraping(target: str, directory: Path) -> Iterator[Prometheus]:
    """Prometheus with the shipped rules, scraping `host:port`; its data goes to `directory`."""
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(shipped_config(target)))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}", "--log.level=warn"], stdout=log, stderr=log
        )
    prometheus = Prometheus(f"http://{address}")
    try:
        wait_until(lambda: is_ready(process, prometheus, directory / "log"), "Prometheus ready")
        yield prometheus
    finally:
        process.terminate()
        process.wait(10)


def is_ready(process: "subprocess.Popen[bytes]", prometheus: Prometheus, log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"Prometheus stopped: {log.read_text()}")
    try:
        with urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
