"""Policies with their shorthands written out: every outcome names a route, every route has a name and a path.

Both the cross-checks and the compiler read this, so that they cannot understand a shorthand differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.config.document import Node, PathKey
from proxy.config.schema import Config, Outcome, Policy, Route


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    name: str
    spec: Route
    path: PathKey  # where it is written
    shared: bool = False  # from the top-level `routes:`


@dataclass(frozen=True, slots=True)
class PlannedRule:
    name: str
    spec: Outcome
    path: PathKey
    route: str | None  # None where there is a split
    route_path: PathKey
    when: Any = None

    @property
    def named_routes(self) -> list[tuple[str, PathKey]]:
        """Every route the rule can lead to, with the place that says so."""
        if self.route is not None:
            return [(self.route, self.route_path)]
        return [(arm, (*self.path, "split", arm)) for arm in self.spec.split or {}]


@dataclass(frozen=True, slots=True)
class PlannedPolicy:
    name: str
    spec: Policy
    path: PathKey
    routes: Mapping[str, PlannedRoute]  # the shared ones, its own ones over them, and those written in place
    rules: tuple[PlannedRule, ...]
    default: PlannedRule

    @property
    def outcomes(self) -> tuple[PlannedRule, ...]:
        return (*self.rules, self.default)

    @property
    def reachable(self) -> set[str]:
        """The routes that a request can come to: by a rule, as the baseline, or as a fallback of these."""
        waiting = [name for rule in self.outcomes for name, _ in rule.named_routes] + [self.spec.baseline or ""]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in self.routes and name not in found:
                found.add(name)
                waiting.extend(fallback.to for fallback in self.routes[name].spec.fallback)
        return found


@dataclass(slots=True)
class _Planner:
    root: Node
    routes: dict[str, PlannedRoute] = field(default_factory=dict)

    def outcome(self, spec: Outcome, name: str, path: PathKey, when: Any = None) -> PlannedRule:
        route_path = (*path, "route") if self.root.at((*path, "route")) else path
        if isinstance(spec.route, Route):
            return PlannedRule(name, spec, path, self.in_place(spec.route, name, route_path), route_path, when)
        return PlannedRule(name, spec, path, spec.route, route_path, when)

    def in_place(self, spec: Route, rule: str, path: PathKey) -> str:
        """A route written in a rule is called like its model; if another one has that name, also like its rule."""
        for name in (spec.model, f"{spec.model}-{rule}"):
            if name not in self.routes or self.routes[name].spec == spec:
                break
        self.routes.setdefault(name, PlannedRoute(name, spec, path))
        return name


def plan(config: Config, root: Node) -> dict[str, PlannedPolicy]:
    shared = {name: PlannedRoute(name, spec, ("routes", name), True) for name, spec in config.routes.items()}
    return {name: _policy(name, spec, root, shared) for name, spec in config.policies.items()}


def _policy(name: str, spec: Policy, root: Node, shared: Mapping[str, PlannedRoute]) -> PlannedPolicy:
    path: PathKey = ("policies", name)
    own = {route: PlannedRoute(route, it, (*path, "routes", route)) for route, it in spec.routes.items()}
    planner = _Planner(root, {**shared, **own})
    rules = tuple(
        planner.outcome(rule, rule.name or f"rule-{index + 1}", (*path, "rules", index), rule.when)
        for index, rule in enumerate(spec.rules)
    )
    default_path = (*path, "default") if root.at((*path, "default")) else path
    default = planner.outcome(spec.default, "default", default_path)
    return PlannedPolicy(name, spec, path, planner.routes, rules, default)
