"""Token counts of one attempt, in disjoint kinds: their sum is what the vendor counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("input", "cached_input", "cache_write", "output", "reasoning")


@dataclass(frozen=True, slots=True)
class Usage:
    input: int = 0  # prompt less cached less cache_write
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0  # completion less reasoning
    reasoning: int = 0
    clamped: int = 0  # how many of the counts came out negative and were set to 0

    @classmethod
    def from_openai(cls, usage: Mapping[str, Any]) -> "Usage":
        """Read a chat completion's `usage` object (also the Responses API's names); odd values count as 0."""
        raise NotImplementedError

    @property
    def prompt(self) -> int:
        return self.input + self.cached_input + self.cache_write

    @property
    def completion(self) -> int:
        return self.output + self.reasoning


NO_USAGE = Usage()
