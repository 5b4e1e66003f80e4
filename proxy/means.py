"""What a worker's requests share to call models with."""

from dataclasses import dataclass

from proxy.meter.baseline import Learned
from proxy.orphans import Orphans
from proxy.upstreams.balance import Rotations
from proxy.upstreams.registry import Upstreams


@dataclass(frozen=True, slots=True)
class Means:
    """One of each in a worker; they outlive requests and reloads."""

    upstreams: Upstreams
    rotations: Rotations
    learned: Learned
    orphans: Orphans
