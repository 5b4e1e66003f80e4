"""The header lines of answers: what was decided, what answered, and what it cost."""

import pytest

from policies.decision import Decision
from proxy.account import Account
from proxy.heads import Heads, visible
from proxy.meter.baseline import Baseline, Learned
from proxy.runtime import Snapshot


def lines(head: bytes) -> dict[str, str]:
    assert head.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in head.decode("ascii").splitlines())


DECISION = Decision("support", "default", "tuned", "tuned", 0.25)
NAMED = {
    "x-pointsman-policy": "support",
    "x-pointsman-rule": "default",
    "x-pointsman-route": "tuned",
    "x-pointsman-served-by": "strong",
    "x-pointsman-model": "strong",
    "x-pointsman-prompt": "support@2",
    "x-pointsman-config": "0123456789ab",
}


def account(snapshot: Snapshot, *tokens: int) -> Account:
    """One whose attempts were answered with so many output tokens, at 10 US$ a million."""
    found = Account(snapshot, "chat", None)
    found.service, found.variables = snapshot.services["support"], {"company": "ACME"}
    route, model = found.service.routes["strong"], snapshot.models["strong"]
    for count in tokens:
        trial = found.open_trial(route, "primary", model, model.endpoints[0])
        trial.usage = {"prompt_tokens": 0, "completion_tokens": count}
        found.close_trial(trial, "ok", Learned())
    return found


def test_a_stream_is_told_what_is_known_before_it_begins(snapshot: Snapshot) -> None:
    heads, strong = Heads("0123456789ab"), snapshot.services["support"].routes["strong"]
    found = lines(heads.stream("req_1", DECISION, strong, 2))
    assert NAMED.items() <= found.items()
    assert found["content-type"] == "text/event-stream; charset=utf-8"
    assert (found["x-request-id"], found["x-pointsman-attempts"]) == ("req_1", "2")
    assert not {name for name in found if "cost" in name}


def test_a_whole_answer_is_told_what_all_attempts_cost_and_the_baseline(snapshot: Snapshot) -> None:
    heads, strong = Heads("0123456789ab"), snapshot.services["support"].routes["strong"]
    asked = account(snapshot, 100, 25)
    assert "x-pointsman-baseline-cost-usd" not in lines(heads.whole(asked, DECISION, strong))
    asked.baseline = Baseline(1_000_000, 2_000_000, "estimated")
    found = lines(heads.whole(asked, DECISION, strong))
    assert NAMED.items() <= found.items()
    assert found["x-request-id"] == asked.id
    assert found["x-pointsman-attempts"] == "2"
    assert found["x-pointsman-cost-usd"] == "0.00125"
    assert found["x-pointsman-baseline-cost-usd"] == "0.000001"


def test_no_prompt_is_named_where_none_was_added(snapshot: Snapshot) -> None:
    strong = snapshot.services["support"].routes["strong"]
    near = Decision("support", "caller-prompt-near", "strong", untouched=True)
    heads = Heads("0123456789ab")
    assert lines(heads.named(DECISION, strong))["x-pointsman-prompt"] == "support@2"
    assert lines(heads.named(near, strong))["x-pointsman-prompt"] == "none"


@pytest.mark.parametrize(
    ("name", "value"), [("gold", b"gold"), ("größe", b"gr%C3%B6%C3%9Fe"), ("a\r\nb", b"a%0D%0Ab"), ("50%", b"50%")]
)
def test_a_name_cannot_leave_its_header(name: str, value: bytes) -> None:
    assert visible(name) == value
