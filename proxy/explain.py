"""Explaining a request without sending it: read and decided as when serving, in trace mode, with its cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from policies.caller_prompt import Recognition
from policies.decision import NOTHING_LIVE, Decision, Live, RuleTrace
from policies.engine import explain as decide
from policies.facts import Facts
from policies.vocabulary import shown
from proxy import forecast
from proxy.forecast import Alternative, Estimate
from proxy.keys import ANYONE, Caller
from proxy.meter.cost import PICO
from proxy.reading import parse, read, serving, unrenderable, unsendable
from proxy.runtime import Service, Snapshot
from routes.chat import Unencodable
from routes.prompt import RenderError
from routes.route import Ask, Route


@dataclass(frozen=True, slots=True)
class Situation:
    """What a request comes with beside its body."""

    now: float  # Unix seconds
    headers: Mapping[bytes, bytes] = field(default_factory=dict)  # names in lower case
    caller: Caller = ANYONE
    request_id: str = ""  # ours, which `chance` is drawn from; without one that fact is missing
    chance: float | None = None  # instead of the drawn one
    api: str = "chat"


@dataclass(frozen=True, slots=True)
class Explanation:
    service: Service
    ask: Ask
    facts: Facts
    seen: Recognition  # of a prompt that the caller sent itself
    decision: Decision
    trace: tuple[RuleTrace, ...]  # the rules that were asked; the last one matched
    route: Route
    estimate: Estimate
    baseline: Alternative

    @property
    def prompt(self) -> str:
        """As the headers name it."""
        own = self.route.prompt
        return "none" if own is None or self.decision.untouched else own.id

    def as_dict(self) -> dict[str, Any]:
        """The public form of `explain --json`. Money in US$."""
        decision, estimate, baseline = self.decision, self.estimate, self.baseline
        return {
            "facts": self.facts.as_dict(),
            "policy": decision.policy,
            "rule": decision.rule,
            "route": decision.route,
            "arm": decision.arm,
            "model": self.route.model,
            "prompt": self.prompt,
            "trace": [asdict(rule) for rule in self.trace],
            "estimate": {
                "tokens": estimate.tokens,
                "usd": usd(estimate.usd),
                "worst_case_usd": usd(estimate.worst),
                "worst_case_attempts": estimate.attempts,
            },
            "baseline": {
                "route": baseline.route,
                "usd_cached": usd(baseline.cached),
                "usd_uncached": usd(baseline.uncached),
            },
        }


def explain(snapshot: Snapshot, data: bytes, situation: Situation, live: Live = NOTHING_LIVE) -> Explanation:
    """What this snapshot would do with the request body `data`. Raises the `PointsmanError` that serving would."""
    given = situation
    body, extras, _ = parse(data, given.api, snapshot.bounds)
    service = serving(snapshot, given.caller, body["model"])
    ask, facts, seen = read(
        service, given.caller, given.headers, body, extras, given.now, given.request_id, given.api
    )
    if given.chance is not None:
        facts.__dict__["chance"] = given.chance  # what is computed once is a plain attribute
    decision, trace = decide(service.policy, facts, live)
    route = service.routes[decision.route]
    try:
        estimate = forecast.estimate(snapshot, route, ask)
        baseline = forecast.alternative(snapshot, service, ask)
    except RenderError as error:
        raise unrenderable(error) from None
    except Unencodable as error:
        raise unsendable(error) from None
    why = tuple(map(_masked, trace))
    return Explanation(service, ask, facts, seen, decision, why, route, estimate, baseline)


def caller_of(
    snapshot: Snapshot, headers: Mapping[bytes, bytes], key: str | None = None, tenant: str | None = None
) -> Caller:
    """Who sends the request: the key of that name, else the one its `Authorization` header carries, else nobody.

    `tenant` replaces theirs. Raises `Unauthorized` for a wrong header, `LookupError` when no key has that name.
    """
    authorization = headers.get(b"authorization")
    if key is not None:
        found = {caller.key: caller for caller in snapshot.keys.callers.values()}[key]
    else:
        found = ANYONE if authorization is None else snapshot.keys.caller(authorization)
    return found if tenant is None else replace(found, tenant=tenant)


def usd(pico: int | None) -> float | None:
    return None if pico is None else pico / PICO


def _masked(rule: RuleTrace) -> RuleTrace:
    """A condition on a secret header names the secret, too."""
    return replace(rule, conditions=tuple(replace(c, want=shown(c.fact, c.want)) for c in rule.conditions))
