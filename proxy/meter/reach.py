"""Which labels a config can produce: its names, and the series that its rules, splits and fallbacks lead to."""

from collections.abc import Iterator
from itertools import chain, combinations, product

from policies.policy import Policy, Rule, Split
from proxy.meter import families
from proxy.meter.cells import Family, Labels
from proxy.meter.usage import KINDS
from proxy.runtime import Service, Snapshot
from proxy.upstreams.balance import RETRIED
from routes import failure
from routes.route import Route

NONE = "none"  # every label before a decision
STREAM = {False: "false", True: "true"}
RESULTS = ("ok", "cancelled", *failure.CLASSES)
APIS = ("chat", "completions", "responses", "embeddings")
UNDECIDED = ("client_error", "cancelled", "rejected")  # how a request ends that no policy took


def names(snapshot: Snapshot) -> dict[str, set[str]]:
    """Every name that config gives, by label."""
    routes = [route for service in snapshot.services.values() for route in _routes(service)]
    return {
        "tenant": {caller.tenant for caller in snapshot.keys.callers.values()},
        "policy": set(snapshot.services),
        "rule": {rule for service in snapshot.services.values() for rule in _rule_names(service.policy)},
        "route": {route.name for route in routes},
        "prompt": {prompt_of(route) for route in routes},
        "model": set(snapshot.models) | {route.model for route in routes},
        "endpoint": {endpoint.target.name for model in snapshot.models.values() for endpoint in model.endpoints},
    }


def splits(policy: Policy) -> Iterator[tuple[str, Split]]:
    """The rules that draw, and what they draw from."""
    for rule in _rules(policy):
        if isinstance(rule.then, Split):
            yield rule.name, rule.then


def series(snapshot: Snapshot) -> Iterator[tuple[Family, Labels]]:
    """Every series that requests can reach, those first that dashboards and alerts need most."""
    tenants = sorted({caller.tenant for caller in snapshot.keys.callers.values()}) or [NONE]
    services = snapshot.services.values()
    for policy in [NONE, *(service.policy.name for service in services)]:
        yield families.INFLIGHT, (policy,)
    yield from _of_upstreams(snapshot)
    for tenant, service in product(tenants, services):
        yield from _of_requests(tenant, service)
    for tenant, outcome in product(sorted({NONE, *tenants}), UNDECIDED):
        yield families.REQUESTS, (tenant, *(NONE,) * 5, outcome)
    for api in APIS:
        yield families.OVERHEAD, (api,)
    for source, tenant, service in product(families.SOURCES, tenants, services):
        yield from _of_money(tenant, service, source)
    for service in services:
        yield from _of_policy(service)
    for service in services:
        yield from _of_latency(service)


def prompt_of(route: Route) -> str:
    """The prompt's label, such as `support@3`."""
    return NONE if route.prompt is None else route.prompt.id


def _of_upstreams(snapshot: Snapshot) -> Iterator[tuple[Family, Labels]]:
    for model in snapshot.models.values():
        yield families.CLAMPED, (model.name,)
        if model.price is None:
            yield families.UNPRICED, (model.name,)
        for name in {endpoint.target.name: None for endpoint in model.endpoints}:
            yield families.ENDPOINT_STATE, (model.name, name)
            yield families.EJECTIONS, (model.name, name)
        for reason in sorted(RETRIED):
            yield families.RETRIES, (model.name, reason)
        for endpoint, result in product(model.endpoints, RESULTS):
            yield families.ATTEMPTS, (model.name, endpoint.target.name, result)


def _of_requests(tenant: str, service: Service) -> Iterator[tuple[Family, Labels]]:
    policy = service.policy.name
    for rule, decided, is_bare in _decided(service):
        for (route, _), outcome in product(_takers(decided), families.OUTCOMES):
            prompt = NONE if is_bare else prompt_of(route)
            yield families.REQUESTS, (tenant, policy, rule, route.name, route.model, prompt, outcome)


def _of_money(tenant: str, service: Service, source: str) -> Iterator[tuple[Family, Labels]]:
    policy = service.policy.name
    for _, decided, is_bare in _decided(service):
        for route, role in _booked(decided):
            prompt = NONE if is_bare else prompt_of(route)
            for kind in KINDS:
                labels = (tenant, policy, route.name, route.model, prompt, role, kind, source)
                yield families.TOKENS, labels
                yield families.COST, labels
            if service.baseline is None or (source == "upstream" and route.name != service.baseline.name):
                continue  # what another route would have cost is always an estimate
            for family in (families.BASELINE_COST, families.BASELINE_UNCACHED):
                yield family, (tenant, policy, route.name, service.baseline.name, source)


def _of_policy(service: Service) -> Iterator[tuple[Family, Labels]]:
    policy = service.policy.name
    if service.policy.known_prompts is not None:
        for result in families.CALLER_PROMPT:
            yield families.CALLER_PROMPTS, (policy, result)
    for _, decided, _ in _decided(service):
        causes: dict[str, frozenset[str]] = {}
        order = list(_flat(decided, causes))
        for origin, to in combinations(order, 2):
            for reason in sorted(causes[to.name]):
                yield families.FALLBACKS, (policy, origin.name, to.name, reason)


def _of_latency(service: Service) -> Iterator[tuple[Family, Labels]]:
    policy = service.policy.name
    for rule, decided, _ in _decided(service):
        for route, _ in _takers(decided):
            labels = (policy, rule, route.name, route.model)
            yield families.FIRST_TOKEN, labels
            yield families.PER_TOKEN, labels
            for stream in STREAM.values():
                yield families.DURATION, (*labels, stream)


def _rules(policy: Policy) -> Iterator[Rule]:
    yield from policy.rules
    yield policy.default


def _rule_names(policy: Policy) -> Iterator[str]:
    yield from (rule.name for rule in _rules(policy))
    if policy.near is not None:
        yield policy.near.rule


def _decided(service: Service) -> Iterator[tuple[str, Route, bool]]:
    """The rules, the routes that each can choose, and whether those and their fallbacks add no prompt there."""
    policy = service.policy
    for rule in _rules(policy):
        for decision in [arm.decision for arm in rule.then.arms] if isinstance(rule.then, Split) else [rule.then]:
            if decision.route in service.routes:
                yield decision.rule, service.routes[decision.route], False
    if policy.near is not None and policy.near.route in service.routes:
        yield policy.near.rule, service.routes[policy.near.route], True


def _takers(decided: Route) -> Iterator[tuple[Route, str]]:
    """The routes that may answer where this one was decided, and the role under which each is booked."""
    for route in _flat(decided, {}):
        yield route, "primary" if route is decided else "fallback"


def _booked(decided: Route) -> Iterator[tuple[Route, str]]:
    """These, and those that may be asked beside another and lose."""
    yield from _takers(decided)
    yield from ((route, "hedge") for route in _flat(decided, {}) if route.hedge is not None)


def _flat(route: Route, causes: dict[str, frozenset[str]]) -> Iterator[Route]:
    """The route and its fallbacks, nested ones too, each once; `causes` gets the failures that each answers to."""
    if route.name in causes:
        return
    causes[route.name] = frozenset()
    yield route
    for fallback in route.fallback:
        yield from _flat(fallback.to, causes)
        causes[fallback.to.name] |= fallback.on


def _routes(service: Service) -> Iterator[Route]:
    for route in chain(service.routes.values(), (decided for _, decided, _ in _decided(service))):
        yield from _flat(route, {})
