"""Policy tests: what they name must exist. Running them is another matter."""

from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.plan import PlannedPolicy
from proxy.config.problems import did_you_mean
from proxy.config.values import is_unknown


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
                "unknown-caller",
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
