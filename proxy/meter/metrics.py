"""The sink that counts: every settled request becomes additions to cells resolved before.

Labels come only from configuration. What a snapshot can reach exists, as zeros, from the first scrape, as long as
that stays readable; the rest comes into being on first use. A reload adds series and takes none away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from proxy.meter import families, reach
from proxy.meter.cells import Cell, Distribution, Family, Labels, Series, State
from proxy.meter.families import NANO
from proxy.meter.reach import NONE, STREAM
from proxy.meter.usage import KINDS
from proxy.runtime import Snapshot
from proxy.settled import Attempt, Settled

OTHER = "other"  # a model that is forwarded by the name the client gave: never a label of its own

_PLACE = (*families.REQUESTS.labels[:-1], "stream")
_ATTEMPT = ("route", "model", "prompt", "role", "source", "endpoint", "result")

LIMIT = 3000  # exported lines made before they are used


@dataclass(slots=True)
class _AttemptCells:
    result: Cell
    tokens: tuple[Cell, ...]  # one per kind; empty where nothing is billed
    costs: tuple[Cell, ...]
    model: str


@dataclass(slots=True)
class _RequestCells:
    """Everything that requests of one tenant, rule, route, model and prompt touch."""

    tenant: str
    policy: str
    route: str
    outcomes: dict[str, Cell]
    duration: Distribution
    first_token: Distribution | None  # of streams
    per_token: Distribution | None
    caller_prompt: dict[str, Cell]  # by result, in policies that look for one
    baselines: dict[tuple[str, str], tuple[Cell, Cell]]  # by baseline route and source: the honest, the naive
    attempts: dict[Labels, _AttemptCells]  # by all that a label says


class Meters:
    """All cells of one process. Lives as long as the process; snapshots come and go."""

    def __init__(self, version: str) -> None:
        self._series = {name: Series(family) for name, family in families.FAMILIES.items()}
        self._known: dict[str, set[str]] = {
            label: {NONE} for label in ("tenant", "policy", "rule", "route", "prompt")
        }
        self._known |= {"model": {NONE, OTHER}, "endpoint": {NONE}}
        self._seeking: set[str] = set()  # policies that look for a caller prompt
        self._requests: dict[Labels, _RequestCells] = {}
        self._overhead: dict[str, Distribution] = {}
        self._inflight: dict[str, Cell] = {}
        self._of(families.BUILD_INFO).cell(version).value = 1
        self._of(families.RELOAD_OK).cell().value = 1
        self._lag = self._of(families.LOOP_LAG).distribution()
        self._of(families.LOG_DROPPED).cell()
        for family, values in (
            (families.RELOADS_TOTAL, families.RELOADS),
            (families.SHED, families.SHED_FOR),
            (families.LOST, families.LOST_BY),
        ):
            for value in values:
                self._of(family).cell(value)

    def use(self, snapshot: Snapshot) -> None:
        """Make the series that this config can reach, and show its hash and its splits' shares."""
        for label, names in reach.names(snapshot).items():
            self._known[label] |= names
        self._seeking |= {name for name, service in snapshot.services.items() if service.policy.known_prompts}
        self._requests.clear()  # resolved anew: a name that was unknown may be known now
        for gauge in (families.CONFIG_INFO, families.SPLIT_SHARE):
            self._of(gauge).cells.clear()
        self._of(families.CONFIG_INFO).cell(snapshot.hash).value = 1
        for service in snapshot.services.values():
            for rule, split in reach.splits(service.policy):
                self.share(service.policy.name, rule, {arm.decision.route: arm.weight for arm in split.arms})
        self._prepare(snapshot)

    def reloaded(self, ok: bool) -> None:
        """Count a reload. With several workers only the process that decides on reloads calls this."""
        self._of(families.RELOADS_TOTAL).cell("success" if ok else "failure").value += 1
        self._of(families.RELOAD_OK).cell().value = int(ok)

    def share(self, policy: str, rule: str, shares: Mapping[str, float]) -> None:
        """Show how a split divides its callers now; a ramp calls this when it moves."""
        total = sum(shares.values()) or 1.0
        for route, weight in shares.items():
            self._of(families.SPLIT_SHARE).cell(policy, rule, route).value = weight / total

    def ejected(self, model: str, endpoint: str) -> None:
        """Count an endpoint that was taken out of rotation."""
        self._of(families.EJECTIONS).cell(model, endpoint).value += 1

    def endpoints(self, states: Iterable[tuple[str, str, int]]) -> None:
        """Show the state of every endpoint: model, endpoint, number. Of one at several places the worst holds."""
        gauge = self._of(families.ENDPOINT_STATE)
        gauge.cells.clear()
        for model, endpoint, state in states:
            cell = gauge.cell(model, endpoint)
            cell.value = max(cell.value, state)

    def lost(self, reason: str) -> None:
        """Count a worker that ended or hung by itself."""
        self._of(families.LOST).cell(reason).value += 1

    def late(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(int(seconds * NANO))

    def burden(self, connections: int, memory: float, refused: Mapping[str, int], log_dropped: int) -> None:
        """Show what the process bears: its connections, its share of the memory, and what it had to refuse so far."""
        self._of(families.CONNECTIONS).cell().value = connections
        self._of(families.MEMORY).cell().value = memory
        self._of(families.LOG_DROPPED).cell().value = log_dropped
        for reason, count in refused.items():
            self._of(families.SHED).cell(reason).value = count

    def begin(self, policy: str) -> None:
        """A request of this policy is being served; `end` it with the same name."""
        self._in_flight(policy).value += 1

    def end(self, policy: str) -> None:
        self._in_flight(policy).value -= 1

    def settled(self, s: Settled) -> None:
        """Count one settled request and its attempts."""
        place = (s.tenant, s.policy, s.rule, s.served_by, s.served_model, s.served_prompt, STREAM[s.stream])
        request = self._requests.get(place) or self._resolve(place)
        request.outcomes[s.outcome].value += 1
        request.duration.observe(int(s.duration * NANO))
        (self._overhead.get(s.api) or self._api(s.api)).observe(int(s.overhead * NANO))
        if request.caller_prompt:
            request.caller_prompt[s.caller_prompt].value += 1
        if s.baseline_cost is not None and s.baseline_route is not None:
            key = (s.baseline_route, s.baseline_source)
            honest, naive = request.baselines.get(key) or self._baseline(request, *key)
            honest.value += s.baseline_cost
            naive.value += s.baseline_uncached or s.baseline_cost
        for attempt in s.attempts:
            self._book(request, attempt)
        if len(s.attempts) > 1:
            self._retried(s.attempts)
        for fallback in s.fallbacks:
            origin, to = self._clean("route", fallback.origin), self._clean("route", fallback.to)
            self._of(families.FALLBACKS).cell(request.policy, origin, to, fallback.reason).value += 1
        if s.first_content is not None and request.first_token is not None and request.per_token is not None:
            request.first_token.observe(int(s.first_content * NANO))
            output = s.attempts[-1].usage.output if s.attempts else 0
            if output > 1:
                elapsed = (s.duration - s.first_content) * NANO
                request.per_token.observe(int(elapsed / (output - 1)))

    def state(self) -> State:
        """All cells as plain values, for `cells.merge` and `exposition`."""
        return {name: series.state() for name, series in self._series.items() if series.cells}

    def _book(self, request: _RequestCells, a: Attempt) -> None:
        key = (a.route, a.model, a.prompt, a.role, a.source, a.endpoint, a.result)
        cells = request.attempts.get(key) or self._attempt(request, key)
        cells.result.value += 1
        if not cells.tokens:
            return
        usage, cost = a.usage, a.cost
        tokens, costs = cells.tokens, cells.costs
        tokens[0].value += usage.input
        tokens[1].value += usage.cached_input
        tokens[2].value += usage.cache_write
        tokens[3].value += usage.output
        tokens[4].value += usage.reasoning
        if a.price is None:
            self._of(families.UNPRICED).cell(cells.model).value += 1
        else:
            costs[0].value += cost.input
            costs[1].value += cost.cached_input
            costs[2].value += cost.cache_write
            costs[3].value += cost.output
            costs[4].value += cost.reasoning
        if usage.clamped:
            self._of(families.CLAMPED).cell(cells.model).value += usage.clamped

    def _retried(self, attempts: tuple[Attempt, ...]) -> None:
        """A hedge runs beside a call, not after it."""
        for failed, next_one in pairwise(attempt for attempt in attempts if attempt.role != "hedge"):
            if next_one.route == failed.route:
                self._of(families.RETRIES).cell(self._clean("model", failed.model), failed.result).value += 1

    # Resolving: once per combination of labels. Only clean names are remembered, so that names a client made up
    # fill neither the metrics nor our memory.

    def _resolve(self, place: Labels) -> _RequestCells:
        clean = self._cleaned(_PLACE, place)
        if clean[1] == NONE:  # a policy that is not in the config
            clean = (clean[0], *(NONE,) * 5, clean[6])
        found = self._requests.get(clean)
        if found is None:
            found = self._requests[clean] = self._request(*clean)
        return found

    def _request(
        self, tenant: str, policy: str, rule: str, route: str, model: str, prompt: str, stream: str
    ) -> _RequestCells:
        of, latency = self._of, (policy, rule, route, model)
        who = (tenant, policy, rule, route, model, prompt)
        streamed = stream == STREAM[True]
        results = families.CALLER_PROMPT if policy in self._seeking else ()
        return _RequestCells(
            tenant=tenant,
            policy=policy,
            route=route,
            outcomes={outcome: of(families.REQUESTS).cell(*who, outcome) for outcome in families.OUTCOMES},
            duration=of(families.DURATION).distribution(*latency, stream),
            first_token=of(families.FIRST_TOKEN).distribution(*latency) if streamed else None,
            per_token=of(families.PER_TOKEN).distribution(*latency) if streamed else None,
            caller_prompt={result: of(families.CALLER_PROMPTS).cell(policy, result) for result in results},
            baselines={},
            attempts={},
        )

    def _attempt(self, request: _RequestCells, key: Labels) -> _AttemptCells:
        clean = self._cleaned(_ATTEMPT, key)
        found = request.attempts.get(clean)
        if found is None:
            route, model, prompt, role, source, endpoint, result = clean
            who = (request.tenant, request.policy, route, model, prompt, role)
            kinds = KINDS if source in families.SOURCES else ()
            found = request.attempts[clean] = _AttemptCells(
                result=self._of(families.ATTEMPTS).cell(model, endpoint, result),
                tokens=tuple(self._of(families.TOKENS).cell(*who, kind, source) for kind in kinds),
                costs=tuple(self._of(families.COST).cell(*who, kind, source) for kind in kinds),
                model=model,
            )
        return found

    def _baseline(self, request: _RequestCells, route: str, source: str) -> tuple[Cell, Cell]:
        labels = (request.tenant, request.policy, request.route, self._clean("route", route), source)
        cells = (self._of(families.BASELINE_COST).cell(*labels), self._of(families.BASELINE_UNCACHED).cell(*labels))
        request.baselines[route, source] = cells
        return cells

    def _api(self, api: str) -> Distribution:
        found = self._overhead[api] = self._of(families.OVERHEAD).distribution(api)
        return found

    def _in_flight(self, policy: str) -> Cell:
        found = self._inflight.get(policy)
        if found is None:
            policy = self._clean("policy", policy)
            found = self._inflight[policy] = self._of(families.INFLIGHT).cell(policy)
        return found

    def _clean(self, label: str, name: str) -> str:
        known = self._known.get(label)
        if known is None or name in known:
            return name
        return OTHER if label == "model" else NONE

    def _cleaned(self, labels: Labels, given: Labels) -> Labels:
        return tuple(self._clean(label, name) for label, name in zip(labels, given, strict=True))

    def _of(self, family: Family) -> Series:
        return self._series[family.name]

    def _prepare(self, snapshot: Snapshot) -> None:
        """Make the reachable series, the most telling first, until there are as many as a page should hold."""
        lines = sum(len(series.cells) * _lines(series.family) for series in self._series.values())
        for family, labels in reach.series(snapshot):
            series = self._of(family)
            if labels in series.cells:
                continue
            lines += _lines(family)
            if lines > LIMIT:
                return
            if family.kind == "histogram":
                series.distribution(*labels)
            else:
                series.cell(*labels)


def _lines(family: Family) -> int:
    return len(family.bounds) + 3 if family.bounds else 1
