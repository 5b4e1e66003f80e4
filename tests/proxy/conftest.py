"""A proxy between real clients and the stand-in models, shared by the tests of a module; and a compiled config."""

from collections.abc import Iterator

import pytest

from proxy.config.load import load
from proxy.runtime import Snapshot
from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.cli import samples

KEY = "sk-team-0123456789abcdef"

CONFIG = """
version: 1
server: {{hold: 1s, keep_alive_comment: 100ms, max_body: 1MiB}}
keys:
  - {{name: team, key: sk-team-0123456789abcdef, tenant: acme}}
retries: {{pause: 0s}}
timeouts: {{connect: 1s, first_content: 2s, idle: 1s, idle_content: 1500ms, total: 20s}}
upstreams:
  strong: {{base_url: "{strong}", api_key: sk-upstream-strong-canary, dialect: openai}}
  tuned: {{base_url: "{tuned}", api_key: sk-upstream-tuned-canary}}
  dead: {{base_url: "http://127.0.0.1:1/v1"}}
models:
  strong: {{at: strong, price: {{input: 2.5, cached_input: 1.25, output: 10}}}}
  tuned: {{at: tuned, price: {{input: 0.1, output: 0.4}}}}
  dead: {{at: dead, price: {{input: 0.1, output: 0.4}}}}
prompts:
  support: prompts/support/
policies:
  support:
    baseline: strong
    routes:
      strong: {{model: strong, prompt: support@1}}
      tuned: {{model: tuned, fallback: strong}}
      alone: {{model: tuned}}
      dead: {{model: dead, fallback: strong}}
      lost: {{model: dead}}
    rules:
      - {{name: gold, when: {{header.x-tier: gold}}, route: strong}}
      - {{name: alone, when: {{header.x-tier: alone}}, route: alone}}
      - {{name: dead, when: {{header.x-tier: dead}}, route: dead}}
      - {{name: lost, when: {{header.x-tier: lost}}, route: lost}}
    default: tuned
  plain: {{routes: {{strong: {{model: strong}}}}, default: strong}}
"""

PROMPT = """
variables: {company: {default: ACME}}
messages:
  - system: |
      You are the support assistant of {{ company }}. Classify the request and answer with its JSON intent only.
  - input
"""


@pytest.fixture(scope="module")
def strong() -> Iterator[StandIn]:
    with StandIn("strong", key="sk-upstream-strong-canary") as standin:
        yield standin


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned", key="sk-upstream-tuned-canary") as standin:
        yield standin


@pytest.fixture(scope="module")
def proxy(strong: StandIn, tuned: StandIn) -> Iterator[Proxy]:
    config = CONFIG.format(strong=strong.base_url, tuned=tuned.base_url)
    with Proxy(config, {"prompts/support/1.yaml": PROMPT}) as running:
        yield running


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The config with something of everything, compiled: nothing is served."""
    found = load(samples.write(tmp_path_factory.mktemp("config"))).snapshot
    assert found is not None
    return found
