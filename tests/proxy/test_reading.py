"""Reading a request: which policy serves it, what of it is cut, and with which variables."""

from typing import Any

import httpx
import orjson
import pytest

from policies.facts import Facts
from proxy.errors import BadRequest, NotFound
from proxy.keys import ANYONE, Caller
from proxy.reading import parse, read, serving
from proxy.runtime import Snapshot
from routes.route import Ask
from tests.harness import Proxy
from tests.proxy.cli.samples import NEAR_PROMPT, OLD_PROMPT, VARIABLES, ask
from tests.proxy.conftest import KEY

QUESTION = {"role": "user", "content": "Where is my order?"}


def reading(snapshot: Snapshot, system: str | None = None, **changes: Any) -> tuple[Ask, Facts]:
    body = ask(**changes)
    if system is not None:
        body["messages"] = [{"role": "system", "content": system}, QUESTION]
    parsed, extras, _ = parse(orjson.dumps(body))
    service = serving(snapshot, ANYONE, parsed["model"])
    ask_, facts, seen = read(service, ANYONE, {}, parsed, extras, 0.0, "req_1")
    assert seen.result == facts.caller_prompt
    return ask_, facts


def test_what_is_ours_leaves_the_body() -> None:
    body, extras, _ = parse(orjson.dumps(ask(temperature=0.5)))
    assert extras == VARIABLES
    assert body == {"model": "support", "messages": [QUESTION], "temperature": 0.5}


def test_other_apis_need_a_model_but_no_messages() -> None:
    assert parse(b'{"model": "m", "input": "hi"}', "embeddings")[0]["input"] == "hi"
    with pytest.raises(BadRequest, match="'model' is required"):
        parse(b'{"input": "hi"}', "embeddings")


@pytest.mark.parametrize(("asked", "served"), [("support", "support"), ("gpt-4o", "*"), ("*", "*")])
def test_any_other_model_is_the_stars(snapshot: Snapshot, asked: str, served: str) -> None:
    assert serving(snapshot, ANYONE, asked).policy.name == served


def test_a_policy_that_the_key_may_not_use_does_not_exist(snapshot: Snapshot) -> None:
    caller = Caller("k", "t", frozenset({"support"}))
    assert serving(snapshot, caller, "support").policy.name == "support"
    with pytest.raises(NotFound, match="'gpt-4o' does not exist"):
        serving(snapshot, caller, "gpt-4o")


def test_a_known_prompt_is_cut_and_its_variables_are_kept(snapshot: Snapshot) -> None:
    cut, facts = reading(snapshot, OLD_PROMPT, pointsman=None)
    assert cut.messages == [QUESTION]
    assert cut.variables == {"company": "Initech"}
    assert facts.caller_prompt == "exact"
    assert facts.prompt_tokens == len("Where is my order?") / 4


def test_the_bodys_variables_win_over_the_prompts(snapshot: Snapshot) -> None:
    assert reading(snapshot, OLD_PROMPT)[0].variables == {"company": "ACME"}


def test_a_nearly_known_prompt_needs_no_variables(snapshot: Snapshot) -> None:
    near, _ = reading(snapshot, NEAR_PROMPT, pointsman=None)
    assert near.untouched
    assert near.messages[0]["content"] == NEAR_PROMPT
    with pytest.raises(BadRequest, match="variable 'company' is required"):
        reading(snapshot, "Be terse.", pointsman=None)


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, 200), ({"pointsman": {"variables": {"compny": 1}}}, 400), ({"pointsman": 5}, 400), ({"model": "x"}, 404)],
)
def test_nothing_stays_in_flight(proxy: Proxy, changes: dict[str, Any], status: int) -> None:
    """Requests that are refused while they are read are counted out as they were counted in."""
    body = {"model": "support", "messages": [QUESTION], **changes}
    answer = httpx.post(
        f"{proxy.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=30
    )
    assert answer.status_code == status
    proxy.requests(1)
    values = [value for (name, _), value in proxy.metrics().items() if name == "pointsman_inflight_requests"]
    assert values
    assert set(values) == {0.0}
