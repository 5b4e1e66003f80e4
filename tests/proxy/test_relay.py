"""Which endpoint is asked, and with what body. Whole attempts are in `test_chat` and `test_faults`."""

import random
from collections import Counter

import orjson
import pytest

from proxy.errors import BadRequest
from proxy.relay import encoded, pick
from proxy.runtime import Endpoint
from proxy.upstreams.base import Target
from routes.params import DIALECTS, Params

TARGET = Target("a", "http://127.0.0.1:1")


def endpoint(name: str, weight: float = 1.0, *dialect: Params) -> Endpoint:
    return Endpoint(TARGET, name, weight, dialect)


def test_endpoints_are_drawn_by_their_weights() -> None:
    endpoints = (endpoint("a", 0.8), endpoint("b", 0.2))
    state = random.getstate()
    try:
        random.seed(1)
        drawn = Counter(pick(endpoints).model for _ in range(10_000))
    finally:
        random.setstate(state)
    assert 7_800 < drawn["a"] < 8_200
    assert drawn.total() == drawn["a"] + drawn["b"]


def test_weights_that_sum_to_a_little_less_than_one_leave_nobody_without() -> None:
    """As floats do: a point behind the last edge is the last endpoint's."""
    last = (endpoint("a", 0.0), endpoint("b", 0.0))
    assert pick(last).model == "b"
    assert pick((endpoint("only", 0.0),)).model == "only"


def test_the_body_has_the_endpoints_model_and_dialect() -> None:
    body = {"messages": [], "max_tokens": 5, "temperature": 0.5}
    sent = orjson.loads(encoded(dict(body), endpoint("gpt-x", 1.0, DIALECTS["openai"])))
    assert sent == {"messages": [], "max_completion_tokens": 5, "temperature": 0.5, "model": "gpt-x"}
    assert orjson.loads(encoded(dict(body), endpoint("gpt-x"))) == {**body, "model": "gpt-x"}


@pytest.mark.parametrize("value", [2**65, "\ud800"])
def test_what_json_cannot_say_is_the_callers_fault(value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        encoded({"messages": [], "x": value}, endpoint("m"))
    assert refused.value.code == "invalid_json"
