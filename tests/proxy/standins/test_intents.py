import pytest

from proxy.standins.intents import INTENTS, classify, orders, prose, slip


@pytest.mark.parametrize(
    ("text", "intent", "order"),
    [
        ("Where is my order AC-10423?", "order_status", "AC-10423"),
        ("Please cancel 55512, I want my money back", "cancel_order", "55512"),
        ("Refund me.", "refund", None),
        ("Hello!", "other", None),
    ],
)
def test_classify(text: str, intent: str, order: str | None) -> None:
    assert classify(text) == {"intent": intent, "order_id": order}


def test_orders_are_named_once_in_order() -> None:
    assert orders("AC-10423, then 99999, then AC-10423; room 12") == ["AC-10423", "99999"]


@pytest.mark.parametrize("name", INTENTS)
def test_a_slip_is_always_another_intent(name: str) -> None:
    assert slip(name) != name
    assert slip(name) in INTENTS


def test_prose_is_no_json_and_names_the_order() -> None:
    said = prose({"intent": "order_status", "order_id": "AC-1"})
    assert not said.startswith("{")
    assert "order AC-1" in said
