"""Reading what vendors call usage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter.usage import NO_USAGE, Usage

OPENAI = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 250, "accepted_prediction_tokens": 0},
}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(OPENAI, Usage(76, 1024, 100, 50, 250), id="openai chat"),
        pytest.param(
            {
                "input_tokens": 1200,
                "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
                "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 1500,
            },
            Usage(176, 1024, 0, 300, 0),
            id="responses",
        ),
        pytest.param(
            {
                "prompt_tokens": 1200,
                "completion_tokens": 7,
                "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": 900,
                "prompt_tokens_details": None,
            },
            Usage(100, 900, 200, 7, 0),
            id="anthropic through litellm: the total holds them",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": 900,
                "output_tokens": 7,
            },
            Usage(100, 900, 200, 7, 0),
            id="anthropic's own: input_tokens leaves them out",
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": None},
            Usage(9, 0, 0, 3, 0),
            id="vllm's null details",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
                "completion_tokens": 1,
            },
            Usage(36, 64, 0, 1, 0),
            id="deepseek",
        ),
        pytest.param(
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 0, 0, 9, 94),
            id="xai counts reasoning beside the completion",
        ),
        pytest.param({"prompt_tokens": 5, "total_tokens": 5}, Usage(5), id="embeddings"),
        pytest.param({}, NO_USAGE, id="empty"),
        pytest.param({"prompt_tokens": 12.0, "completion_tokens": 3.0}, Usage(12, 0, 0, 3), id="whole floats"),
    ],
)
def test_each_vendors_usage_becomes_disjoint_kinds(usage: dict[str, Any], expected: Usage) -> None:
    assert Usage.from_openai(usage) == expected


@pytest.mark.parametrize("odd", ["12", True, [1], {"a": 1}, 1.5, float("nan"), float("inf"), 10**30, -(10**30)])
def test_what_is_no_count_counts_as_nothing(odd: Any) -> None:
    usage = {"prompt_tokens": odd, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": odd}}
    assert Usage.from_openai(usage) == Usage(output=3)


@pytest.mark.parametrize("odd", ["x", 3, [], True])
def test_details_that_are_no_object_are_ignored(odd: Any) -> None:
    assert Usage.from_openai({**OPENAI, "prompt_tokens_details": odd}) == Usage(1200, 0, 0, 50, 250)


def test_what_comes_out_negative_is_set_to_0_and_counted() -> None:
    """More cached than the prompt has, more reasoning than completion, and a negative count: three."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": -1},
        "completion_tokens_details": {"reasoning_tokens": 9},
    }
    assert Usage.from_openai(usage) == Usage(0, 40, 0, 0, 9, clamped=3)


odd = st.sampled_from([None, True, -3, 7, 2**70, -0.5, 4.0, float("nan"), float("-inf"), "9", [], [1], {}])
details = st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), odd)
names = [*OPENAI, "input_tokens", "output_tokens", "input_tokens_details", "cache_read_input_tokens"]


@given(st.dictionaries(st.sampled_from(names), odd | details))
def test_no_usage_object_fails_or_counts_below_0(usage: dict[str, Any]) -> None:
    read = Usage.from_openai(usage)
    assert min(read.input, read.cached_input, read.cache_write, read.output, read.reasoning, read.clamped) >= 0


counts = st.integers(0, 10**7)


@given(counts, counts, counts, counts, counts)
def test_the_kinds_add_up_to_what_the_vendor_counts(
    new: int, cached: int, written: int, said: int, thought: int
) -> None:
    prompt, completion = new + cached + written, said + thought
    read = Usage.from_openai(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
    )
    assert read == Usage(new, cached, written, said, thought)
    assert (read.prompt, read.completion) == (prompt, completion)
