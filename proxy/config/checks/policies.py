"""Routes, rules, fallbacks and prompts: names that do not exist, rings, what cannot be told apart."""

from collections.abc import Iterator
from typing import Final

from proxy.config.checks.servers import refuse_lonely_hedge
from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.plan import PlannedPolicy, PlannedRoute, PlannedRule
from proxy.config.problems import did_you_mean
from proxy.config.schema import MODEL_OF_REQUEST
from proxy.config.values import is_unknown
from routes.failure import CLASSES

RESERVED: Final = ("default", "caller-prompt-near", "none")  # rule names that decisions make themselves


def all_routes(draft: Draft) -> Iterator[tuple[PlannedPolicy | None, PlannedRoute]]:
    """Every route where it is written, once."""
    for name, spec in draft.config.routes.items():
        yield None, PlannedRoute(name, spec, ("routes", name), shared=True)
    for policy in draft.policies.values():
        for route in policy.routes.values():
            if not route.shared:
                yield policy, route


def check_routes(draft: Draft) -> None:
    for policy, route in all_routes(draft):
        owner = f"route {route.name!r}" + (f" of policy {policy.name!r}" if policy else "")
        spec, path = route.spec, route.path
        if spec.model == MODEL_OF_REQUEST and MODEL_OF_REQUEST not in draft.written["models"]:
            _check_forward(draft, route, owner)
        else:
            draft.refer("models", spec.model, (*path, "model"), owner)
            if spec.hedge is not None and spec.model in draft.config.models:
                refuse_lonely_hedge(draft, spec.model, (*path, "hedge"))
            if spec.at is not None:
                draft.error((*path, "at"), "conflicting-keys", "`at` only goes with `model: request`", key=True)
        if spec.prompt is not None:
            check_prompt_ref(draft, spec.prompt, (*path, "prompt"), owner)
        for index, fallback in enumerate(spec.fallback):
            for number, failure in enumerate(fallback.on or []):
                if failure not in CLASSES and not is_unknown(failure):
                    where = (*path, "fallback", index, "if", number)
                    draft.error(where, "unknown-failure", f"no failure {failure!r}", did_you_mean(failure, CLASSES))
    for policy in draft.policies.values():
        _check_fallbacks(draft, policy)


def _check_forward(draft: Draft, route: PlannedRoute, owner: str) -> None:
    if route.spec.at is not None:
        draft.refer("upstreams", route.spec.at, (*route.path, "at"), owner)
    elif len(draft.written["upstreams"]) != 1:
        known = ", ".join(sorted(draft.written["upstreams"]))
        suggestion = f"add `at:`, one of {known}" if known else "add an upstream"
        draft.error((*route.path, "model"), "missing-key", f"{owner} says not which upstream to ask", suggestion)


def check_prompt_ref(draft: Draft, ref: str, path: PathKey, owner: str) -> None:
    name, _, version = ref.partition("@")
    if is_unknown(ref) or name in draft.library.broken:
        return
    if name not in draft.library.versions:
        draft.refer("prompts", name, path, owner)
    elif version == "*":
        draft.error(path, "bad-prompt", f"{ref!r} is all versions: {owner} needs one", draft.library.suggest(ref))
    elif draft.library.find(ref) is None:
        draft.error(path, "unknown-version", f"no prompt {ref!r} for {owner}", draft.library.suggest(ref))


def _check_fallbacks(draft: Draft, policy: PlannedPolicy) -> None:
    """Names that exist in this policy, and no way back to where one came from; a ring is told once."""
    rings: set[frozenset[str]] = set()
    for route in policy.routes.values():
        for index, fallback in enumerate(route.spec.fallback):
            path = _fallback_path(draft, route, index)
            if not _has_route(draft, policy, fallback.to):
                owner = f"policy {policy.name!r}, to which {route.name!r} could fall back"
                draft.error(
                    path, "unknown-route", f"no route {fallback.to!r} in {owner}", _near_route(policy, fallback.to)
                )
            elif (cycle := _way_back(policy, fallback.to, route.name)) and frozenset(cycle) not in rings:
                rings.add(frozenset(cycle))
                draft.error(path, "fallback-cycle", f"fallbacks go in a circle: {' -> '.join([route.name, *cycle])}")


def _fallback_path(draft: Draft, route: PlannedRoute, index: int) -> PathKey:
    path: PathKey = (*route.path, "fallback", index)
    return (*path, "to") if draft.root.at((*path, "to")) else path


def _way_back(policy: PlannedPolicy, start: str, goal: str) -> list[str] | None:
    """The shortest way along fallbacks from `start` to `goal`."""
    ways, seen = [[start]], {start}
    for way in ways:
        if way[-1] == goal:
            return way
        follow = policy.routes[way[-1]].spec.fallback if way[-1] in policy.routes else []
        for fallback in follow:
            if fallback.to not in seen or fallback.to == goal:
                seen.add(fallback.to)
                ways.append([*way, fallback.to])
    return None


def _has_route(draft: Draft, policy: PlannedPolicy, name: str) -> bool:
    if name in policy.routes or is_unknown(name) or name in draft.written["routes"]:
        return True
    own = draft.written.get(f"routes of {policy.name}", frozenset())
    return name in own


def _near_route(policy: PlannedPolicy, name: str) -> str | None:
    return did_you_mean(name, policy.routes)


def check_rules(draft: Draft) -> None:
    for policy in draft.policies.values():
        names: dict[str, PlannedRule] = {}
        for rule in policy.rules:
            where = (*rule.path, "name")
            if rule.name in RESERVED:
                draft.error(where, "reserved-name", f"the rule name {rule.name!r} is reserved")
            elif rule.name in names:
                message = f"policy {policy.name!r} has two rules named {rule.name!r}"
                draft.error(where, "duplicate-name", message)
            names.setdefault(rule.name, rule)
        for rule in policy.outcomes:
            for name, path in rule.named_routes:
                if not _has_route(draft, policy, name):
                    message = f"no route {name!r} in policy {policy.name!r}"
                    suggestion = _near_route(policy, name)
                    if suggestion is None and name in draft.written["models"]:
                        suggestion = f"{name!r} is a model: write `{{model: {name}}}`"
                    draft.error(path, "unknown-route", message, suggestion, key="split" in path)
        baseline = policy.spec.baseline
        if baseline is not None and not _has_route(draft, policy, baseline):
            message = f"no route {baseline!r} in policy {policy.name!r}"
            draft.error((*policy.path, "baseline"), "unknown-route", message, _near_route(policy, baseline))
        _check_caller_prompt(draft, policy)


def _check_caller_prompt(draft: Draft, policy: PlannedPolicy) -> None:
    ref = policy.spec.caller_prompt
    if ref is None:
        return
    path = (*policy.path, "caller_prompt")
    name, _, version = ref.partition("@")
    if version in ("", "*"):
        if not is_unknown(name) and name not in draft.library.broken:
            draft.refer("prompts", name, path, f"`caller_prompt` of policy {policy.name!r}")
    else:
        check_prompt_ref(draft, ref, path, f"`caller_prompt` of policy {policy.name!r}")
    if policy.spec.baseline is None:
        message = f"policy {policy.name!r} recognises a caller prompt but has no `baseline`"
        draft.error(path, "missing-baseline", message, "name the route that answers nearly known prompts")
