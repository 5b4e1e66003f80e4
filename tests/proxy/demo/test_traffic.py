from collections import Counter
from itertools import islice

import openai
import pytest

from proxy.demo.traffic import MIXTURE, Ask, asks, first, send
from proxy.standins import StandIn

PROMPT = [{"role": "system", "content": "Answer JSON with the intent."}]


def test_the_mixture_has_the_said_shares() -> None:
    kinds = Counter(ask.kind for ask in islice(asks(1), 5000))
    for kind, share in MIXTURE.items():
        assert kinds[kind] / 50 == pytest.approx(share, abs=2.5)


def test_the_sequence_repeats_with_its_seed() -> None:
    assert list(islice(asks(1), 20)) == list(islice(asks(1), 20))
    assert list(islice(asks(1), 20)) != list(islice(asks(2), 20))


def test_kinds_are_what_they_say() -> None:
    found = {ask.kind: ask for ask in islice(asks(1, PROMPT), 500)}
    assert found["gold"].headers["x-tier"] == "gold"
    assert found["stream"].stream
    assert found["own prompt"].messages[0] == PROMPT[0]
    assert sum(len(m["content"]) for m in found["heavy"].messages) > 4 * 6000
    assert "tools" in found["tools"].options
    assert {ask.options["user"] for ask in islice(asks(1), 500)} >= {"user-00", "user-39"}


@pytest.mark.parametrize("kind", MIXTURE)
async def test_every_kind_is_answered_by_a_strict_model(kind: str) -> None:
    """The tuned stand-in refuses what OpenAI's API does not know: the mixture sends none of it."""
    ask = next(ask for ask in asks(3, PROMPT) if ask.kind == kind)
    async with (
        StandIn("tuned") as tuned,
        openai.AsyncOpenAI(base_url=tuned.base_url, api_key="x", max_retries=0) as client,
    ):
        outcome = await send(client, "support", ask)
        assert (outcome.ok, outcome.status, outcome.kind) == (True, 200, kind)
        assert tuned.journal.last.header("x-tier") == ask.headers["x-tier"]
        assert tuned.journal.last.json["messages"] == ask.messages


@pytest.mark.parametrize(
    ("fault", "status", "problem"),
    [
        ("status=503", 503, "overloaded"),
        ("reset", 0, "Connection error"),
        ("cut&after=2&how=end", 200, "ended early"),
        ("cut&after=2&how=rst", 200, "ReadError"),
        ("error-event&after=2", 200, "server had an error"),
    ],
)
async def test_failures_are_outcomes(fault: str, status: int, problem: str) -> None:
    ask = Ask("stream", first().messages, stream=True)
    async with (
        StandIn("tuned") as tuned,
        openai.AsyncOpenAI(base_url=tuned.base_url, api_key="x", max_retries=0) as client,
    ):
        tuned.then(fault)
        outcome = await send(client, "support", ask)
    assert not outcome.ok
    assert (outcome.status, problem in str(outcome.problem)) == (status, True)


async def test_variables_travel_in_the_bodys_own_object() -> None:
    async with (
        StandIn("tuned") as tuned,
        openai.AsyncOpenAI(base_url=tuned.base_url, api_key="x", max_retries=0) as client,
    ):
        await send(client, "support", first(), {"company": "ACME"})
        assert tuned.journal.last.json["pointsman"] == {"variables": {"company": "ACME"}}
