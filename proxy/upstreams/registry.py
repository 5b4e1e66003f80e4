"""The upstream clients of a worker, one per target. They survive a reload when their target is unchanged."""

from collections.abc import Callable, Collection

from proxy.outbox import Outbox
from proxy.upstreams.base import Target, Upstream
from proxy.upstreams.descriptors import Descriptors
from proxy.upstreams.pool import Pool

Make = Callable[[Target, Descriptors, Outbox], Upstream]


def _httpx(target: Target, _: Descriptors, __: Outbox) -> Upstream:
    from proxy.upstreams.httpx_client import HttpxUpstream  # only where config chooses it

    return HttpxUpstream(target)


def _litellm(target: Target, _: Descriptors, __: Outbox) -> Upstream:
    from proxy.upstreams.litellm_client import LiteLLMUpstream  # seconds of import

    return LiteLLMUpstream(target)


CLIENTS: dict[str, Make] = {"pool": Pool, "httpx": _httpx, "litellm": _litellm}


class Upstreams:
    """Make it, and use it, in the worker's event loop."""

    def __init__(self, outbox: Outbox) -> None:
        self.descriptors = Descriptors()
        self._outbox = outbox
        self._upstreams: dict[Target, Upstream] = {}
        # Hashing a target takes longer than choosing a connection, so a snapshot's own objects are found by identity.
        # The target is kept beside its client: an identity is unique only while the object lives.
        self._by_id: dict[int, tuple[Target, Upstream]] = {}

    def get(self, target: Target) -> Upstream:
        """Return the target's client, made on first use. Raises ValueError or OSError for one that cannot be."""
        found = self._by_id.get(id(target))
        if found is not None:
            return found[1]
        upstream = self._upstreams.get(target)
        if upstream is None:
            upstream = self._upstreams[target] = CLIENTS[target.client](target, self.descriptors, self._outbox)
        self._by_id[id(target)] = (target, upstream)
        return upstream

    def pending(self, target: Target) -> int:
        """Connects to it under way that nobody can be served without; 0 for clients that do not say."""
        found = self._by_id.get(id(target))
        return found[1].connecting if found is not None and isinstance(found[1], Pool) else 0

    async def retire(self, keep: Collection[Target]) -> None:
        """Close the clients of all other targets, after a reload. Their running calls finish."""
        kept = set(keep)
        retired = [self._upstreams.pop(target) for target in tuple(self._upstreams) if target not in kept]
        # Requests of the old snapshot go on with the clients retired now; those of the one before it are forgotten.
        self._by_id = {key: entry for key, entry in self._by_id.items() if entry[0] in kept or entry[1] in retired}
        for upstream in retired:
            await upstream.close()

    async def close(self) -> None:
        await self.retire(())
