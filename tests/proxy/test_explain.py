"""What is explained is what is served: the same decisions and the same errors, over a real proxy."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.load import load
from proxy.errors import PointsmanError
from proxy.explain import Situation, caller_of, explain
from proxy.runtime import Snapshot
from proxy.standins.standin import StandIn
from tests.harness import Proxy
from tests.proxy.cli.samples import CONFIG, NEAR_PROMPT, OLD_PROMPT, PROMPTS


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Proxy, Snapshot]]:
    with StandIn("strong") as upstream:
        config = CONFIG.replace("${UPSTREAM:-http://127.0.0.1:9/v1}", upstream.base_url)
        with Proxy(config, PROMPTS) as proxy:
            snapshot = load(proxy.config).snapshot
            assert snapshot is not None
            yield proxy, snapshot


WORDS = st.sampled_from(["hi", "Where is my order?", "x" * 30_000, ""])
BODIES = st.builds(
    lambda model, systems, text, fields, variables: {
        "model": model,
        "messages": [{"role": "system", "content": system} for system in systems]
        + [{"role": "user", "content": text}],
        **fields,
        **({"pointsman": {"variables": variables}} if variables is not None else {}),
    },
    st.sampled_from(["support", "support", "support", "gpt-4o", "*"]),
    st.lists(st.sampled_from([OLD_PROMPT, NEAR_PROMPT, "Be terse.", OLD_PROMPT + "\n\nAnd be terse."]), max_size=1),
    WORDS,
    st.fixed_dictionaries(
        {},
        optional={
            "user": st.sampled_from(["ada", "bob", "carol", "dave", "eve", "u1"]),
            "tools": st.just([{"type": "function", "function": {"name": "refund", "parameters": {}}}]),
            "max_tokens": st.sampled_from([1, 100, "many"]),
            "stream": st.booleans(),
        },
    ),
    st.sampled_from([None, {"company": "ACME"}, {"company": "ACME", "tone": "dry"}, {"compny": "ACME"}]),
)
HEADERS = st.fixed_dictionaries(
    {"authorization": st.sampled_from(["Bearer sk-search-0123456789", "Bearer sk-night-0123456789", "Bearer no"])},
    optional={
        "x-tier": st.sampled_from(["gold", "silver"]),
        "x-canary-token": st.sampled_from(["sesame", "open"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(body=BODIES, headers=HEADERS)
def test_what_is_explained_is_what_is_served(
    served: tuple[Proxy, Snapshot], body: dict[str, Any], headers: dict[str, str]
) -> None:
    """The same policy, rule, route, model and prompt as in the answer's headers; or the same error."""
    proxy, snapshot = served
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=body, headers=headers, timeout=30)
    told = explained(snapshot, body, headers, answer.headers["x-request-id"])
    if "error" in told:
        assert answer.json() == told
        return
    assert answer.status_code == 200, answer.text
    for name in ("policy", "rule", "route", "model", "prompt"):
        assert told[name] == answer.headers[f"x-pointsman-{name}"]
    assert answer.headers["x-pointsman-attempts"] == "1"


def explained(snapshot: Snapshot, body: dict[str, Any], headers: dict[str, str], request_id: str) -> dict[str, Any]:
    """The explanation, or the error's body, of a request that was served just now under this id."""
    raw = {name.encode(): text.encode() for name, text in headers.items()}
    try:
        situation = Situation(time.time(), raw, caller_of(snapshot, raw), request_id)
        return explain(snapshot, json.dumps(body).encode(), situation).as_dict()
    except PointsmanError as error:
        return error.body()
