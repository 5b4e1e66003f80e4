"""The snapshot: one compiled config, immutable. A request keeps the one it began with; reload swaps one reference."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from policies.policy import Policy
from proxy.keys import KeyRing
from proxy.meter import prices
from proxy.meter.price import Price
from proxy.upstreams.base import Target
from proxy.upstreams.budget import Retries
from proxy.upstreams.health import Ejection
from proxy.wire.bounds import Bounds
from routes.params import Params
from routes.route import Route


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle` is between bytes, `total` for all attempts of one route, `client` for a caller to take some."""

    connect: float = 2.0  # name and TCP
    tls: float = 3.0
    first_content: float = 30.0
    idle: float = 60.0
    idle_content: float = 180.0
    total: float = 600.0
    client: float = 60.0

    def under(self, own: Mapping[str, float]) -> "Timeouts":
        """These, with a route's own over them."""
        return replace(self, **own)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where a model can be called."""

    target: Target
    model: str  # the name sent upstream
    weight: float  # share in (0, 1]
    dialect: tuple[Params, ...] = ()  # the server's dialect, applied last
    # the defaults, the config's, the upstream's and the model's in one; a route's go over them
    timeouts: Timeouts = Timeouts()
    priority: int = 0  # endpoints of the next number are called when none of this one can be
    max_in_flight: int | None = None  # calls at once, per worker
    bills_after_disconnect: bool = False  # a caller who leaves does not end the bill: so the call goes on


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # in config; `request@UPSTREAM` for one that forwards asked names
    endpoints: tuple[Endpoint, ...]
    price: Price | None
    cache_ttl: float = 300.0  # seconds a vendor's prompt cache lives, for the baseline's cached share
    forwards: bool = False  # `model: request`: call `asking` with the asked name before use
    affinity: Literal["conversation", "user", "none"] = "none"  # what stays at one endpoint while that is healthy

    def asking(self, name: str) -> "Model":
        """This forwarding model for one asked name, at that model's shipped price. Its own name, a label, stays."""
        endpoints = tuple(replace(endpoint, model=name) for endpoint in self.endpoints)
        vendor = prices.vendor(endpoints[0].target.base_url)
        return replace(self, endpoints=endpoints, price=prices.shipped(name, vendor), forwards=False)


@dataclass(frozen=True, slots=True)
class Service:
    """A policy with what serving it needs."""

    policy: Policy
    routes: Mapping[str, Route]  # by name, with the policy's own ones over the shared ones
    baseline: Route | None
    variables: frozenset[str]  # every name some reachable prompt knows
    required: frozenset[str]  # those that some reachable prompt requires


@dataclass(frozen=True, slots=True)
class Limits:
    """What the data listener takes of its clients, and how long it waits. Sizes in bytes, times in seconds."""

    max_body: int = 10 * 1024 * 1024
    hold: float = 10.0  # seconds a stream's status is held for the first content event
    keep_alive_comment: float = 10.0  # seconds between comments after that
    body_memory: int = 256 * 1024 * 1024  # all bodies of requests that are not answered yet, per worker
    max_head: int = 32 * 1024  # request line and headers
    max_header: int = 8 * 1024
    max_headers: int = 100
    head_timeout: float = 10.0  # from the connection's start or the head's first byte, to its last
    body_timeout: float = 60.0  # between two pieces of a body


@dataclass(frozen=True, slots=True)
class Server:
    listen: str = "127.0.0.1:8080"
    admin: str | None = "127.0.0.1:8081"
    admin_key: str | None = field(default=None, repr=False)
    workers: int = 1
    announce: float = 0.0  # seconds of readiness 503 before the listener closes
    drain: float = 600.0  # seconds running requests may take after that
    limits: Limits = Limits()
    access_log: bool = True
    max_memory: int | None = None  # bytes that one worker may use; besides, its cgroups' limits hold


@dataclass(frozen=True, slots=True)
class Snapshot:
    hash: str  # of the config's text after expansion, without secrets: 12 hex digits
    files: tuple[str, ...]  # every file read, to watch: config, includes, prompts, secrets
    server: Server
    keys: KeyRing
    models: Mapping[str, Model]
    services: Mapping[str, Service]  # by policy name; `"*"` takes the rest
    retries: Retries = field(default_factory=Retries)
    ejection: Ejection = field(default_factory=Ejection)
    bounds: Bounds = field(default_factory=Bounds)
    needs_litellm: bool = False
    created: int = 0  # Unix time of the load, for /v1/models
    answers: dict[str, object] = field(default_factory=dict, compare=False)  # of the file system to its load

    def __repr__(self) -> str:
        return f"Snapshot({self.hash!r}, policies={sorted(self.services)!r})"


class Holder:
    """The one mutable reference: the snapshot that new requests begin with."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot  # changed by `swap` alone

    def swap(self, new: Snapshot) -> Snapshot:
        """Serve the new snapshot from the next request on. Returns the old one, which running requests keep."""
        old, self.snapshot = self.snapshot, new
        return old
