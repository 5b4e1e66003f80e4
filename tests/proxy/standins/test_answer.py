import json
from dataclasses import replace
from typing import Any

import pytest

from proxy.standins.answer import Answer, Choice, compose, draw
from proxy.standins.persona import STRONG, TUNED, Persona
from proxy.standins.request import read
from tests.proxy.standins.wire import CONTENT, TASK

TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}}},
}
PLAIN = [TASK[1]]
STEADY = replace(STRONG, reasons=0)


def answer(persona: Persona = STEADY, seed: int = 0, length: int | None = None, **fields: Any) -> Answer:
    return compose(read({"model": "m", "messages": TASK, **fields}, persona), persona, seed, 100, 0, length)


def content(found: Answer) -> str:
    return "".join(found.choices[0].content)


def test_the_strong_model_needs_the_prompt() -> None:
    assert content(answer()) == CONTENT
    assert content(answer(messages=PLAIN)).startswith("Thanks for reaching out!")


def test_the_tuned_model_does_not() -> None:
    assert content(answer(replace(TUNED, slips=0), messages=PLAIN)) == CONTENT


def test_a_slip_gives_another_intent_and_the_same_order() -> None:
    said = json.loads(content(answer(replace(TUNED, slips=1))))
    assert said == {"intent": "other", "order_id": "AC-10423"}


def test_slips_come_as_often_as_said() -> None:
    drawn = [draw(1, "tuned", "slips", str(n)) < TUNED.slips for n in range(5000)]
    assert 0.02 < sum(drawn) / len(drawn) < 0.04


def test_a_limit_cuts_at_the_token() -> None:
    found = answer(max_completion_tokens=3)
    assert content(found) == '{"intent'
    assert found.choices[0].finish == "length"
    assert found.completion == 3


def test_reasoning_counts_within_the_limit_and_before_the_content() -> None:
    reasoning = replace(STRONG, reasons=1)
    free = answer(reasoning)
    assert free.reasoning in (64, 128, 192)
    assert free.completion == free.reasoning + free.choices[0].tokens
    tight = answer(reasoning, max_completion_tokens=10)
    assert (tight.reasoning, tight.completion, tight.choices[0].finish) == (10, 10, "length")


def test_stop_ends_the_text_before_it() -> None:
    found = answer(stop=["_status", "zzz"])
    assert content(found) == '{"intent":"order'
    assert found.choices[0].finish == "stop"


def test_n_answers_cost_n_times_the_tokens() -> None:
    assert answer(n=3).completion == 3 * answer().completion


def test_tools_are_called_once_for_each_order() -> None:
    messages = [{"role": "user", "content": "Where are 10001 and 10002?"}]
    found = answer(messages=messages, tools=[TOOL]).choices[0]
    assert [json.loads("".join(call.arguments)) for call in found.calls] == [
        {"order_id": "10001"},
        {"order_id": "10002"},
    ]
    assert found.finish == "tool_calls"
    assert len({call.id for call in found.calls}) == 2
    alone = answer(messages=messages, tools=[TOOL], parallel_tool_calls=False).choices[0]
    assert len(alone.calls) == 1


def test_a_tools_answer_is_not_answered_with_another_call() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]}
    messages = [*TASK, call, {"role": "tool", "tool_call_id": "x", "content": "arrived"}]
    assert answer(messages=messages, tools=[TOOL]).choices[0].calls == ()


def test_a_schema_is_kept_to() -> None:
    schema = {"type": "object", "properties": {"intent": {"type": "string"}, "sure": {"type": "boolean"}}}
    found = answer(
        messages=PLAIN, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )
    assert json.loads(content(found)) == {"intent": "order_status", "sure": True}


def test_so_many_tokens_when_asked() -> None:
    assert answer(length=200).completion == 200


def test_usage_adds_up() -> None:
    usage = Answer((Choice(("a", "b")),), prompt=1500, cached=1280, reasoning=64).usage()
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1500, 66, 1566)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 1280
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 64


@pytest.mark.parametrize("persona", [STRONG, TUNED])
def test_the_same_request_has_the_same_answer(persona: Persona) -> None:
    assert answer(persona, seed=3) == answer(persona, seed=3)
