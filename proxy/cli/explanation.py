"""An explanation for people: what was decided first, then each rule with what it asked and what it got."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from policies.logic import AnyOf, conjuncts
from policies.split import Split
from policies.vocabulary import shown
from proxy.cli.terminal import Paint, count, mark, value
from proxy.meter.cost import to_usd
from routes.failure import DEFAULT_FALLBACK
from routes.route import flatten

if TYPE_CHECKING:
    from policies.conditions import Condition
    from policies.decision import ConditionTrace, RuleTrace
    from policies.policy import Rule
    from proxy.explain import Explanation

SYMBOLS: Final = {"eq": "=", "not": "is not", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def describe(found: "Explanation", paint: Paint) -> Iterator[str]:
    """The whole explanation, a line at a time."""
    decision = found.decision
    yield paint(f"{decision.policy}: {decision.rule} -> {decision.route}", "bold")
    yield ""
    rows = {
        "model": found.route.model,
        "prompt": found.prompt,
        "variables": _variables(found),
        "caller prompt": _caller_prompt(found),
        "fallback": _fallback(found),
        "estimate": _estimate(found),
        "at worst": _worst(found),
        "baseline": _baseline(found),
    }
    for name, text in rows.items():
        if text:
            yield f"  {paint(f'{name:<14}', 'dim')}{text}"
    yield ""
    yield from rules(found, paint)


def rules(found: "Explanation", paint: Paint) -> Iterator[str]:
    """Each rule that was asked, with its conditions; the last one matched."""
    for rule in found.trace:
        yield from rule_lines(rule, found, paint)
    policy = found.service.policy
    left = [] if found.decision.untouched else [rule.name for rule in policy.rules][len(found.trace) :]
    if left:
        yield paint(f"  not asked: {', '.join(left)}", "dim")


def rule_lines(rule: "RuleTrace", found: "Explanation", paint: Paint) -> Iterator[str]:
    yield f"{_mark(rule.matched, paint)} {paint(rule.rule, 'bold')}  {paint(f'{rule.file}:{rule.line}', 'dim')}"
    policy = found.service.policy
    source = next((each for each in (*policy.rules, policy.default) if each.name == rule.rule), None)
    if source is not None and source.when is not None and _wants_telling(source.when):
        yield f"    {paint(f'when {source.when}', 'dim')}"
    yield from conditions(rule.conditions, paint)
    if rule.matched and source is not None:
        yield from _split(source, found, paint)


def conditions(asked: "Sequence[ConditionTrace]", paint: Paint) -> Iterator[str]:
    texts = [_condition(each) for each in asked]
    width = min(48, max(map(len, texts), default=0))
    for each, text in zip(asked, texts, strict=True):
        yield f"    {_mark(each.ok, paint)} {text:<{width}}  {paint('got', 'dim')} {value(each.got)}"


def _condition(asked: "ConditionTrace") -> str:
    if asked.op == "exists":
        return f"{asked.fact} {'exists' if asked.want else 'is missing'}"
    return f"{asked.fact} {SYMBOLS.get(asked.op, asked.op)} {value(asked.want)}"


def _mark(ok: bool, paint: Paint) -> str:
    return paint(mark(ok), "green" if ok else "red")


def _wants_telling(when: "Condition") -> bool:
    """Whether its comparisons alone do not say how they belong together; never where one holds a secret."""
    has_any = any(isinstance(part, AnyOf) for part in conjuncts(when.tree))
    return has_any and all(shown(name, name) == name for name in when.facts)


def _split(rule: "Rule", found: "Explanation", paint: Paint) -> Iterator[str]:
    if isinstance(rule.then, Split):
        arms = ", ".join(f"{arm.name} {arm.weight * 100:.6g}%" for arm in rule.then.arms)
        drawn = f"{found.decision.arm} ({found.decision.propensity * 100:.6g}%)"
        yield f"    {paint('split', 'dim')} {arms}: this caller gets {paint(drawn, 'bold')}"


def _variables(found: "Explanation") -> str:
    prompt = None if found.decision.untouched else found.route.prompt
    if prompt is None:
        return ""
    values: Mapping[str, Any] = {**prompt.defaults, **found.ask.variables}
    return ", ".join(f"{name} = {value(values[name])}" for name in sorted(prompt.known & values.keys()))


def _caller_prompt(found: "Explanation") -> str:
    seen = found.seen
    if seen.result == "near":
        return f"near {seen.prompt}: forwarded untouched"
    return f"exactly {seen.prompt}: {count(seen.cut, 'character')} cut" if seen.result == "exact" else ""


def _fallback(found: "Explanation") -> str:
    def on(causes: frozenset[str]) -> str:
        return "" if causes == DEFAULT_FALLBACK else f" ({', '.join(sorted(causes))})"

    return "; ".join(
        f"{route.name} -> {', '.join(each.to.name + on(each.on) for each in route.fallback)}"
        for route in flatten(found.route)
        if route.fallback
    )


def _estimate(found: "Explanation") -> str:
    estimate = found.estimate
    prompt = f"{count(estimate.tokens, 'prompt token')}"
    if estimate.output is None:
        before = "" if estimate.usd is None else " before any output (no max_tokens)"
        return f"{prompt}: {_usd(estimate.usd)}{before}"
    return f"{prompt}, at most {count(estimate.output, 'output token')}: {_usd(estimate.usd)}"


def _worst(found: "Explanation") -> str:
    if found.estimate.attempts == 1:
        return ""
    return f"{_usd(found.estimate.worst)} for {count(found.estimate.attempts, 'attempt')}"


def _baseline(found: "Explanation") -> str:
    baseline = found.baseline
    if baseline.route is None:
        return ""
    if baseline.cached == baseline.uncached:
        return f"{baseline.route}: {_usd(baseline.uncached)}"
    return f"{baseline.route}: {_usd(baseline.cached)} with its prompt cached, {_usd(baseline.uncached)} without"


def _usd(pico: int | None) -> str:
    return "unknown (a model has no price)" if pico is None else f"${to_usd(pico)}"
