"""Who a stand-in plays: the strong model that needs the long prompt, or the small tuned one that does not."""

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds. Each request draws one factor from a log-normal distribution with median 1 for all its waits."""

    first_token: float = 0.0  # median, without the prompt's share
    per_token: float = 0.0
    prefill: float = 0.0  # per 1,000 prompt tokens that were not cached
    spread: float = 0.0  # sigma of the factor's logarithm; 0.35 puts p95 at 1.8 times the median

    def factor(self, u: float) -> float:
        """Turn a uniform draw in [0, 1) into the request's factor."""
        if not self.spread:
            return 1.0
        return math.exp(self.spread * _NORMAL.inv_cdf(min(max(u, 1e-9), 1 - 1e-9)))

    def before_first(self, uncached: int, factor: float) -> float:
        return (self.first_token + self.prefill * uncached / 1000) * factor


INSTANT = Latency()


@dataclass(frozen=True, slots=True)
class Persona:
    name: str
    snapshot: str = ""  # added to the asked model's name in answers, as vendors do with dated snapshots
    context: int = 128_000  # tokens of prompt and answer together
    needs_prompt: bool = False  # answers prose unless a system message asks for JSON and intents
    max_tokens: bool = True  # accepts `max_tokens`; else only `max_completion_tokens`
    json_word: bool = False  # `json_object` wants the word JSON somewhere in the messages
    caches_prompts: bool = False
    reports_usage: bool = True
    details: bool = True  # usage tells cached and reasoning tokens apart
    reasons: float = 0.0  # share of requests with reasoning tokens
    slips: float = 0.0  # share of messages whose intent it gets wrong
    latency: Latency = INSTANT  # the real-looking one


STRONG = Persona(
    name="strong",
    snapshot="-2026-09-30",
    needs_prompt=True,
    max_tokens=False,
    json_word=True,
    caches_prompts=True,
    reasons=0.25,
    latency=Latency(first_token=0.42, per_token=0.011, prefill=0.12, spread=0.35),
)
TUNED = Persona(
    name="tuned",
    context=16_384,
    details=False,
    slips=0.03,
    latency=Latency(first_token=0.055, per_token=0.0045, prefill=0.03, spread=0.25),
)
PERSONAS = {persona.name: persona for persona in (STRONG, TUNED)}
