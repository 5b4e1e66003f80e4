"""What calling models takes, one of each for a worker: what a request's own story is told with."""

from dataclasses import dataclass

from proxy.meter.baseline import Learned
from proxy.orphans import Orphans
from proxy.upstreams.balance import Rotations
from proxy.upstreams.registry import Upstreams


@dataclass(frozen=True, slots=True)
class Means:
    """Each outlives requests and reloads."""

    upstreams: Upstreams
    rotations: Rotations
    learned: Learned
    orphans: Orphans
