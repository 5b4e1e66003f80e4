"""The proxies under measurement: how each is configured, started and asked. All of them reach the same origins."""

import os
import site
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.bench import modelserver
from tests.bench.process import SUBJECT_CORE, Process
from tests.ports import free_ports

Workload = Literal["json", "burst", "paced", "idle"]
WORKLOADS: tuple[Workload, ...] = ("json", "burst", "paced", "idle")
KEY = "sk-bench-0123456789abcdef"
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Origins:
    """Where the model servers listen."""

    ports: dict[Workload, int]
    folder: Path  # for config files
    files: int  # how many each process may open

    def url(self, workload: Workload) -> str:
        return f"http://127.0.0.1:{self.ports[workload]}/v1"


@dataclass(frozen=True)
class Address:
    """Where a subject takes one workload, and the model's name there."""

    port: int
    model: str
    path: str = CHAT


@dataclass
class Subject:
    name: str
    process: Process
    addresses: dict[Workload, Address]
    ready_s: float
    share: float = 1.0  # of the requests of a round: a slow peer gets fewer, so that a run stays short
    rewritten: bool = False  # it rebuilds answers, so that their bytes are its own
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})


Starter = Callable[[Origins], Subject]


def nginx(origins: Origins) -> Subject:
    ports: dict[Workload, int] = dict(zip(WORKLOADS, free_ports(len(WORKLOADS)), strict=True))
    routes = {port: origins.ports[workload] for workload, port in ports.items()}
    streams = {origins.ports[workload] for workload in WORKLOADS if workload != "json"}
    command = modelserver.reverse_proxy(origins.folder, origins.files, routes, streams)
    process = Process(command, SUBJECT_CORE)
    ready = process.wait_ready(f"http://127.0.0.1:{ports['json']}{modelserver.READY}", 10)
    return Subject("nginx", process, {work: Address(port, work) for work, port in ports.items()}, ready)


RULES = 50
PROMPT = """\
variables:
  tone: {default: friendly}
messages:
  - system: |
      You are the support assistant of a shop for garden tools. Be {{ tone }}, brief and exact. Answer only from what
      the customer's order shows; when it does not show the answer, say so and offer to ask a colleague. Never promise
      a refund, a date or a discount. Ask for the order number when it is missing. Answer in the customer's language.
"""


def _rule(number: int) -> str:
    """A rule of the kinds that policies have, which no request of the bench matches: all of them are looked at."""
    when = (
        f"{{header.x-tier: tier-{number}}}",
        f"{{header.x-team: team-{number}, prompt_tokens: {{gt: 4000}}}}",
        f"{{prompt_tokens: {{gt: {100_000 - 1_000 * number}}}}}",
    )[number % 3]
    return f"      - {{name: rule-{number}, when: {when}, route: strong}}"


def _policy(workload: Workload) -> str:
    rules = "\n".join(_rule(number) for number in range(RULES))
    return f"""
  {workload}:
    baseline: strong
    routes:
      strong: {{model: {workload}-strong, prompt: support@1}}
      tuned: {{model: {workload}-tuned, prompt: support@1, fallback: strong}}
    rules:
{rules}
    default:
      split: {{tuned: 50%, strong: rest}}
      sticky: user
"""


def pointsman_config(origins: Origins, port: int, admin_port: int) -> str:
    """What users switch on: a key, prices, a prompt, 50 rules, a sticky split, a fallback, a baseline."""
    # Room for the streams that are opened and then keep silent; the defaults would end them.
    room = f"max_connections: {origins.files}, timeouts: {{idle: 120}}"
    upstreams = "\n".join(f"  {work}: {{base_url: {origins.url(work)}, {room}}}" for work in WORKLOADS)
    models = "\n".join(
        f"  {work}-{kind}: {{at: {work}, model: stand-in-{kind}, price: {{input: {price}, output: {4 * price}}}}}"
        for work in WORKLOADS
        for kind, price in (("strong", 2.0), ("tuned", 0.1))
    )
    return f"""\
version: 1
server:
  listen: 127.0.0.1:{port}
  admin: 127.0.0.1:{admin_port}
keys:
  - {{name: bench, key: {KEY}, tenant: bench}}
upstreams:
{upstreams}
models:
{models}
prompts:
  support: prompts/support/
policies:{"".join(_policy(work) for work in WORKLOADS)}"""


def interpreter() -> str:
    """The Python that Pointsman is measured on: the system's of this version, where there is one.

    Distributions and the image have theirs optimised by profile and at link time; one that was built here for
    development (by pyenv, say) is not, unless somebody asked for it: it takes a fifth more instructions.
    """
    systems = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    return str(systems) if systems.exists() else sys.executable


def pointsman(origins: Origins) -> Subject:
    port, admin_port = free_ports(2)
    config = origins.folder / "pointsman.yaml"
    config.write_text(pointsman_config(origins, port, admin_port))
    prompts = origins.folder / "prompts" / "support"
    prompts.mkdir(parents=True, exist_ok=True)
    (prompts / "1.yaml").write_text(PROMPT)
    # What it logs goes to /dev/null with the rest that it says: see Process.
    command = [interpreter(), "-m", "proxy", "serve", "-c", str(config)]
    command += ["--port", str(port), "--admin-port", str(admin_port)]
    process = Process(command, SUBJECT_CORE, env={"PYTHONPATH": os.pathsep.join(site.getsitepackages())})
    ready = process.wait_ready(f"http://127.0.0.1:{admin_port}/readyz", 20)
    return Subject("pointsman", process, {work: Address(port, work) for work in WORKLOADS}, ready)
