"""A small config, compiled by hand, and requests that it settled."""

from types import SimpleNamespace
from typing import Any

from policies.decision import Decision
from policies.policy import Arm, Policy, Rule, Split
from proxy.keys import Caller, KeyRing, digest
from proxy.meter import prices
from proxy.meter.cost import NO_COST
from proxy.meter.usage import Usage
from proxy.runtime import Endpoint, Model, Server, Service, Snapshot
from proxy.settled import Attempt, Settled
from proxy.upstreams.base import Target
from routes.route import Fallback, Route

PRICES = {
    "strong": prices.from_config({"input": 2, "cached_input": "0.2", "output": 10}),
    "lora": prices.from_config({"input": "0.10", "cached_input": "0.05", "output": "0.40"}),
    "free": None,
}


def model(name: str) -> Model:
    return Model(name, (Endpoint(Target(f"at-{name}", "http://127.0.0.1:1"), name, 1.0),), PRICES.get(name))


def service(name: str = "support", rules: int = 1, routes: dict[str, Route] | None = None) -> Service:
    prompt: Any = SimpleNamespace(id="support@3")
    strong = Route("strong", "strong", prompt)
    routes = routes or {
        "strong": strong,
        "tuned": Route("tuned", "lora", fallback=(Fallback(strong, frozenset({"timeout", "connect"})),)),
        "unpriced": Route("unpriced", "free"),
    }
    arms = (Arm(Decision(name, "default", "tuned", "tuned", 0.25), 0.25),)
    arms += (Arm(Decision(name, "default", "strong", "strong", 0.75), 0.75),)
    return Service(
        policy=Policy(
            name=name,
            rules=tuple(Rule(f"gold{n}", None, Decision(name, f"gold{n}", "strong"), "f", n) for n in range(rules)),
            default=Rule("default", None, Split(arms, "salt", lambda facts: ""), "f", 9),
            baseline="strong",
            near=Decision(name, "caller-prompt-near", "strong", untouched=True),
            known_prompts=SimpleNamespace(),  # type: ignore[arg-type]
        ),
        routes=routes,
        baseline=routes["strong"],
        variables=frozenset(),
        required=frozenset(),
    )


def snapshot(*services: Service, hash: str = "0123456789ab", tenants: tuple[str, ...] = ("search",)) -> Snapshot:
    keys = KeyRing({digest(tenant): Caller(f"{tenant}-key", tenant) for tenant in tenants})
    models = {name: model(name) for name in ("strong", "lora", "free")}
    return Snapshot(
        hash, (), Server(), keys, models, {found.policy.name: found for found in services or (service(),)}
    )


def attempt(**changed: Any) -> Attempt:
    usage = changed.pop("usage", Usage(100, 50, 0, 20, 5))
    name = changed.get("model", "lora")
    price = PRICES.get(name)
    fields: dict[str, Any] = {
        "route": "tuned", "role": "primary", "prompt": "none", "prompt_hash": "", "model": "lora",
        "sent_model": "support-lora-7", "answered_model": "support-lora-7", "endpoint": f"at-{name}",
        "started": 1000.0, "duration": 0.9, "first_content": 0.2, "result": "ok", "status": 200, "usage": usage,
        "source": "upstream", "cost": price.cost(usage) if price else NO_COST, "price": "config" if price else None,
    }  # fmt: skip
    return Attempt(**{**fields, **changed})


def settled(*attempts: Attempt, **changed: Any) -> Settled:
    attempts = attempts or (attempt(),)
    last = attempts[-1]
    fields: dict[str, Any] = {
        "id": "req_1", "client_id": None, "parent": None, "role": "primary", "api": "chat", "tenant": "search",
        "key": "search-key", "session": None, "config": "0123456789ab", "policy": "support", "rule": "default",
        "route": "tuned", "arm": "tuned", "propensity": 0.25, "served_by": last.route, "served_model": last.model,
        "served_prompt": last.prompt, "attempts": attempts, "outcome": "ok", "status": 200, "error": None,
        "stream": True, "caller_prompt": "none", "started": 1000.0, "duration": 1.0, "first_content": 0.25,
        "overhead": 0.0003, "cost": sum(a.cost.total for a in attempts), "baseline_route": "strong",
        "baseline_cost": 410_000_000, "baseline_uncached": 500_000_000, "baseline_source": "estimated",
        "fallbacks": (),
    }  # fmt: skip
    return Settled(**{**fields, **changed})
