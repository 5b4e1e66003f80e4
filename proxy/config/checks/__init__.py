"""Cross-checks: what is only wrong together. Each function looks at one subject and reports all it finds."""

from collections.abc import Callable
from typing import Final

from proxy.config.checks.callers import check_callers
from proxy.config.checks.policies import check_routes, check_rules
from proxy.config.checks.policy_tests import check_tests
from proxy.config.checks.servers import check_connections, check_keys, check_listeners, check_models, check_sizes
from proxy.config.checks.unused import check_unused
from proxy.config.draft import Draft
from proxy.config.models import check_prices_and_weights
from proxy.config.parts import check_caller_prompts, check_params, check_splits, compile_conditions

CHECKS: Final[tuple[Callable[[Draft], None], ...]] = (
    compile_conditions,
    check_listeners,
    check_sizes,
    check_connections,
    check_models,
    check_prices_and_weights,
    check_keys,
    check_routes,
    check_rules,
    check_params,
    check_splits,
    check_caller_prompts,
    check_callers,
    check_tests,
    check_unused,  # last: it is silent where anything is wrong
)


def check(draft: Draft) -> None:
    """Run every cross-check; problems go to the draft's files."""
    for subject in CHECKS:
        subject(draft)
