"""A request's account while it is open: what is known so far, attempt by attempt. Closing it makes the `Settled`.

Plain bookkeeping: it never waits and decides nothing. The moments of a request and its attempts are taken here; only
how long the relay waited (`waited`) is told to it.
"""

import time
from collections.abc import Mapping
from random import getrandbits
from typing import Any, Final

from policies.decision import Decision
from proxy.keys import ANYONE, Caller
from proxy.meter import estimate
from proxy.meter.baseline import NO_BASELINE, Baseline, Learned, answered, estimated
from proxy.meter.cost import NO_COST
from proxy.meter.usage import NO_USAGE, Usage
from proxy.runtime import Endpoint, Model, Service, Snapshot
from proxy.settled import Attempt, Settled
from proxy.upstreams.balance import Turn
from routes.effects import FellBack
from routes.prompt import Prompt, RenderError
from routes.route import Route

NO_VARIABLES: Final[Mapping[str, Any]] = {}


def new_id() -> str:
    """A request id of 128 random bits; facts such as `chance` are taken from it. It names, it opens nothing."""
    return f"req_{getrandbits(128):032x}"


class Trial:
    """One attempt while it runs."""

    __slots__ = (
        "answered_model",
        "billable",
        "characters",
        "endpoint",
        "first_content",
        "held",
        "model",
        "prompt_characters",
        "role",
        "route",
        "started",
        "status",
        "t0",
        "turn",
        "usage",
    )
    turn: Turn  # its place in the rotation, until it ends
    held: list[bytes]  # what came of a stream before its first content

    def __init__(self, route: Route, role: str, model: Model, endpoint: Endpoint, prompt_characters: int) -> None:
        self.route = route
        self.role = role
        self.model = model
        self.endpoint = endpoint
        self.prompt_characters = prompt_characters
        self.started = time.time()
        self.t0 = time.perf_counter()
        self.status: int | None = None
        self.billable = False  # a 2xx answer came: whatever happens to it, it was paid for
        self.first_content: float | None = None
        self.usage: Mapping[str, Any] | None = None  # as the upstream reported it
        self.characters = 0  # generated, as far as we saw
        self.answered_model: str | None = None

    def saw_content(self) -> None:
        if self.first_content is None:
            self.first_content = time.perf_counter() - self.t0


class Account:
    """Opened when a request comes, settled exactly once."""

    def __init__(self, snapshot: Snapshot, api: str, client_id: str | None) -> None:
        self.id = new_id()
        self.snapshot = snapshot
        self.api = api
        self.client_id = client_id
        self.started = time.time()
        self.t0 = time.perf_counter()
        self.attempts: list[Attempt] = []
        self.fallbacks: tuple[FellBack, ...] = ()

        # Here rather than on the class, where to read what has not changed yet takes several times as long.
        self.caller: Caller = ANYONE
        self.session: str | None = None
        self.service: Service | None = None
        self.decision: Decision | None = None
        self.asked = ""  # the model as the caller named it
        self.stream = False
        self.caller_prompt = "none"
        self.caller_characters = 0  # of the caller's own messages and tools
        self.variables: Mapping[str, Any] = NO_VARIABLES
        self.outcome = "rejected"
        self.status = 0
        self.error: str | None = None
        self.duration = 0.0
        self.spent = 0  # pico-dollars of all attempts so far
        self.waited = 0.0  # seconds spent waiting for upstreams and for the client
        self.first_content: float | None = None
        self.baseline: Baseline = NO_BASELINE
        self.rate = 0.0  # the policy's requests per second
        self.is_text = True  # without images, whose tokens have no characters

    def prompt_of(self, route: Route) -> Prompt | None:
        """What the route adds to this request; a caller prompt nearly known goes through as it is."""
        return None if self.caller_prompt == "near" else route.prompt

    def characters(self, route: Route) -> int:
        """Of the caller's messages and tools and the route's prompt."""
        prompt = self.prompt_of(route)
        return self.caller_characters + (prompt.characters(self.variables) if prompt is not None else 0)

    def fell_back(self, fallback: FellBack) -> None:
        self.fallbacks += (fallback,)

    def open_trial(self, route: Route, role: str, model: Model, endpoint: Endpoint) -> Trial:
        return Trial(route, role, model, endpoint, self.characters(route))

    def close_trial(self, trial: Trial, result: str, learned: Learned) -> Attempt:
        """Book an attempt under its own route, model and prompt, at its own price."""
        usage, source = self._usage(trial, learned)
        price = trial.model.price
        prompt = self.prompt_of(trial.route)
        attempt = Attempt(  # positional: keywords would double the time this takes
            trial.route.name,
            trial.role,
            prompt.id if prompt is not None else "none",
            prompt.hash if prompt is not None else "",
            trial.model.name,
            trial.endpoint.model,
            trial.answered_model,
            trial.endpoint.target.name,
            trial.started,
            time.perf_counter() - trial.t0,
            trial.first_content,
            result,
            trial.status,
            usage,
            source,
            price.cost(usage) if price is not None and source != "none" else NO_COST,
            price.id if price is not None else None,
        )
        self.attempts.append(attempt)
        self.spent += attempt.cost.total
        return attempt

    def _usage(self, trial: Trial, learned: Learned) -> tuple[Usage, str]:
        usage = NO_USAGE
        if trial.usage is not None:
            usage = Usage.from_openai(trial.usage)
            if usage.prompt and (usage.completion or not trial.characters):
                if self.is_text and not usage.clamped:  # contradictions are booked, but nothing to learn from
                    learned.observe(trial.model.name, trial.prompt_characters, trial.characters, usage)
                return usage, "upstream"
        if not trial.billable:
            return usage, "upstream" if usage.prompt or usage.completion else "none"
        # Not reported, or nulls, texts and negative numbers: a side that counts nothing is not free.
        guess = estimate.usage(learned, trial.model.name, trial.prompt_characters, trial.characters)
        return usage.filled(guess), "estimated"

    def close_baseline(self, trial: Trial, learned: Learned) -> None:
        """What the baseline would have cost for what was delivered."""
        service = self.service
        route = service.baseline if service is not None else None
        if service is None or route is None:
            return
        if trial.route.name == route.name:
            self.baseline = answered(self.attempts, route.name, trial.model.price)
            return
        model = self.snapshot.models[route.model]
        if model.forwards:
            model = model.asking(self.asked)
        prompt = self.prompt_of(route)
        try:
            characters = self.characters(route)
            beginning = prompt.beginning(self.variables) if prompt is not None else 0
        except RenderError:  # of a prompt that nobody was sent: it must not cost the caller the answer
            return
        self.baseline = estimated(
            learned,
            model.name,
            model.price,
            prompt_chars=characters,
            static_chars=beginning,
            output_chars=trial.characters,
            rate=self.rate,
            ttl=model.cache_ttl,
        )

    def saw_content(self) -> None:
        """The caller gets its first content; but not one that has left while its call goes on."""
        if not self.duration:
            self.first_content = time.perf_counter() - self.t0

    def finish(self, outcome: str, status: int, error: str | None) -> None:
        """The request is over: `status` is what the client got (499: it left first), `error` the code it was told."""
        self.duration = time.perf_counter() - self.t0
        self.outcome, self.status, self.error = outcome, status, error

    def served(self) -> tuple[str, str, str]:
        """Route, model and prompt that answered, else those last tried, else decided on; before that `none`."""
        if self.attempts:
            last = self.attempts[-1]
            return last.route, last.model, last.prompt
        if self.decision is None or self.service is None:
            return "none", "none", "none"
        route = self.service.routes[self.decision.route]
        prompt = self.prompt_of(route)
        return route.name, route.model, prompt.id if prompt is not None else "none"

    def settle(self) -> Settled:
        """Make the record of a finished request."""
        decision, service = self.decision, self.service
        route, model, prompt = self.served()
        baseline = self.baseline
        return Settled(  # positional: keywords would cost 3 µs a request
            self.id,
            self.client_id,
            None,  # parent
            "primary",
            self.api,
            self.caller.tenant,
            self.caller.key,
            self.session,
            self.snapshot.hash,
            service.policy.name if service is not None else "none",
            decision.rule if decision is not None else "none",
            decision.route if decision is not None else "none",
            decision.arm if decision is not None else None,
            decision.propensity if decision is not None else 1.0,
            route,
            model,
            prompt,
            tuple(self.attempts),
            self.outcome,
            self.status,
            self.error,
            self.stream,
            self.caller_prompt,
            self.started,
            self.duration,
            self.first_content,
            max(0.0, self.duration - self.waited),
            self.spent,
            service.policy.baseline if service is not None else None,
            baseline.cost,
            baseline.uncached,
            baseline.source,
            self.fallbacks,
        )
