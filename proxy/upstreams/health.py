"""The health of one endpoint: what became of its calls goes in, whether to call it comes out.

Plain arithmetic on values: `now` (seconds, any steady clock) and chance are given. Two things take an endpoint out
of rotation, and they never mix: failures, or silence, eject it until a probe succeeds; a 429 lets it
cool for the time it asks.
"""

import math
from dataclasses import dataclass
from typing import Final

from proxy.upstreams.silence import Silence

IN, COOLING, EJECTED, PROBING = range(4)  # the states, as the metric `pointsman_endpoint_state` shows them

DECAY: Final = 10.0  # seconds in which an observed latency loses most of its weight
FIRST_COOLING: Final = 1.0  # seconds after a 429 that names no time; doubles with each further one
LONGEST_COOLING: Final = 60.0  # of those: what a server names itself is obeyed
JITTER: Final = 0.5  # an ejection lasts up to this share longer, so that workers do not return in step
LOWEST_RAMP: Final = 0.1  # of its weight, in the moment an endpoint comes back
HALF_LIFE: Final = 3.0  # windows without a call, of what is known of its failures
FORGOTTEN: Final = 0.01  # a share of failures: less than it is none


@dataclass(frozen=True, slots=True)
class Ejection:
    """When an endpoint is taken out of rotation, and for how long. Times in seconds."""

    consecutive: int = 5  # failures in a row, or
    share: float = 0.5  # this share of failures
    requests: int = 20  # among at least so many requests
    window: float = 10.0  # of the last seconds
    base: float = 5.0  # the first ejection; each further one lasts twice as long
    longest: float = 300.0
    slow_start: float = 10.0  # to the full weight again after a good probe


class Health:
    """Of one endpoint, across all models that use it. `begin` and `end` frame each call; between them comes
    `answered` (content, or a refusal that only the request is to blame for), `refused` (429) or `failed`."""

    __slots__ = (
        "_failed",
        "_half_ends",
        "_old_failed",
        "_old_total",
        "_out_for",
        "_prior",
        "_refusals",
        "_streak_failed",
        "_streak_open",
        "_streaks",
        "_total",
        "back",
        "consecutive",
        "cool_until",
        "ejections",
        "in_flight",
        "is_hushed",
        "is_out",
        "is_probed",
        "is_told",
        "is_wary",
        "latency",
        "measured",
        "out_until",
        "silences",
        "streak",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        self.latency = 0.0  # to the first content, smoothed; 0: not known
        self.measured = 0.0  # when last
        self.consecutive = 0  # failures in a row, as they were heard of
        self.streak = 0  # which run of failures this is, ended by an answer to a call begun in it; 0: none
        self._streaks = self._streak_failed = 0
        self._streak_open = 0  # calls begun in it that have not ended
        self.is_out = False  # ejected, until a probe succeeds
        self.is_hushed = False  # ejected because it said nothing: any answer to what still waits brings it back
        self.is_probed = False  # the one probe is under way
        self.out_until = 0.0
        self.back = -math.inf  # when it last came back into rotation
        self.ejections = 0  # in a row, each twice as long as the one before
        self.cool_until = 0.0
        self.is_told = False  # the server itself named `cool_until`; else it is our guess
        self.is_wary = False  # it has refused: until it answers, one call at a time
        self.silences = (Silence(), Silence())  # of whole answers, and of streams
        self._out_for = 0.0
        self._refusals = 0
        self._total = self._failed = self._old_total = self._old_failed = 0  # of two halves of the window
        self._half_ends = 0.0
        self._prior = 0.0  # the failure rate when the newer half began; 0: too few calls told it, or it is forgotten

    def state(self, now: float) -> int:
        if self.is_out:
            return EJECTED if now < self.out_until else PROBING
        return COOLING if now < self.cool_until else IN

    def is_due(self, now: float) -> bool:
        """Ejected for long enough: the next call is the probe."""
        return self.is_out and not self.is_probed and now >= self.out_until and now >= self.cool_until

    def ramp(self, now: float, rules: Ejection) -> float:
        """The share of its weight that it gets: rises in a line after a good probe."""
        age = now - self.back
        return 1.0 if age >= rules.slow_start else max(LOWEST_RAMP, age / rules.slow_start)

    def is_silent(self, now: float, is_probe: bool = False) -> bool:
        """Whether it has stopped answering, as far as it can be told before timeouts tell."""
        whole, streamed = self.silences
        return whole.is_odd(now, is_probe, streamed.said) or streamed.is_odd(now, is_probe, whole.said)

    @property
    def is_awaited(self) -> bool:
        """Calls wait for its first content."""
        whole, streamed = self.silences
        return bool(whole.waiting or streamed.waiting)

    def failure_rate(self, now: float, rules: Ejection) -> float:
        """The share of failures of late; 0 until `requests` calls within a window tell it.

        From then on what was known stands for the calls that are missing of so many, and fades while none come. One
        that fails now and then gets few calls: judged by those alone it would look well as soon as its failures are
        older than the window, until as many requests again had found out that it is not.
        """
        failed, total = self._failed + self._old_failed, self._total + self._old_total
        missing = max(0, rules.requests - total)
        if not self._prior and (missing or not failed):
            return 0.0
        idle = max(0.0, now - self._half_ends) / rules.window
        rate = min(1.0, (failed + missing * self._prior) / (total + missing)) * math.exp2(-idle / HALF_LIFE)
        return rate if rate >= FORGOTTEN else 0.0

    # --- a call

    def begin(self) -> bool:
        """A call begins. Returns whether it is the probe, to be handed to all that ends it, as is `streak` before."""
        self.in_flight += 1
        self._streak_open += 1
        if not self.is_out:
            return False
        self.is_probed = True
        return True

    def end(self, probe: bool, streak: int = 0) -> None:
        self.in_flight -= 1
        if streak and streak == self.streak:
            self._streak_open -= 1
        if probe:
            self.is_probed = False  # also where the caller left: the next one probes then

    def answered(
        self, now: float, rules: Ejection, probe: bool, latency: float | None = None, streak: int | None = None
    ) -> None:
        """The server does its work. `latency`: seconds to the first content. `streak`: when the call began."""
        self._return(now, probe)
        self.consecutive = self._refusals = 0
        if streak is None or streak == self.streak:
            self.streak = 0
        self.is_wary = False
        if now >= self._half_ends:
            self._turn(now, rules)
        self._total += 1
        if latency is not None:
            if self.latency:
                self.latency += (latency - self.latency) * -math.expm1((self.measured - now) / DECAY)
            else:
                self.latency = latency
            self.measured = now

    def refused(self, now: float, wait: float | None, probe: bool) -> None:
        """A 429: no failure. `wait`: seconds the server asks for; None: it does not say, so we guess."""
        self._return(now, probe)
        self.is_wary = True
        if wait is not None:
            self.cool_until = max(now + wait, self.cool_until if self.is_told else 0.0)
            self.is_told = True
        elif now >= self.cool_until:  # of several calls refused together, the first counts
            self.cool_until = now + min(FIRST_COOLING * 2**self._refusals, LONGEST_COOLING)
            self.is_told = False
            self._refusals += 1 if FIRST_COOLING * 2**self._refusals < LONGEST_COOLING else 0

    def failed(self, now: float, rules: Ejection, probe: bool, had_answered: bool = False) -> bool:
        """A failure that is the server's. Returns whether it deserves to be ejected; `eject` is the caller's to call.

        `had_answered`: the call had begun well, and then broke.
        """
        if self.is_out:
            return probe  # late failures of calls begun before tell nothing new
        if now >= self._half_ends:
            self._turn(now, rules)
        self.consecutive += 1
        if not self.streak:
            self._streaks += 1
            self.streak, self._streak_failed, self._streak_open = self._streaks, 0, 0
        self._streak_failed += 1
        self._failed += 1
        self._total += not had_answered
        total = self._total + self._old_total
        share = (self._failed + self._old_failed) / max(total, 1)
        row = self.consecutive
        if self._streak_failed >= 2 * self._streak_open:
            # Answers to calls from before the streak still come, between failures that come at once: they say
            # nothing of now. Nor do a few failures while more calls than these have yet to end.
            row = max(row, self._streak_failed)
        return row >= rules.consecutive or (total >= rules.requests and share >= rules.share)

    def eject(self, now: float, rules: Ejection, chance: float) -> float:
        """Out of rotation. `chance` in [0, 1) draws the jitter. Returns the seconds until a probe."""
        if not self.is_out and now - self.back > self._out_for:
            self.ejections = 0  # it was well for longer than it had been out: this is a new story
        self._out_for = min(rules.base * 2 ** min(self.ejections, 30), rules.longest)
        self.ejections += 1
        self.is_out = True
        wait = self._out_for * (1 + JITTER * chance)
        self.out_until = now + wait
        return wait

    def _return(self, now: float, probe: bool) -> None:
        if self.is_out and (probe or self.is_hushed):
            self.is_out = self.is_hushed = False
            self.back = now
            self.consecutive = self.streak = 0
            self._total = self._failed = self._old_total = self._old_failed = 0
            self._prior = 0.0

    def _turn(self, now: float, rules: Ejection) -> None:
        """Begin a new half of the window; the one before it still counts if it has just ended."""
        half = rules.window / 2
        self._prior = self.failure_rate(now, rules)
        recent = now < self._half_ends + half
        self._old_total, self._old_failed = (self._total, self._failed) if recent else (0, 0)
        self._total = self._failed = 0
        self._half_ends = now + half
