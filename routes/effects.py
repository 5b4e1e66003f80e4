"""What a route may ask for. A route yields these; the driver in `proxy/` performs them and sends back the result.

Buffering belongs to the effect: `Relay` streams to the caller and returns a summary. Later effects (a call whose
whole answer comes back, a shadow) join here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routes.value import value

if TYPE_CHECKING:
    from routes.route import Route


@value
class Relay:
    """Send this body to the route's model and relay its answer to the caller.

    The route waits for a `Relayed`. `body` is a fresh dict without `model`, which the endpoint gives; its
    `stream_options` are still the caller's. Messages are plain objects, but the `content` of a prompt's static
    ones is an `orjson.Fragment`. Values may be shared: replace them, never change them.
    """

    route: "Route"
    body: dict[str, Any]
    role: str = "primary"  # or `fallback`: what the attempt is booked under


@value
class Relayed:
    """How a `Relay` ended. `failure` is a class of `routes.failure`, or None where the answer was good."""

    failure: str | None = None
    committed: bool = False  # content has reached the caller: no other answer is possible any more
    spent: bool = False  # as many calls as one request may make have been made


@dataclass(frozen=True, slots=True)
class FellBack:
    """Note that one route took over from another. The route does not wait; None comes back."""

    origin: str
    to: str
    reason: str  # the failure class


Effect = Relay | FellBack
