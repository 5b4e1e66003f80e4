"""The whole chain: clients, proxy, stand-in models, Prometheus with the shipped rules, every panel's query."""

import asyncio
import re
from collections.abc import Iterator

import openai
import pytest

from proxy.demo.traffic import asks, send
from proxy.standins.behaviour import Behaviour
from proxy.standins.standin import StandIn
from tests.deploy import contract
from tests.deploy.panels import all_faults
from tests.deploy.prometheus import Prometheus, scraping, wait_until
from tests.harness import ROOT, Proxy

EXAMPLES = ROOT / "policies" / "examples"

# The demo's config, a model nobody gave a price, and one with an endpoint that is down: their panels must show it.
MORE = """
  guess: {routes: {guess: {model: priceless}}, default: guess}
  shaky: {routes: {shaky: {model: pooled}}, default: shaky}
"""
MODELS = """models:
  priceless: {at: tuned-server, model: in-house-7b}
  pooled: {endpoints: [{at: strong-server, model: in-house-7b}, {at: down-server, model: in-house-7b}]}
"""


def config() -> str:
    text = (EXAMPLES / "demo.yaml").read_text()
    text = text.replace("upstreams:\n", 'upstreams:\n  down-server: {base_url: "${DOWN_URL}"}\n', 1)
    text = text.replace("models:\n", MODELS, 1)
    text = text.replace("prompts/support/", f"{EXAMPLES}/prompts/support/", 1)
    policies = re.search(r"^policies:\n(?:  .*\n|\n)*", text, re.MULTILINE)
    assert policies is not None
    return text.replace(policies[0], policies[0].rstrip("\n") + MORE)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Prometheus]]:
    with StandIn("strong") as strong, StandIn("tuned") as tuned, StandIn("tuned") as down:
        down.every = (1, Behaviour.parse("status=503"))
        tuned.every = (6, Behaviour.parse("status=503"))  # so that there are fallbacks
        env = {"STRONG_URL": strong.base_url, "TUNED_URL": tuned.base_url, "DOWN_URL": down.base_url}
        with (
            Proxy(config(), env=env) as proxy,
            scraping(proxy.admin.removeprefix("http://"), tmp_path_factory.mktemp("prometheus")) as prometheus,
        ):
            asyncio.run(traffic(proxy, strong, prometheus))
            yield proxy, prometheus


async def traffic(proxy: Proxy, strong: StandIn, prometheus: Prometheus) -> None:
    """The demo's callers, for as long as Prometheus needs to see all kinds of series move."""
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="demo", max_retries=0) as client:
        known = None
        for _ in range(400):
            for ask in [each for each, _ in zip(asks(1, known), range(10), strict=False)]:
                await send(client, "support", ask)
            for ask in [each for each, _ in zip(asks(2, known), range(2), strict=False)]:
                await send(client, "guess", ask)
                await send(client, "shaky", ask)
            known = strong.journal.chats()[0].json["messages"][:-1] if known is None else known
            await asyncio.sleep(0.2)
            if await asyncio.to_thread(all_panels_answer, prometheus):
                return


def all_panels_answer(prometheus: Prometheus) -> bool:
    return not all_faults(prometheus)


@pytest.mark.timeout(240)
@pytest.mark.needs("prometheus")
class TestLive:
    def test_every_panel_has_finite_answers(self, live: tuple[Proxy, Prometheus]) -> None:
        """Against a proxy under load, not an exporter that imitates it."""
        _, prometheus = live
        assert all_faults(prometheus) == []

    def test_metrics_keep_the_contract(self, live: tuple[Proxy, Prometheus]) -> None:
        proxy, _ = live
        text = "\n".join(sorted(proxy.metrics_text().splitlines()))
        assert list(contract.breaches(proxy.metrics_text())) == [], text

    def test_the_shipped_rules_are_healthy(self, live: tuple[Proxy, Prometheus]) -> None:
        _, prometheus = live

        def healthy() -> bool:
            groups = prometheus.get("/api/v1/rules")["groups"]
            return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

        wait_until(healthy, "all rules evaluated")
