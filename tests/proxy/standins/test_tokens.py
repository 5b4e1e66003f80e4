import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.standins.tokens import count, message_pieces, pieces, prompt_pieces


@given(st.text())
def test_splitting_loses_nothing(text: str) -> None:
    assert "".join(pieces(text)) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("order", 1), ("a parcel", 2), ("tracking", 2), ('{"a":1}', 7), ("a  b", 3), ("ends \n", 2)],
)
def test_tokens_by_hand(text: str, tokens: int) -> None:
    assert count(text) == tokens


def test_message_costs_four_tokens_besides_its_text() -> None:
    assert len(message_pieces({"role": "user", "content": "a parcel"})) == 4 + 2
    parts = [{"type": "text", "text": "a parcel"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert len(message_pieces({"role": "user", "content": parts})) == 4 + 2 + 85


def test_prompt_costs_three_tokens_besides_messages_and_tools() -> None:
    messages = [{"role": "user", "content": "hi"}]
    tools = [{"type": "function"}]
    assert len(prompt_pieces({"messages": messages})) == 4 + 1 + 3
    assert len(prompt_pieces({"messages": messages, "tools": tools})) == 4 + 1 + 3 + count('[{"type":"function"}]')
