"""The prompt variables of a request: checked before deciding, so that an error never depends on the arm."""

from collections.abc import Mapping
from typing import Any

from proxy.config.problems import did_you_mean
from proxy.errors import BadRequest
from proxy.runtime import Service


def resolve(
    service: Service, extracted: Mapping[str, str], given: Mapping[str, Any], near: bool
) -> Mapping[str, Any]:
    """Return the variables for every prompt the policy can reach; the body's win over a caller prompt's.

    Raises `BadRequest` for a name unknown to all of them, or one that some prompt requires and nobody gave (unless
    the caller prompt is nearly known: then no prompt is added at all).
    """
    for name in given:
        if name not in service.variables:
            raise unknown(service, name)
    found: Mapping[str, Any] = {**extracted, **given} if extracted else given
    if not near and not service.required <= found.keys():
        name = min(service.required - found.keys())
        raise BadRequest(
            f"variable '{name}' is required by a prompt of '{service.policy.name}': "
            f"send it as pointsman.variables.{name}",
            param=f"pointsman.variables.{name}",
            code="missing_variable",
        )
    return found


def unknown(service: Service, name: str) -> BadRequest:
    hint = did_you_mean(name, service.variables) or f"known: {', '.join(sorted(service.variables)) or 'none'}"
    return BadRequest(
        f"no prompt of '{service.policy.name}' has a variable '{name[:100]}'; {hint}",
        param=f"pointsman.variables.{name[:100]}",
        code="unknown_variable",
    )
