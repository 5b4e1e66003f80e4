"""Calls of models: how long they may take, and what follows when they fail or are late."""

from typing import Annotated, Final

from pydantic import Field

from proxy.config.schema.section import Section
from proxy.config.values import WHOLE, Duration, Patience, Share, Timeout
from proxy.upstreams import budget, health

# Defaults are those of the values that serving uses.
RETRIES: Final = budget.Retries()
EJECTION: Final = health.Ejection()


class Timeouts(Section):
    connect: Timeout | None = Field(default=None, description="Name look-up and TCP.")
    tls: Timeout | None = Field(default=None, description="The TLS handshake.")
    first_content: Timeout | None = Field(
        default=None, description="From sending to the first content of the answer."
    )
    idle: Timeout | None = Field(default=None, description="Between two pieces of the answer, comments included.")
    idle_content: Timeout | None = Field(default=None, description="Between two pieces of content.")
    total: Timeout | None = Field(default=None, description="A route's answer, from start to end, retries included.")
    client: Patience | None = Field(
        default=None, description="Between two pieces that the caller takes of a stream; at most 60s."
    )

    def given(self) -> dict[str, float]:
        return {kind: seconds for kind, seconds in self.__dict__.items() if seconds is not None}


class Retries(Section):
    """Further calls of a model after one that failed, before the caller has had any content."""

    budget: Share = Field(
        default=RETRIES.budget, description="Of the requests of the last 10 to 20 seconds, so many retries."
    )
    floor: float | int = Field(
        default=RETRIES.floor, ge=0, le=1000, description="Retries a second that are always allowed."
    )
    spend: Share = Field(default=RETRIES.spend, description="Of the money spent, what failed attempts may have cost.")
    attempts: Annotated[int, Field(ge=1, le=3), WHOLE] = Field(
        default=RETRIES.attempts, description="Calls of models for one request at most, fallbacks included."
    )
    pause: Duration = Field(
        default=RETRIES.pause, description="At most, before the same endpoint is called again; 0s: it never is."
    )


class Hedge(Section):
    """A second call of a model, at another of its endpoints, where the first is late: the first content wins."""

    after: Timeout = Field(description="How late: from the call to its first content.")
    budget: Share = Field(default=0.02, description="Of the requests, and of the spend, what second calls may be.")


class Ejection(Section):
    """When a failing endpoint is left out, and for how long; the last one never is."""

    consecutive: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(
        default=EJECTION.consecutive, description="Failures in a row, or"
    )
    rate: Share = Field(default=EJECTION.share, description="this share of failures")
    requests: Annotated[int, Field(ge=1), WHOLE] = Field(
        default=EJECTION.requests, description="among at least so many requests"
    )
    window: Timeout = Field(default=EJECTION.window, description="in this time.")
    base: Timeout = Field(default=EJECTION.base, description="How long the first time; then twice as long each time.")
    longest: Timeout = Field(
        default=EJECTION.longest, description="But never longer than this, and up to half as much jitter."
    )
    slow_start: Duration = Field(
        default=EJECTION.slow_start, description="From the good probe to its full share again."
    )
