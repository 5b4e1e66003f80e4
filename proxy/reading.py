"""Reading a request: from the caller's bytes to what a policy decides on and a route answers.

Serving, `pointsman explain` and policy tests all read here, so that none of them can see a request differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.caller_prompt import Recognition, recognise
from policies.facts import Facts
from proxy import variables
from proxy.keys import Caller
from proxy.runtime import Service
from proxy.wire import body as wire
from routes.route import Ask

UNKNOWN: Final = Recognition(result="none", prompt=None, variables={}, messages=[], cut=0)


@dataclass(slots=True)
class Reading:
    """A request as its policy understands it."""

    ask: Ask
    facts: Facts
    found: Recognition  # of a prompt that the caller sent itself


def parse(data: bytes, api: str = "chat") -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the request's JSON without `pointsman`, and that object. Raises `BadRequest`."""
    body = wire.parse(data)
    extras = wire.extras(body)
    if api == "chat":
        wire.check_chat(body)
    else:
        wire.check_named(body)
    return body, extras


def read(
    service: Service,
    caller: Caller,
    headers: Mapping[bytes, bytes],
    body: dict[str, Any],
    extras: Mapping[str, Any],
    *,
    now: float,
    request_id: str,
    api: str = "chat",
) -> Reading:
    """Recognise the caller's prompt, resolve the variables, and gather the facts. Raises `BadRequest`.

    `body` and `extras` are `parse`'s; `headers` have lower-case names; `now` is in Unix seconds.
    """
    known = service.policy.known_prompts
    messages = body.get("messages")
    found = UNKNOWN if known is None or not isinstance(messages, list) else recognise(known, messages)
    near = found.result == "near"
    given = variables.resolve(service, found.variables, extras.get("variables") or {}, near=near)
    if found.cut:
        messages = found.messages
    facts = Facts(
        body=body,
        headers=headers,
        extras=extras,
        api=api,
        tenant=caller.tenant,
        key=caller.key,
        now=now,
        request_id=request_id,
        messages=messages,
        caller_prompt=found.result,
    )
    return Reading(Ask(body, messages or [], given, untouched=near), facts, found)
