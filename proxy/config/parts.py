"""The parts that the leaves compile: conditions, splits, params, caller prompts. Their problems get places here."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from policies import (
    Arm,
    Decision,
    Policy,
    Rule,
    Split,
    compile_sticky,
    compile_when,
    contradiction,
    index_rules,
    parse_shares,
    unreachable,
    vocabulary,
)
from policies.caller_prompt import KnownPrompt, KnownPrompts, Literal, Slot
from policies.problems import Problems as PolicyProblems
from proxy.config.document import PathKey, scalar
from proxy.config.draft import Draft
from proxy.config.plan import PlannedPolicy, PlannedRule
from proxy.config.problems import suggest
from proxy.config.values import Expanded, is_unknown
from routes.params import ParamProblems, Params, compile_params
from routes.prompt import Ref


class _Problem(Protocol):
    @property
    def path(self) -> tuple[str | int, ...]: ...
    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def suggestion(self) -> str | None: ...


def _report(draft: Draft, root: PathKey, problems: Iterable[_Problem]) -> None:
    for problem in problems:
        base = ("conditions", named) if (named := getattr(problem, "named", None)) else root
        key = problem.code.startswith("unknown-")
        report = draft.warn if getattr(problem, "severity", "error") == "warning" else draft.error
        code = "wrong-type" if problem.code == "type" else problem.code
        report((*base, *problem.path), code, problem.message, suggest(problem.suggestion), key=key)


# --- conditions ---


def compile_conditions(draft: Draft) -> None:
    """Compile every rule's `when`, and named conditions that no rule uses, for their mistakes."""
    named = {name: resolved(when) for name, when in draft.config.conditions.items()}
    for name, when in named.items():
        try:
            compile_when(when, named)
        except PolicyProblems as wrong:
            _report(draft, ("conditions", name), wrong.problems)
    for policy in draft.policies.values():
        for rule in policy.rules:
            _compile_rule(draft, rule, named)
        if all(rule.path in draft.conditions for rule in policy.rules):
            _check_reach(draft, policy)


def _compile_rule(draft: Draft, rule: PlannedRule, named: Mapping[str, Any]) -> None:
    path = (*rule.path, "when")
    try:
        condition = compile_when(resolved(rule.when), named)
    except PolicyProblems as wrong:
        _report(draft, path, wrong.problems)
        return
    draft.conditions[rule.path] = condition
    if why := contradiction(condition):
        draft.error(path, "never-matches", f"the rule {rule.name!r} can never match: {why}")


def _check_reach(draft: Draft, policy: PlannedPolicy) -> None:
    """Rules behind another one that takes all their requests."""
    paths = {index: rule.path for index, rule in enumerate(policy.rules)}
    nothing = Decision(policy.name, "", "")
    rules = [
        Rule(rule.name, draft.conditions[rule.path], nothing, "", index) for index, rule in enumerate(policy.rules)
    ]
    for rule, earlier in unreachable(rules):
        message = f"the rule {rule.name!r} is never reached: {earlier.name!r} before it takes all its requests"
        draft.error(paths[rule.line], "unreachable-rule", message, f"move it before {earlier.name!r}, or delete it")


def resolved(when: Any) -> Any:
    """Variables in conditions as the fact's type wants them; of those not set, something that fits."""
    if isinstance(when, list):
        return [resolved(item) for item in when]
    if not isinstance(when, dict):
        return when
    found = {}
    for key, value in when.items():
        fact = vocabulary.find(key)
        found[key] = resolved(value) if fact is None else _typed(value, fact.kind)
    return found


def _typed(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return [_typed(item, kind) for item in value]
    if isinstance(value, dict):
        if kind == "time" and any(is_unknown(item) for item in value.values()):
            return {"days": ["mon"]}
        return {key: _typed(item, kind) for key, item in value.items()}
    if kind in ("number", "flag") and is_unknown(value):
        return True if kind == "flag" else 1
    if kind in ("number", "flag") and isinstance(value, Expanded):
        return scalar(value)
    return str(value) if isinstance(value, Expanded) else value


# --- params ---


def params(draft: Draft, data: dict[str, Any] | None, path: PathKey) -> tuple[Params, ...]:
    """A `params` block, or nothing."""
    if data is None:
        return ()
    try:
        compiled = compile_params(_json(data))
    except ParamProblems as wrong:
        _report(draft, path, wrong.problems)
        return ()
    _report(draft, path, compiled.warnings)
    return (compiled,)


def _json(value: Any) -> Any:
    """Variables in free JSON mean what they would mean written out."""
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return scalar(value) if isinstance(value, Expanded) else value


def check_params(draft: Draft) -> None:
    for name, model in draft.config.models.items():
        params(draft, model.params, ("models", name, "params"))
    for name, route in draft.config.routes.items():
        params(draft, route.params, ("routes", name, "params"))
    for policy in draft.policies.values():
        for planned in policy.routes.values():
            if not planned.shared:
                params(draft, planned.spec.params, (*planned.path, "params"))


# --- splits and policies ---


def check_splits(draft: Draft) -> None:
    for policy in draft.policies.values():
        for rule in policy.outcomes:
            if rule.spec.split is None or any(is_unknown(share) for share in rule.spec.split.values()):
                continue
            try:
                parse_shares(shares(rule.spec.split))
            except PolicyProblems as wrong:
                _report(draft, (*rule.path, "split"), wrong.problems)
            try:
                compile_sticky(rule.spec.sticky)
            except PolicyProblems as wrong:
                _report(draft, (*rule.path, "sticky"), wrong.problems)


def shares(split: Mapping[str, Any]) -> dict[str, Any]:
    """A share from a variable may be a bare number: `${SHARE}` with 25 is 25%."""
    return {
        arm: f"{share}%" if isinstance(share, Expanded) and isinstance(scalar(share), int | float) else share
        for arm, share in split.items()
    }


def _split(policy: str, rule: PlannedRule) -> Split:
    assert rule.spec.split is not None
    written = {arm: str(share) for arm, share in shares(rule.spec.split).items()}
    unknown = any(is_unknown(share) for share in written.values())
    weights = dict.fromkeys(written, 1 / len(written)) if unknown else parse_shares(written)
    arms = tuple(
        Arm(Decision(policy, rule.name, arm, arm, propensity=weight or 1.0), weight)
        for arm, weight in weights.items()
    )
    return Split(arms, rule.spec.salt or f"{policy}/{rule.name}", compile_sticky(rule.spec.sticky))


def compile_policy(draft: Draft, policy: PlannedPolicy) -> Policy:
    """The rules of a policy that has passed every check."""
    rules = tuple(_rule(draft, policy, rule) for rule in policy.rules)
    near = None
    if policy.spec.caller_prompt is not None and policy.spec.baseline is not None:
        near = Decision(policy.name, "caller-prompt-near", policy.spec.baseline, untouched=True)
    return Policy(
        name=policy.name,
        rules=rules,
        default=_rule(draft, policy, policy.default),
        baseline=policy.spec.baseline,
        known_prompts=known_prompts(draft, policy),
        near=near,
        index=index_rules(rules),
    )


def _rule(draft: Draft, policy: PlannedPolicy, rule: PlannedRule) -> Rule:
    place = draft.root.place_of(rule.path, key=rule is policy.default)
    then = Decision(policy.name, rule.name, rule.route) if rule.route is not None else _split(policy.name, rule)
    return Rule(rule.name, draft.conditions.get(rule.path), then, place.file, place.line)


# --- caller prompts ---


def known_prompts(draft: Draft, policy: PlannedPolicy) -> KnownPrompts | None:
    ref = policy.spec.caller_prompt
    if ref is None:
        return None
    found = []
    for version in draft.library.matching(ref):
        segments = version.prompt.segments() if version.prompt else ""
        if not isinstance(segments, str):
            messages = tuple((role, tuple(_recognised(part) for part in parts)) for role, parts in segments)
            found.append(KnownPrompt(version.ref, version.version, messages))
    return KnownPrompts(found)


def _recognised(part: str | Ref) -> Literal | Slot:
    return Literal(part) if isinstance(part, str) else Slot(part.name)


def check_caller_prompts(draft: Draft) -> None:
    """Every version that callers may send must be recognisable."""
    for policy in draft.policies.values():
        ref = policy.spec.caller_prompt
        for version in draft.library.matching(ref) if ref is not None else ():
            segments = version.prompt.segments() if version.prompt else ()
            if isinstance(segments, str):
                message = f"{version.ref} cannot be recognised in what callers send: {segments}"
                suggestion = "only texts and plain `{{ variable }}`s with text between them can be"
                draft.error((*policy.path, "caller_prompt"), "unrecognisable-prompt", message, suggestion)
