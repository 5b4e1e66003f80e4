import orjson
import pytest

from proxy.errors import BadRequest
from proxy.runtime import Endpoint
from proxy.sending import encoded
from proxy.upstreams.base import Target
from routes.params import Params

TARGET = Target("server", "http://127.0.0.1:1")
OTHER = Endpoint(TARGET, "m-1", 1.0, dialect=(Params(rename={"max_tokens": "max_completion_tokens"}),))


def test_an_endpoint_gets_its_own_name_and_dialect() -> None:
    body = {"model": "asked", "max_tokens": 5, "messages": []}
    assert orjson.loads(encoded(body, OTHER)) == {"model": "m-1", "max_completion_tokens": 5, "messages": []}


def test_the_next_call_begins_with_the_same_body() -> None:
    body = {"max_tokens": 5}
    encoded(body, OTHER)
    assert body == {"max_tokens": 5}


def test_what_json_cannot_say_is_the_callers_mistake() -> None:
    with pytest.raises(BadRequest):
        encoded({"seed": 2**70}, OTHER)
