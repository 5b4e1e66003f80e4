"""Cross-checks: what is only wrong together. Each function looks at one subject and reports all it finds."""

import ipaddress
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.plan import PlannedPolicy, PlannedRoute, PlannedRule
from proxy.config.problems import did_you_mean
from proxy.config.schema import MODEL_OF_REQUEST, Connection, Model
from proxy.config.values import is_unknown
from routes.failure import CLASSES

RESERVED: Final = ("default", "caller-prompt-near", "none")  # rule names that decisions make themselves


def check(draft: Draft) -> None:
    """Run every cross-check; problems go to the draft's files."""
    for subject in CHECKS:
        subject(draft)


# --- servers and models ---


def check_listeners(draft: Draft) -> None:
    server = draft.config.server
    if server.listen == server.admin:
        draft.error(("server", "admin"), "same-listener", f"`listen` and `admin` are both {server.listen}")
    if not draft.written["keys"] and not is_loopback_address(server.listen):
        message = f"without `keys`, anyone who reaches {server.listen} could spend your money"
        suggestion = "add `keys:`, or listen on 127.0.0.1"
        draft.error(("server", "listen"), "open-listener", message, suggestion)


def is_loopback_address(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    return _is_loopback(address.rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    """A loopback or private address, or a name that only an own network resolves."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".svc", ".lan", ".test"))


def check_connections(draft: Draft) -> None:
    for path, connection, default_client in _connections(draft):
        if connection.base_url is not None and not is_unknown(connection.base_url):
            _check_url(draft, (*path, "base_url"), connection)
        client = connection.client or default_client
        needs = {"http2": connection.http2, "proxy": connection.proxy, "tls": connection.tls.certificate}
        for key, value in needs.items():
            if value and client == "pool" and connection.client is not None:
                draft.error(
                    (*path, key), "needs-httpx", f"`{key}` does not work with `client: pool`", "use `client: httpx`"
                )
        if bool(connection.tls.certificate) != bool(connection.tls.key):
            draft.error((*path, "tls"), "missing-key", "a client certificate needs `certificate` and `key`")
        for header in connection.headers:
            if header.lower() in ("host", "content-length", "transfer-encoding", "connection", "content-type"):
                draft.error(
                    (*path, "headers", header), "bad-header", f"the header {header!r} is the proxy's to set", key=True
                )
            elif not header.isascii() or not header.replace("-", "").replace("_", "").isalnum():
                draft.error(
                    (*path, "headers", header), "bad-header", f"{header!r} cannot be a header's name", key=True
                )
            elif any(c < " " or c > "~" for c in connection.headers[header]):
                draft.error(
                    (*path, "headers", header), "bad-header", f"the value of {header!r} must be printable ASCII"
                )


def _connections(draft: Draft) -> Iterator[tuple[PathKey, Connection, str]]:
    for name, upstream in draft.config.upstreams.items():
        yield ("upstreams", name), upstream, "pool"
    for name, model in draft.config.models.items():
        yield ("models", name), model, "litellm" if model.provider else "pool"


def _check_url(draft: Draft, path: PathKey, connection: Connection) -> None:
    def refuse(message: str, suggestion: str | None = None) -> None:
        draft.error(path, "bad-url", message, suggestion)

    assert connection.base_url is not None
    try:
        url: SplitResult = urlsplit(connection.base_url)
        host, _ = url.hostname, url.port
    except ValueError:
        return refuse("`base_url` is not a URL")
    if url.scheme not in ("http", "https") or not host:
        return refuse("`base_url` must be http://HOST... or https://HOST...")
    if url.username is not None or url.password is not None:
        return refuse("`base_url` holds a user or password", "use `api_key` or `headers`")
    if url.query or url.fragment:
        return refuse("`base_url` ends before `?` and `#`", "put an API version into the path or into `headers`")
    if any(c <= " " or c > "~" for c in connection.base_url):
        return refuse("`base_url` holds a space or a character that a URL cannot have")
    if url.path.rstrip("/").endswith(("/chat/completions", "/completions", "/responses", "/embeddings")):
        return refuse("`base_url` is the API's root", "cut the endpoint's path, as in https://api.openai.com/v1")
    if url.scheme == "http" and connection.api_key is not None and not _is_private(host):
        draft.warn(path, "insecure-url", f"the key would go to {host} in plain text", "use https://")
    return None


def check_models(draft: Draft) -> None:
    for name, model in draft.config.models.items():
        path: PathKey = ("models", name)
        if model.at is not None:
            draft.refer("upstreams", model.at, (*path, "at"), f"model {name!r}")
            _refuse_server_keys(draft, name, model)
        for index, endpoint in enumerate(model.endpoints or []):
            draft.refer("upstreams", endpoint.at, (*path, "endpoints", index, "at"), f"model {name!r}")
        if model.options and model.provider is None:
            draft.error(
                (*path, "options"), "conflicting-keys", "`options` are LiteLLM's: they need `provider`", key=True
            )
    if needing := [name for name, model in draft.config.models.items() if model.provider is not None]:
        if find_spec("litellm") is None:
            for name in needing:
                message = f"model {name!r} is called through LiteLLM, which is not installed"
                draft.warn(("models", name, "provider"), "needs-litellm", message, "pip install 'pointsman[litellm]'")


def _refuse_server_keys(draft: Draft, name: str, model: Model) -> None:
    for key in ("api_key", "auth", "client", "proxy"):
        if getattr(model, key) is not None:
            message = f"`{key}` of model {name!r} belongs to its upstream {model.at!r}"
            draft.error(("models", name, key), "conflicting-keys", message, key=True)


def check_keys(draft: Draft) -> None:
    seen: dict[object, int] = {}
    names: dict[str, int] = {}
    for index, key in enumerate(draft.config.keys):
        path: PathKey = ("keys", index)
        if key.name in names:
            draft.error((*path, "name"), "duplicate-name", f"the key {key.name!r} is here twice")
        names.setdefault(key.name, index)
        secret = draft.secrets.get((*path, "key"))
        if secret in seen:
            other = draft.config.keys[seen[secret]].name
            draft.error((*path, "key"), "same-key", f"{key.name!r} has the same key as {other!r}")
        if secret is not None:
            seen[secret] = index
        for number, policy in enumerate(key.policies or []):
            draft.refer("policies", policy, (*path, "policies", number), f"key {key.name!r}")


# --- policies, rules, routes ---


def _all_routes(draft: Draft) -> Iterator[tuple[PlannedPolicy | None, PlannedRoute]]:
    """Every route where it is written, once."""
    for name, spec in draft.config.routes.items():
        yield None, PlannedRoute(name, spec, ("routes", name), shared=True)
    for policy in draft.policies.values():
        for route in policy.routes.values():
            if not route.shared:
                yield policy, route


def check_routes(draft: Draft) -> None:
    for policy, route in _all_routes(draft):
        owner = f"route {route.name!r}" + (f" of policy {policy.name!r}" if policy else "")
        spec, path = route.spec, route.path
        if spec.model == MODEL_OF_REQUEST and MODEL_OF_REQUEST not in draft.written["models"]:
            _check_forward(draft, route, owner)
        else:
            draft.refer("models", spec.model, (*path, "model"), owner)
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
    name, at, version = ref.partition("@")
    if is_unknown(ref) or name in draft.library.broken:
        return
    if name not in draft.library.versions:
        draft.refer("prompts", name, path, owner)
    elif version == "*":
        draft.error(path, "bad-prompt", f"{ref!r} is all versions: {owner} needs one", draft.library.suggest(ref))
    elif draft.library.find(ref) is None:
        draft.error(path, "unknown-version", f"no prompt {ref!r} for {owner}", draft.library.suggest(ref))


def _check_fallbacks(draft: Draft, policy: PlannedPolicy) -> None:
    """Names that exist in this policy, and no way back to where one came from."""
    for route in policy.routes.values():
        for index, fallback in enumerate(route.spec.fallback):
            path = _fallback_path(draft, route, index)
            if not _has_route(draft, policy, fallback.to):
                owner = f"policy {policy.name!r}, to which {route.name!r} could fall back"
                draft.error(
                    path, "unknown-route", f"no route {fallback.to!r} in {owner}", _near_route(policy, fallback.to)
                )
            elif cycle := _way_back(policy, fallback.to, route.name):
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


# --- conditions: names that `when` uses ---


def check_callers_in_conditions(draft: Draft) -> None:
    """Tenants and keys that no configured key has can never be seen."""
    keys = draft.config.keys
    if not keys or not draft.whole:
        return
    known = {"tenant": {key.tenant or key.name for key in keys}, "key": {key.name for key in keys}}
    for path, fact, value in _wanted(draft):
        if fact in known and not is_unknown(value) and value not in known[fact]:
            draft.warn(path, f"unknown-{fact}", f"no key has the {fact} {value!r}", did_you_mean(value, known[fact]))


def _wanted(draft: Draft) -> Iterator[tuple[PathKey, str, str]]:
    """Every text that a condition compares `tenant` or `key` with."""

    def walk(value: Any, path: PathKey) -> Iterator[tuple[PathKey, str, str]]:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(item, (*path, index))
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in ("tenant", "key"):
                    yield from ((at, key, text) for at, text in _texts(inner, (*path, key)))
                elif key in ("all", "any", "not"):
                    yield from walk(inner, (*path, key))

    for name, when in draft.config.conditions.items():
        yield from walk(when, ("conditions", name))
    for policy in draft.policies.values():
        for rule in policy.rules:
            yield from walk(rule.when, (*rule.path, "when"))


def _texts(value: Any, path: PathKey) -> Iterator[tuple[PathKey, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, dict):
        for operator in ("in", "not"):
            if operator in value:
                yield from _texts(value[operator], (*path, operator))


# --- tests ---


def check_tests(draft: Draft) -> None:
    for index, test in enumerate(draft.config.tests):
        path: PathKey = ("tests", index)
        expect = test.expect
        asked = expect.policy or test.request.get("model")
        if expect.policy is not None:
            draft.refer("policies", expect.policy, (*path, "expect", "policy"), f"test {test.name!r}")
        if test.given.key is not None and test.given.key not in {key.name for key in draft.config.keys}:
            names = [key.name for key in draft.config.keys]
            draft.error(
                (*path, "given", "key"),
                "unknown-key-name",
                f"no key {test.given.key!r}",
                did_you_mean(test.given.key, names),
            )
        if not isinstance(asked, str) or expect.error is not None:
            continue
        policy = draft.policies.get(asked) or draft.policies.get("*")
        if policy is None:
            if expect.policy is None and not draft.is_known("policies", asked):
                draft.refer("policies", asked, (*path, "request", "model"), f"test {test.name!r}")
            continue
        rules = {rule.name for rule in policy.outcomes} | (
            {"caller-prompt-near"} if policy.spec.caller_prompt else set()
        )
        _expect(draft, path, "rule", expect.rule, rules, policy)
        _expect(draft, path, "route", expect.route, set(policy.routes), policy)


def _expect(
    draft: Draft, path: PathKey, kind: str, value: str | list[str] | None, known: set[str], policy: PlannedPolicy
) -> None:
    if not draft.whole:
        return
    for index, name in enumerate([value] if isinstance(value, str) else value or []):
        if name not in known and not is_unknown(name):
            where = (*path, "expect", kind) if isinstance(value, str) else (*path, "expect", kind, index)
            draft.error(
                where, f"unknown-{kind}", f"no {kind} {name!r} in policy {policy.name!r}", did_you_mean(name, known)
            )


# --- what nobody uses ---


def check_unused(draft: Draft) -> None:
    """Only asked of a config without errors: what is broken may have been the user of something."""
    if not draft.whole:
        return
    config = draft.config
    routes = [route for _, route in _all_routes(draft)]
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
                kind = section.removesuffix("s")
                draft.warn((section, name), f"unused-{kind}", f"nothing uses the {kind} {name!r}", key=True)
    _check_unused_routes(draft)


def _check_unused_routes(draft: Draft) -> None:
    used_shared: set[str] = set()
    for policy in draft.policies.values():
        used = {name for rule in policy.outcomes for name, _ in rule.named_routes} | {policy.spec.baseline}
        waiting = [name for name in used if name in policy.routes]
        while waiting:
            for fallback in policy.routes[waiting.pop()].spec.fallback:
                if fallback.to not in used and fallback.to in policy.routes:
                    waiting.append(fallback.to)
                used.add(fallback.to)
        used_shared |= {name for name in used if name in policy.routes and policy.routes[name].shared and name}
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


CHECKS: Final[tuple[Callable[[Draft], None], ...]] = (
    check_listeners,
    check_connections,
    check_models,
    check_keys,
    check_routes,
    check_rules,
    check_callers_in_conditions,
    check_tests,
    check_unused,
)
