"""A prompt cache as vendors run them: prefixes of 1,024 tokens and more, in steps of 128, for five minutes."""

import time
from collections.abc import Callable, Sequence

from proxy.standins.tokens import BLOCK

SMALLEST = 1024  # tokens
TTL = 300.0  # seconds since a prefix was last used
ROOM = 20_000  # prefixes kept before old ones are swept


class PromptCache:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, float] = {}  # hash of a prefix -> when it was last used

    def use(self, model: str, prompt: Sequence[str]) -> int:
        """Return how many of the prompt's tokens were cached, and remember its prefixes from now on."""
        if len(prompt) < SMALLEST:
            return 0
        now = self._clock()
        cached = 0
        unbroken = True
        for end, prefix in _prefixes(model, prompt):
            unbroken = unbroken and now - self._seen.get(prefix, -TTL - 1) <= TTL
            if unbroken:
                cached = end
            self._seen[prefix] = now
        if len(self._seen) > ROOM:
            self._seen = {prefix: used for prefix, used in self._seen.items() if now - used <= TTL}
        return cached

    def clear(self) -> None:
        self._seen.clear()


def _prefixes(model: str, prompt: Sequence[str]) -> list[tuple[int, int]]:
    found = []
    state = hash((model, tuple(prompt[: SMALLEST - BLOCK])))
    for end in range(SMALLEST, len(prompt) + 1, BLOCK):
        state = hash((state, tuple(prompt[end - BLOCK : end])))
        found.append((end, state))
    return found
