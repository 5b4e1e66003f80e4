"""A route: a named way to answer, and the story of answering with it."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from routes.chat import compose
from routes.effects import Effect, FellBack, Relay, Relayed
from routes.value import value

if TYPE_CHECKING:
    from routes.params import Params
    from routes.prompt import Prompt

MAX_ATTEMPTS = 3  # in all, whatever the fallbacks say: more tries only multiply load and cost


@value
class Ask:
    """What the caller wants, ready for any route: each attempt starts from this and changes nothing in it."""

    body: Mapping[str, Any]  # the caller's JSON object, without `pointsman`
    messages: list[Any]  # its messages, without a recognised caller prompt
    variables: Mapping[str, Any] = field(default_factory=dict)
    untouched: bool = False  # add no prompt: the caller's messages go through as they are


@dataclass(frozen=True, slots=True)
class Fallback:
    to: "Route"
    on: frozenset[str]  # the failure classes it answers to


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second endpoint of the model is asked beside the first: the first content wins."""

    after: float  # seconds without content
    budget: float  # share of the requests, and of the spend, that second calls may be


@dataclass(frozen=True, slots=True)
class Route:
    """Compiled; shared by all requests of a snapshot."""

    name: str
    model: str  # its name in config; `request@UPSTREAM` where the asked name is forwarded
    prompt: "Prompt | None" = None
    caller_system: Literal["merge", "keep", "drop"] = "merge"
    params: tuple["Params", ...] = ()  # the route's own, then the model's: the first has the last word
    fallback: tuple[Fallback, ...] = ()  # the route's own list, in order; nested ones are followed at run time
    timeouts: Mapping[str, float] = field(default_factory=dict)  # seconds, by kind; over the model's
    hedge: Hedge | None = None  # its own, or the model's


def run(route: Route, ask: Ask) -> Generator[Effect, Relayed | None, None]:
    """Answer with the route; on a failure before the first content event, with its fallbacks.

    What took over brings its own fallbacks, which come before those that are left of the routes before it. No route
    is tried twice, and no more than `MAX_ATTEMPTS` in all. Each attempt starts from the caller's own body.
    """
    role = "primary"
    left: tuple[Fallback, ...] = route.fallback
    tried = {route.name}
    while True:
        relayed = yield Relay(route, compose(ask, route), role)
        assert relayed is not None, "a Relay is answered with a Relayed"
        failure = relayed.failure
        if failure is None or relayed.committed or relayed.spent or len(tried) == MAX_ATTEMPTS:
            return
        left = tuple(fallback for fallback in left if fallback.to.name not in tried)
        to = next((fallback.to for fallback in left if failure in fallback.on), None)
        if to is None:
            return
        yield FellBack(route.name, to.name, failure)
        left = (*to.fallback, *left)
        tried.add(to.name)
        route, role = to, "fallback"


def flatten(route: Route) -> tuple[Route, ...]:
    """Return the route and all that can take over from it, each once, in the order in which they are met."""
    found = {route.name: route}
    queue = [route]
    for each in queue:
        for fallback in each.fallback:
            if fallback.to.name not in found:
                found[fallback.to.name] = fallback.to
                queue.append(fallback.to)
    return tuple(found.values())
