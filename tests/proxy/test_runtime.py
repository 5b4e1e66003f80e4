"""The snapshot's values: timeouts laid over each other, forwarded models, what is printed."""

from dataclasses import replace

from proxy.runtime import Endpoint, Holder, Model, Server, Timeouts
from proxy.upstreams.base import Target
from tests.proxy.meter.samples import snapshot


def test_a_routes_own_timeouts_go_over_the_others() -> None:
    assert Timeouts(total=30).under({"idle": 5.0}) == Timeouts(total=30, idle=5)
    assert Timeouts(total=30).under({}) == Timeouts(total=30)


def test_a_forwarding_model_asks_for_the_callers_name_at_that_models_price() -> None:
    target = Target("openai", "https://api.openai.com/v1")
    forwarding = Model("request@openai", (Endpoint(target, "", 1.0),), None, forwards=True)
    asking = forwarding.asking("gpt-4o-mini")
    assert (asking.name, asking.forwards) == ("request@openai", False)  # its name is a label: never the caller's
    assert [endpoint.model for endpoint in asking.endpoints] == ["gpt-4o-mini"]
    assert asking.price is not None
    assert forwarding.asking("nobody's-own-model").price is None


def test_a_swap_gives_back_what_running_requests_keep() -> None:
    old, new = snapshot(), snapshot(hash="ba9876543210")
    holder = Holder(old)
    assert holder.swap(new) is old
    assert holder.snapshot is new


def test_what_is_printed_holds_no_secret() -> None:
    server = Server(admin_key="sk-admin-canary")
    target = Target("a", "http://a.test", headers=((b"authorization", b"Bearer sk-canary"),))
    shown = f"{server} {replace(snapshot(), server=server)} {target} {Endpoint(target, 'm', 1.0)}"
    assert "canary" not in shown
