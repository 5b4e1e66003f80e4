"""A route: a named way to answer, and the story of answering with it."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from routes.params import Params
    from routes.prompt import Prompt

from routes.effects import Effect, Relayed

MAX_ATTEMPTS = 3  # in all, whatever the fallbacks say: more tries only multiply load and cost


@dataclass(frozen=True, slots=True)
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
class Route:
    """Compiled; shared by all requests of a snapshot."""

    name: str
    model: str  # the model's name in config; `request` routes are compiled to a route per model asked
    prompt: "Prompt | None" = None
    caller_system: Literal["merge", "keep", "drop"] = "merge"
    params: tuple["Params", ...] = ()  # applied in order: the route's own, then the model's
    fallback: tuple[Fallback, ...] = ()  # the route's own list, in order; nested ones are followed at run time
    timeouts: Mapping[str, float] = field(default_factory=dict)  # seconds, by kind; over the model's


def run(route: Route, ask: Ask) -> Generator[Effect, Relayed | None, None]:
    """Answer with the route; on a failure before the first content event, with its fallbacks."""
    raise NotImplementedError
