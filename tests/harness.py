"""A real proxy for tests: `pointsman serve` as a child process on free ports, its log and its metrics readable."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
START = 30.0  # seconds a start may take before the test fails: it waits for an event, it measures nothing
SERVES = re.compile(r"serves (http://\S+)/v1(?:; admin on (http://\S+))?")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]


class Proxy:
    """`with Proxy(config_text, files) as proxy:`. The config is written to a folder of its own, `proxy.folder`."""

    def __init__(
        self,
        config: str,
        files: Mapping[str, str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (),
        module: str = "proxy",
        prefix: tuple[str, ...] = (),
        wait_until_ready: bool = True,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="pointsman-test-")
        self.folder = Path(self._temporary.name)
        self.config = self.folder / "pointsman.yaml"
        self.config.write_text(config)
        for name, text in (files or {}).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self._log_path = self.folder / "stderr.log"
        self._env = {**os.environ, **(env or {})}
        self._args = args
        self._module = module
        self._prefix = prefix  # a command that runs the proxy
        self._is_awaited = wait_until_ready  # else only until it has said where it will serve
        self.process: subprocess.Popen[bytes] | None = None
        self.url = self.admin = ""

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"{self.url}/v1"

    def __enter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self._prefix,
                    sys.executable,
                    "-m",
                    self._module,
                    "serve",
                    "-c",
                    str(self.config),
                    "--port=0",
                    "--admin-port=0",
                    *self._args,
                ],
                stderr=log,
                stdout=log,
                cwd=ROOT,
                env=self._env,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            self._temporary.cleanup()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop(signal.SIGINT)
        self._temporary.cleanup()

    def _wait_until_ready(self) -> None:
        for _ in until(START, "the proxy to be ready"):
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the proxy ended with {self.process.returncode}:\n{self.text}")
            if found := SERVES.search(self.text):
                self.url, self.admin = found[1], found[2] or ""
                if not self._is_awaited or self._is_ready():
                    return

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.admin or self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, with_signal: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Signal the proxy, wait for its end and return its exit code; safe to repeat."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.process.returncode

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --- what it says

    @property
    def text(self) -> str:
        """All of its standard error."""
        return self._log_path.read_text(errors="replace")

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its JSON log lines so far."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]

    def wait_for_log(self, text: str, count: int = 1) -> dict[str, Any]:
        """The newest of its log lines that hold this text, once there are so many."""
        found: list[dict[str, Any]] = []
        for _ in until(20.0, f"{count} log lines with {text!r}"):
            found = [line for line in self.log if text in json.dumps(line)]
            if len(found) >= count:
                break
        return found[-1]

    def requests(self, count: int) -> list[dict[str, Any]]:
        """The access log's lines, once there are at least so many."""
        found: list[dict[str, Any]] = []
        for _ in until(20.0, f"{count} lines in the access log"):
            found = [line for line in self.log if line.get("event") == "request"]
            if len(found) >= count:
                break
        return found

    def metrics(self) -> dict[tuple[str, Labels], float]:
        """All samples of `/metrics`, by name and labels."""
        return samples(self.metrics_text())

    def metrics_text(self) -> str:
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.metrics().items() if found == name and wanted <= has)

    def wait_for_metric(self, name: str, value: float, **labels: str) -> None:
        for _ in until(20.0, f"{name}{labels} to be {value}"):
            if self.metric(name, **labels) == value:
                return


def samples(text: str) -> dict[tuple[str, Labels], float]:
    return {
        (name, frozenset(LABEL.findall(labels or ""))): float(value) for name, labels, value in SAMPLE.findall(text)
    }


def until(seconds: float, what: str) -> Iterator[None]:
    """Poll: yields until the loop is left, fails the test when that takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s for {what}")
