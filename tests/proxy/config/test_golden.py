"""The golden folder: configs with the exact words of `check`, and the compiled form of those that are right."""

import os
from pathlib import Path

import pytest

from policies.decision import Decision
from policies.policy import Rule
from proxy.config.load import Loaded, load
from proxy.config.problems import as_text
from proxy.runtime import Endpoint, Model, Service, Snapshot
from routes.route import Route

FOLDER = Path(__file__).parents[2] / "golden" / "config"
CASES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_check_says_exactly_this(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, _, expected = case.read_text().partition("\n===\n")
    env = write_files(given, tmp_path)
    monkeypatch.chdir(tmp_path)
    strict = env.pop("no-env", None) is None
    said = say(load("pointsman.yaml", env=env, strict_env=strict))
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        case.write_text(f"{given}\n===\n{said}")
    else:
        assert said == expected


def test_there_are_enough_cases() -> None:
    """Failing configs matter as much as good ones."""
    broken = [case for case in CASES if ": error[" in case.read_text()]
    assert len(broken) >= 60
    assert len(CASES) - len(broken) >= 20


def write_files(given: str, folder: Path) -> dict[str, str]:
    """Write the sections to files; return the environment."""
    env: dict[str, str] = {}
    for section in given.split("\n--- ")[1:]:
        name, _, text = section.partition("\n")
        if name == "env":
            env = dict(line.partition("=")[::2] for line in text.splitlines())
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if text else "")
    return env


def say(loaded: Loaded) -> str:
    lines = [as_text(loaded.problems, loaded.sources, loaded.secrets)] if loaded.problems else []
    return "\n".join(lines + (dump(loaded.snapshot) if loaded.snapshot else [])) + "\n"


def dump(snapshot: Snapshot) -> list[str]:
    """The compiled form, short enough to read."""
    server = snapshot.server
    lines = [f"listen {server.listen}, admin {server.admin}, workers {server.workers}"]
    lines += [
        f"key {caller.key} of {caller.tenant}: {', '.join(sorted(caller.policies)) if caller.policies else 'all'}"
        for caller in snapshot.keys.callers.values()
    ]
    lines += [
        str(each)
        for each in (snapshot.retries, snapshot.ejection, server.limits, snapshot.bounds)
        if each != type(each)()
    ]
    for model in snapshot.models.values():
        lines += dump_model(model)
    for name, service in snapshot.services.items():
        lines += dump_service(name, service)
    return lines


def dump_model(model: Model) -> list[str]:
    price = f"{model.price.id} {model.price.base.input}/{model.price.base.output}" if model.price else "none"
    affinity = f", affinity {model.affinity}" if model.affinity != "none" else ""
    lines = [f"model {model.name}: price {price}{affinity}"]
    for endpoint in model.endpoints:
        target, times = endpoint.target, endpoint.timeouts
        headers = " ".join(name.decode() for name, _ in target.headers)
        lines.append(
            f"  {endpoint.weight:.6g} {endpoint.model or '(as asked)'} at {target.name} {target.base_url}"
            f" by {target.client} [{headers}]"
            f" {times.connect:g}/{times.first_content:g}/{times.idle:g}/{times.total:g} s"
            f"{dump_place(endpoint)}"
        )
    return lines


def dump_place(endpoint: Endpoint) -> str:
    priority = f", priority {endpoint.priority}" if endpoint.priority else ""
    most = f", at most {endpoint.max_in_flight}" if endpoint.max_in_flight else ""
    return priority + most + (", bills after disconnect" if endpoint.bills_after_disconnect else "")


def dump_service(name: str, service: Service) -> list[str]:
    policy = service.policy
    known = ", ".join(prompt.id for prompt in policy.known_prompts.prompts) if policy.known_prompts else "none"
    lines = [f"policy {name}: baseline {policy.baseline or 'none'}, known prompts {known}"]
    lines += [f"  route {dump_route(route)}" for route in service.routes.values()]
    lines += [f"  rule {dump_rule(rule)}" for rule in (*policy.rules, policy.default)]
    if service.variables:
        lines.append(
            f"  variables {', '.join(sorted(service.variables))}; required {', '.join(sorted(service.required))}"
        )
    return lines


def dump_route(route: Route) -> str:
    parts = [f"{route.name}: {route.model}", route.prompt.id if route.prompt else "no prompt", route.caller_system]
    parts += [f"{len(route.params)} params"] if route.params else []
    parts += [f"else {each.to.name} on {len(each.on)}" for each in route.fallback]
    parts += [f"{kind} {seconds:g} s" for kind, seconds in route.timeouts.items()]
    return ", ".join(parts)


def dump_rule(rule: Rule) -> str:
    when = f"when {rule.when} " if rule.when else ""
    if isinstance(rule.then, Decision):
        return f"{rule.name}: {when}-> {rule.then.route}"
    arms = ", ".join(f"{arm.decision.route} {arm.weight:.6g}" for arm in rule.then.arms)
    return f"{rule.name}: {when}-> {arms}; salt {rule.then.salt}"
