"""What nothing leads to."""

from collections.abc import Iterator
from typing import Any

from proxy.config.checks.policies import all_routes
from proxy.config.draft import Draft
from proxy.config.problems import has_errors
from proxy.config.schema import MODEL_OF_REQUEST, SHARED


def check_unused(draft: Draft) -> None:
    """Only asked of a config without errors: what is broken may have been the user of something."""
    if not draft.whole or has_errors(draft.files.problems):
        return
    config = draft.config
    routes = [route for _, route in all_routes(draft)]
    used: dict[str, set[str]] = {
        "models": {route.spec.model for route in routes},
        "prompts": {route.spec.prompt.partition("@")[0] for route in routes if route.spec.prompt}
        | {p.spec.caller_prompt.partition("@")[0] for p in draft.policies.values() if p.spec.caller_prompt},
        "upstreams": {model.at for model in config.models.values() if model.at}
        | {endpoint.at for model in config.models.values() for endpoint in model.endpoints or []}
        | {route.spec.at for route in routes if route.spec.at},
        "conditions": _used_conditions(draft),
    }
    if any(route.spec.model == MODEL_OF_REQUEST and route.spec.at is None for route in routes):
        used["upstreams"] |= set(config.upstreams)
    for section, names in used.items():
        for name in getattr(config, section):
            if name not in names:
                kind = SHARED[section]
                draft.warn((section, name), f"unused-{kind}", f"nothing uses the {kind} {name!r}", key=True)
    _check_unused_routes(draft)


def _check_unused_routes(draft: Draft) -> None:
    used_shared: set[str] = set()
    for policy in draft.policies.values():
        used = policy.reachable
        used_shared |= {name for name in used if policy.routes[name].shared}
        for route in policy.routes.values():
            if not route.shared and route.name not in used:
                message = f"nothing in policy {policy.name!r} leads to the route {route.name!r}"
                draft.warn(route.path, "unused-route", message, key=True)
    for name in draft.config.routes:
        if name not in used_shared:
            draft.warn(("routes", name), "unused-route", f"no policy uses the shared route {name!r}", key=True)


def _used_conditions(draft: Draft) -> set[str]:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, dict):
            for key in ("all", "any", "not"):
                if key in value:
                    yield from texts(value[key])

    whens = [rule.when for policy in draft.policies.values() for rule in policy.rules]
    return {text for when in [*whens, *draft.config.conditions.values()] for text in texts(when)}
