"""Token counts of one attempt, in disjoint kinds: their sum is what the vendor counts."""

from collections.abc import Mapping
from typing import Any

from routes.value import value

# OpenAI's own fields: without others there is nothing that a vendor could mean differently
_PLAIN = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
}
MOST = 10**9  # tokens in one call; a larger count is a mistake, and would be a bill of millions

KINDS = ("input", "cached_input", "cache_write", "output", "reasoning")


@value
class Usage:
    """Tokens by kind; never negative."""

    input: int = 0  # prompt less cached less cache_write
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0  # completion less reasoning
    reasoning: int = 0
    clamped: int = 0  # how many of the counts came out negative and were set to 0

    @classmethod
    def from_openai(cls, usage: Mapping[str, Any]) -> "Usage":
        """Read a chat completion's `usage` object (also the Responses API's names); odd values count as 0.

        Vendors differ in what their totals hold, and the branches below say where. Never raises.
        """
        if usage.keys() <= _PLAIN and (plain := cls._plain(usage)) is not None:
            return plain
        prompt_details = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
        output_details = _mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
        prompt = _first(usage, "prompt_tokens", "input_tokens")
        completion = _first(usage, "completion_tokens", "output_tokens")
        # The top-level names are Anthropic's and DeepSeek's; LiteLLM leaves them beside OpenAI's own.
        cached = _first(prompt_details, "cached_tokens") or _first(
            usage, "cache_read_input_tokens", "prompt_cache_hit_tokens"
        )
        written = _first(prompt_details, "cache_write_tokens", "cache_creation_tokens") or _first(
            usage, "cache_creation_input_tokens"
        )
        reasoning = _first(output_details, "reasoning_tokens")

        # Anthropic's own `input_tokens` leaves cached and written tokens out; OpenAI's names include them.
        anthropic = "prompt_tokens" not in usage and "input_tokens_details" not in usage
        fresh = prompt if anthropic else prompt - cached - written
        # xAI counts reasoning beside the completion, as its total shows; everybody else inside.
        beside = reasoning > 0 and _count(usage.get("total_tokens")) == prompt + completion + reasoning
        visible = completion if beside else completion - reasoning

        negative = sum(count < 0 for count in (fresh, cached, written, visible, reasoning))
        if not negative:
            return cls(fresh, cached, written, visible, reasoning)
        return cls(max(0, fresh), max(0, cached), max(0, written), max(0, visible), max(0, reasoning), negative)

    @classmethod
    def _plain(cls, usage: Mapping[str, Any]) -> "Usage | None":
        """Read OpenAI's own fields with whole numbers that add up, which is nearly always; None for the rest."""
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        inside, outside = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
        if type(inside) is not dict or type(outside) is not dict or "cache_creation_tokens" in inside:
            return None
        cached, written = inside.get("cached_tokens") or 0, inside.get("cache_write_tokens") or 0
        reasoning = outside.get("reasoning_tokens") or 0
        if not (type(prompt) is type(completion) is type(cached) is type(written) is type(reasoning) is int):
            return None
        fresh, visible = prompt - cached - written, completion - reasoning
        if min(fresh, visible, cached, written, reasoning) < 0 or prompt >= MOST or completion >= MOST:
            return None
        if reasoning and usage.get("total_tokens") == prompt + completion + reasoning:
            return None
        return cls(fresh, cached, written, visible, reasoning)

    def filled(self, guess: "Usage") -> "Usage":
        """These counts, and those of `guess` for a side (prompt, completion) that has none."""
        prompt, completion = self if self.prompt else guess, self if self.completion else guess
        return Usage(
            prompt.input,
            prompt.cached_input,
            prompt.cache_write,
            completion.output,
            completion.reasoning,
            self.clamped,
        )

    @property
    def prompt(self) -> int:
        return self.input + self.cached_input + self.cache_write

    @property
    def completion(self) -> int:
        return self.output + self.reasoning


NO_USAGE = Usage()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def _first(fields: Mapping[str, Any], *names: str) -> int:
    """The first of these fields that is there and not null (vLLM writes nulls), as a count."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            return _count(value)
    return 0


def _count(value: Any) -> int:
    """A token count; 0 for text, lists, true, fractions, infinities and what no model could have counted."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or abs(value) >= MOST:
        return 0
    return value
