"""What the baseline route would have cost: the counterfactual that savings are measured against.

Where the baseline route itself answered, that is what it cost. Elsewhere its full prompt is priced, with token
counts, cached share and reasoning learned from that model's own reported usage, so that the saving is honest: a
strong model whose long prompt is always in the vendor's cache is cheaper than its list price says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.meter.estimate import tokens
from proxy.meter.price import Price
from proxy.meter.usage import Usage
from routes.value import value

if TYPE_CHECKING:
    from proxy.settled import Attempt

# Vendors cache prompts from 1,024 tokens up (OpenAI, most of Anthropic's and Google's); shorter ones never hit.
CACHEABLE_FROM = 1024

# Seconds over which a policy's request rate is averaged; about as long as a prompt stays cached.
RATE_WINDOW = 300.0

# Answers after which a model's sums are halved, so that what it does now outweighs what it did last month.
MEMORY = 4096


@dataclass(slots=True)
class Ratios:
    """One model's sums over answers whose usage it reported, and what they let expect."""

    answers: int = 0
    prompt_chars: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_chars: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, prompt_chars: int, output_chars: int, usage: Usage) -> None:
        if self.answers >= MEMORY:
            for name in self.__slots__:
                setattr(self, name, getattr(self, name) // 2)
        self.answers += 1
        self.prompt_chars += prompt_chars
        self.prompt_tokens += usage.prompt
        self.cached_tokens += usage.cached_input
        self.output_chars += output_chars
        self.output_tokens += usage.output
        self.reasoning_tokens += usage.reasoning

    def expected_prompt(self, characters: int) -> int:
        """Prompt tokens of so many characters, by the model's own ratio, else four characters a token."""
        return tokens(characters, self.prompt_tokens, self.prompt_chars)

    def expected_output(self, characters: int) -> int:
        """Visible output tokens of so many characters, likewise."""
        return tokens(characters, self.output_tokens, self.output_chars)

    @property
    def mean_reasoning(self) -> int:
        """Reasoning tokens of an answer, in the mean; 0 before any was seen."""
        return round(self.reasoning_tokens / self.answers) if self.answers else 0

    @property
    def cached_share(self) -> float:
        """The share of prompt tokens that the model reported as cached."""
        return min(1.0, self.cached_tokens / self.prompt_tokens) if self.prompt_tokens else 0.0


NOTHING_LEARNED: Final = Ratios()  # one for all models not seen yet: nobody may change it


@dataclass(slots=True)
class Rate:
    """Requests per second: an exponentially weighted mean over `RATE_WINDOW`, unbiased from the first second."""

    since: float
    last: float
    weight: float = 0.0  # of the requests so far, as of `last`

    def at(self, now: float) -> float:
        age = now - self.since
        if age <= 0:
            return 0.0
        faded = self.weight * math.exp(-max(0.0, now - self.last) / RATE_WINDOW)
        return faded / (RATE_WINDOW * -math.expm1(-age / RATE_WINDOW))

    def arrived(self, now: float) -> None:
        self.weight = self.weight * math.exp(-max(0.0, now - self.last) / RATE_WINDOW) + 1.0
        self.last = max(self.last, now)


class Learned:
    """What was learned of models and policies, by name. Mutable; belongs to the process and survives reloads."""

    def __init__(self) -> None:
        self.workers = 1  # that share a policy's requests evenly, each knowing its own
        self._ratios: dict[str, Ratios] = {}
        self._rates: dict[str, Rate] = {}

    def observe(self, model: str, prompt_chars: int, output_chars: int, usage: Usage) -> None:
        """Learn from an answer with reported usage. Leave out requests with images: those have no characters."""
        ratios = self._ratios.get(model)
        if ratios is None:  # `setdefault` would make one each time
            ratios = self._ratios[model] = Ratios()
        ratios.add(prompt_chars, output_chars, usage)

    def arrived(self, policy: str, now: float) -> float:
        """Count a request of this policy (whatever its route); returns the requests per second before it, of all
        workers.

        `now` is in seconds on any clock that does not go back. The rate before an arrival is what says whether the
        prompt is still cached: counting the arrival itself would make every lone request look like a busy hour.
        """
        rate = self._rates.get(policy)
        if rate is None:
            rate = self._rates[policy] = Rate(now, now)
        before = rate.at(now)
        rate.arrived(now)
        return before * self.workers

    def of(self, model: str) -> Ratios:
        """What this model's answers have shown; not to be changed."""
        return self._ratios.get(model, NOTHING_LEARNED)


@value
class Baseline:
    """A counterfactual cost in pico-dollars: with prompt cache hits counted, and (the naive figure) without."""

    cost: int | None  # None where there is nothing to compare: the request failed, or the baseline has no price
    uncached: int | None
    source: str  # `upstream`: the baseline route answered; `estimated`; `none`
    usage: Usage | None = None  # what was priced


NO_BASELINE = Baseline(None, None, "none")


def answered(attempts: Sequence["Attempt"], route: str, price: Price | None) -> Baseline:
    """The baseline route itself answered: what it cost. Other routes' failed attempts are not its fault."""
    cost = uncached = 0
    source, usage = "upstream", None
    for attempt in attempts:
        if attempt.route == route and attempt.source != "none" and price is not None:
            usage = attempt.usage
            cost += attempt.cost.total
            uncached += price.uncached(usage)
            if attempt.source == "estimated":
                source = "estimated"
    return NO_BASELINE if usage is None else Baseline(cost, uncached, source, usage)


def estimated(
    learned: Learned,
    model: str,
    price: Price | None,
    *,
    prompt_chars: int,
    static_chars: int,
    output_chars: int,
    rate: float,
    ttl: float,
) -> Baseline:
    """What `model` would have cost for a request that another route answered. Deterministic.

    `prompt_chars` are those of the baseline route's whole rendered prompt, the caller's messages in it;
    `static_chars` those of its beginning that is the same for every request of the policy. `output_chars` are the
    answer's, or of a cancelled request what was delivered. `rate` is the policy's requests per second (`arrived`),
    `ttl` the seconds that a prompt stays in the vendor's cache.

    Cached tokens are the larger of two: the model's observed share of the whole prompt (servers of one's own cache
    short ones, too); and the chance that some request of the policy came within the TTL, 1 - exp(-rate x TTL), of
    the static part, if that is long enough for vendors to cache (1,024 tokens). The rest of the prompt is new with
    each request and cannot be predicted to be cached. Cache writes are not counted, which makes the saving look
    smaller, never larger.
    """
    if price is None:
        return NO_BASELINE
    ratios = learned.of(model)
    prompt = ratios.expected_prompt(prompt_chars)
    static = min(prompt, ratios.expected_prompt(static_chars))
    expected = -math.expm1(-max(0.0, rate) * ttl) * static if static >= CACHEABLE_FROM else 0.0
    cached = min(prompt, round(max(expected, ratios.cached_share * prompt)))
    output = ratios.expected_output(output_chars)
    reasoning = ratios.mean_reasoning if output_chars else 0  # nothing delivered: it may not have thought either
    usage = Usage(prompt - cached, cached, 0, output, reasoning)
    return Baseline(price.total(usage), price.uncached(usage), "estimated", usage)
