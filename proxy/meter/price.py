"""A model's price, compiled: integer pico-dollars per token (US$ per 1M tokens has at most 6 decimals)."""

from dataclasses import dataclass

from proxy.meter.cost import Cost
from proxy.meter.usage import Usage


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-dollars per token by kind."""

    input: int
    cached_input: int
    cache_write: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Price:
    """Base rates, and dearer ones for prompts above a size (the whole request is billed at the tier it reaches)."""

    id: str  # `config`, or `shipped:DATE`
    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()  # (prompt tokens above which it applies, rates), rising

    def rates(self, prompt_tokens: int) -> Rates:
        """The rates at which a prompt of this size is billed, cached tokens counted in."""
        rates = self.base
        for above, dearer in self.tiers:
            if prompt_tokens <= above:
                break
            rates = dearer
        return rates

    def cost(self, usage: Usage) -> Cost:
        """What these tokens cost, in pico-dollars, exactly."""
        rates = self.rates(usage.prompt) if self.tiers else self.base
        return Cost(
            usage.input * rates.input,
            usage.cached_input * rates.cached_input,
            usage.cache_write * rates.cache_write,
            usage.output * rates.output,
            usage.reasoning * rates.reasoning,
        )

    def total(self, usage: Usage) -> int:
        """`cost(usage).total`, for who does not ask by kind."""
        rates = self.rates(usage.prompt) if self.tiers else self.base
        return (
            usage.input * rates.input
            + usage.cached_input * rates.cached_input
            + usage.cache_write * rates.cache_write
            + usage.output * rates.output
            + usage.reasoning * rates.reasoning
        )

    def uncached(self, usage: Usage) -> int:
        """The same without a prompt cache, in pico-dollars: every prompt token at the price of fresh input."""
        prompt = usage.prompt
        rates = self.rates(prompt) if self.tiers else self.base
        return prompt * rates.input + usage.output * rates.output + usage.reasoning * rates.reasoning
