"""The one record of a finished request. Metrics, log and records are sinks of it; later capture, ledger, budgets.

Times are seconds: `started` on the wall clock (Unix), durations by the monotonic one. Money is integer
pico-dollars.
"""

from collections.abc import Callable

from proxy.meter.cost import Cost
from proxy.meter.usage import Usage
from routes.effects import FellBack
from routes.value import value


@value
class Attempt:
    """One call of one model. A connect failure or an HTTP error has no usage and costs nothing."""

    route: str
    role: str  # primary, fallback; later hedge, shadow, judge, step, escalation
    prompt: str  # `support@3`, or `none`
    prompt_hash: str  # of the prompt's content; empty without one
    model: str  # the model's name in config
    sent_model: str  # the name sent upstream
    answered_model: str | None  # the name in the answer
    endpoint: str  # the upstream's name in config
    started: float
    duration: float
    first_content: float | None  # seconds from the attempt's start to its first content event
    result: str  # `ok`, `cancelled` or a failure class
    status: int | None  # the upstream's HTTP status
    usage: Usage
    source: str  # of the usage: `upstream`, `estimated`, or `none` where nothing is billed
    cost: Cost  # zero where nothing is billed or the model has no price
    price: str | None  # which price this is: `config`, `shipped:2026-11-01`..., None without one


@value
class Settled:
    """A finished request, as every sink is told of it. Names are the config's, and `none` where there is none."""

    id: str
    client_id: str | None  # the client's x-request-id
    parent: str | None  # the request this one belongs to (a shadow's primary)
    role: str
    api: str
    tenant: str
    key: str
    session: str | None
    config: str  # the snapshot's hash
    policy: str
    rule: str
    route: str  # decided
    arm: str | None
    propensity: float
    served_by: str  # the route that answered, else the last tried, else decided on
    served_model: str
    served_prompt: str
    attempts: tuple[Attempt, ...]
    outcome: str  # ok, client_error, upstream_error, cancelled, rejected
    status: int  # the HTTP status the client got (499: it left first)
    error: str | None  # the error's code, if one was sent
    stream: bool
    caller_prompt: str  # exact, near, none
    started: float
    duration: float
    first_content: float | None  # seconds from the request's start to its first content event
    overhead: float  # seconds the proxy itself added: not spent waiting for an upstream or the client
    cost: int  # of all attempts, pico-dollars
    baseline_route: str | None
    baseline_cost: int | None  # what the baseline would have cost; None where there is none
    baseline_uncached: int | None  # the same without prompt cache hits: the naive figure, shown beside the honest one
    baseline_source: str  # `upstream` (the baseline answered), `estimated`, `none`
    fallbacks: tuple[FellBack, ...]  # also of a route whose model could not be called: that is no attempt


Sink = Callable[[Settled], None]
