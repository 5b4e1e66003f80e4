"""With what body an endpoint is asked. Whole attempts are in `test_chat`, `test_faults` and `test_pools`."""

import orjson
import pytest

from proxy.errors import BadRequest
from proxy.relay import encoded
from proxy.runtime import Endpoint
from proxy.upstreams.base import Target
from routes.params import DIALECTS, Params

TARGET = Target("a", "http://127.0.0.1:1")


def endpoint(name: str, weight: float = 1.0, *dialect: Params) -> Endpoint:
    return Endpoint(TARGET, name, weight, dialect)


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
