"""Usage times price, exactly: integer pico-dollars (10^-12 US$), by kind."""

from routes.value import value

PICO = 10**12


@value
class Cost:
    """Pico-dollars by kind of token."""

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cached_input + self.cache_write + self.output + self.reasoning


NO_COST = Cost()


def to_usd(pico: int) -> str:
    """Pico-dollars as US$ in plain decimals: exact, never an exponent, no trailing zeros (`0.0000125`, `0`)."""
    if 0 < pico < PICO:  # nearly all requests
        return f"0.{pico:012d}".rstrip("0")
    sign = "-" if pico < 0 else ""
    whole, rest = divmod(abs(pico), PICO)
    return f"{sign}{whole}.{rest:012d}".rstrip("0").rstrip(".")
