"""From a draft that passed every check to the snapshot that serves."""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from proxy.bodies import COPIES
from proxy.config.document import Node, PathKey
from proxy.config.draft import Draft
from proxy.config.models import FORWARD, compile_models
from proxy.config.parts import compile_policy, params
from proxy.config.plan import PlannedPolicy, PlannedRoute
from proxy.config.schema import MODEL_OF_REQUEST
from proxy.config.schema import Hedge as Written
from proxy.keys import Caller, KeyRing, digest
from proxy.runtime import Limits, Server, Service, Snapshot
from proxy.upstreams.budget import Retries
from proxy.upstreams.health import Ejection
from proxy.wire.bounds import Bounds
from routes.failure import DEFAULT_FALLBACK
from routes.params import Params
from routes.prompt import Prompt
from routes.route import Fallback, Hedge, Route

# What stays out of the hash: the values of these keys, at these depths of the sections that have secrets.
_SECRET: Final = ("api_key", "api_keys", "admin_key", "key", "proxy", "headers")
_DEPTH: Final[Mapping[str | int, int]] = {"server": 2, "keys": 3, "upstreams": 3, "models": 3}


def compile_config(draft: Draft) -> Snapshot:
    """Build the snapshot. Asks nothing again: the checks have."""
    services = {name: _service(draft, policy) for name, policy in draft.policies.items()}
    routes = [route for policy in draft.policies.values() for route in policy.routes.values()]
    forwards = {_forward_at(draft, route) for route in routes if _forwards(draft, route)}
    models = compile_models(draft, forwards)  # first: it looks at files, too
    return Snapshot(
        hash=hash_of(draft),
        files=tuple(sorted(draft.files.seen)),
        server=_server(draft),
        keys=_keys(draft),
        models=models,
        services=services,
        retries=_retries(draft),
        ejection=_ejection(draft),
        bounds=Bounds(**draft.config.limits.model_dump()),
        needs_litellm=any(model.provider is not None for model in draft.config.models.values()),
        created=int(time.time()),
        answers=draft.files.disk.answers,
    )


def _server(draft: Draft) -> Server:
    written = draft.config.server
    admin_key = draft.secrets.get(("server", "admin_key"))
    return Server(
        listen=written.listen,
        admin=written.admin,
        admin_key=admin_key.reveal() if admin_key else None,
        workers=written.workers,
        announce=written.announce,
        drain=written.drain,
        limits=Limits(
            max_body=written.max_body,
            hold=written.hold,
            keep_alive_comment=written.keep_alive_comment,
            body_memory=max(written.body_memory, COPIES * written.max_body),
            max_head=written.max_head,
            max_header=written.max_header,
            max_headers=written.max_headers,
            head_timeout=written.head_timeout,
            body_timeout=written.body_timeout,
        ),
        access_log=written.access_log,
        max_memory=written.max_memory,
    )


def _retries(draft: Draft) -> Retries:
    written = draft.config.retries
    return Retries(written.budget, float(written.floor), written.spend, written.attempts, written.pause)


def _ejection(draft: Draft) -> Ejection:
    written = draft.config.ejection
    return Ejection(
        written.consecutive,
        written.rate,
        written.requests,
        written.window,
        written.base,
        written.longest,
        written.slow_start,
    )


def _keys(draft: Draft) -> KeyRing:
    callers = {}
    for index, key in enumerate(draft.config.keys):
        policies = frozenset(key.policies) if key.policies is not None else None
        secret = draft.secrets[("keys", index, "key")]
        callers[digest(secret.reveal())] = Caller(key.name, key.tenant or key.name, policies)
    return KeyRing(callers)


# --- routes ---


def _forwards(draft: Draft, route: PlannedRoute) -> bool:
    return route.spec.model == MODEL_OF_REQUEST and MODEL_OF_REQUEST not in draft.config.models


def _forward_at(draft: Draft, route: PlannedRoute) -> str:
    return route.spec.at or next(iter(draft.config.upstreams))


def _service(draft: Draft, policy: PlannedPolicy) -> Service:
    routes, reachable = _routes(draft, policy), policy.reachable
    prompts = [route.prompt for name, route in routes.items() if route.prompt and name in reachable]
    return Service(
        policy=compile_policy(draft, policy),
        routes=routes,
        baseline=routes.get(policy.spec.baseline or ""),
        variables=frozenset().union(*(prompt.known for prompt in prompts)),
        required=frozenset().union(*(prompt.required for prompt in prompts)),
    )


def _routes(draft: Draft, policy: PlannedPolicy) -> dict[str, Route]:
    """Each after the routes it falls back to; the checks have ruled out circles."""
    done: dict[str, Route] = {}

    def build(name: str) -> Route:
        if name not in done:
            planned = policy.routes[name]
            fallback = tuple(
                Fallback(build(each.to), frozenset(each.on) if each.on else DEFAULT_FALLBACK)
                for each in planned.spec.fallback
            )
            done[name] = _route(draft, policy, planned, fallback)
        return done[name]

    for name in policy.routes:
        build(name)
    return done


def _route(draft: Draft, policy: PlannedPolicy, planned: PlannedRoute, fallback: tuple[Fallback, ...]) -> Route:
    spec = planned.spec
    own = params(draft, spec.params, (*planned.path, "params"))
    if _forwards(draft, planned):
        model = FORWARD.format(_forward_at(draft, planned))
        of_model: tuple[Params, ...] = ()
    else:
        model = spec.model
        of_model = params(draft, draft.config.models[model].params, ("models", model, "params"))
    return Route(
        name=planned.name,
        model=model,
        prompt=_prompt(draft, spec.prompt),
        caller_system=spec.caller_system or policy.spec.caller_system or "merge",
        params=(*own, *of_model),
        fallback=fallback,
        timeouts=spec.timeouts.given(),
        hedge=_hedge(spec.hedge or (None if _forwards(draft, planned) else draft.config.models[model].hedge)),
    )


def _hedge(written: Written | None) -> Hedge | None:
    return Hedge(written.after, written.budget) if written is not None else None


def _prompt(draft: Draft, ref: str | None) -> Prompt | None:
    version = draft.library.find(ref) if ref is not None else None
    return version.prompt if version else None


# --- the hash ---


def hash_of(draft: Draft) -> str:
    """12 hex digits of all that was read, after expansion, without secrets and without tests."""
    written = _open(draft.root, ())
    assert isinstance(written, dict)
    written.pop("tests", None)
    every = [version for versions in draft.library.versions.values() for version in versions.values()]
    prompts = {version.ref: version.node.plain() for version in every}
    texts: Mapping[str, Any] = {"config": written, "prompts": prompts, "texts": sorted(draft.library.texts.values())}
    data = json.dumps(texts, sort_keys=True, default=str).encode()
    return hashlib.sha256(data).hexdigest()[:12]


def _open(node: Node, path: PathKey) -> Any:
    """What may be known of a value: secrets are only there or not."""
    if path and path[-1] in _SECRET and len(path) == _DEPTH.get(path[0]):
        return "***"
    if isinstance(node.value, dict):
        return {key: _open(child, (*path, key)) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_open(child, (*path, index)) for index, child in enumerate(node.value)]
    return node.value
