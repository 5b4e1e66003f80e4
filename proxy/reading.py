"""Reading a request: from the caller's bytes to what a policy decides on and a route answers.

Serving, `pointsman explain` and policy tests all read here, so that none of them can see a request differently.
"""

from collections.abc import Mapping
from typing import Any, Final

from policies.caller_prompt import Recognition, recognise
from policies.facts import Facts
from proxy import variables
from proxy.errors import BadRequest, NotFound
from proxy.keys import Caller
from proxy.runtime import Service, Snapshot
from proxy.wire import body as wire
from proxy.wire.bounds import Bounds
from routes.chat import Unencodable
from routes.prompt import RenderError
from routes.route import Ask

NO_EXTRAS: Final[Mapping[str, Any]] = {}
UNKNOWN: Final = Recognition(result="none", prompt=None, variables={}, messages=[], cut=0)


def parse(
    data: bytes, api: str = "chat", bounds: Bounds = wire.DEFAULT
) -> tuple[dict[str, Any], Mapping[str, Any], bool]:
    """Return the request's JSON without `pointsman`, that object, and whether all is text. Raises `BadRequest`."""
    body = wire.parse(data, bounds)
    extras, is_text = examine(body, api, bounds)
    return body, extras, is_text


def examine(body: dict[str, Any], api: str, bounds: Bounds) -> tuple[Mapping[str, Any], bool]:
    """Check a request's JSON and take `pointsman` out of it. Returns that, and whether all is text."""
    extras = wire.extras(body) if "pointsman" in body else NO_EXTRAS
    if api == "chat":
        return extras, wire.check_chat(body, bounds)
    wire.check_named(body, bounds)
    return extras, True


def may_use(caller: Caller, name: str) -> bool:
    """Whether the caller's key is for the policy of this name."""
    return caller.policies is None or name in caller.policies


def serving(snapshot: Snapshot, caller: Caller, model: str) -> Service:
    """The policy that serves the asked model. Raises `NotFound`, also for one that the key may not use."""
    service = snapshot.services.get(model)
    if service is None or model == "*":
        service = snapshot.services.get("*")
    if service is None or not may_use(caller, service.policy.name):
        raise NotFound(
            f"the model '{model[:200]}' does not exist or you do not have access to it",
            param="model",
            code="model_not_found",
        )
    return service


def read(
    service: Service,
    caller: Caller,
    headers: Mapping[bytes, bytes],
    body: dict[str, Any],
    extras: Mapping[str, Any],
    now: float,
    request_id: str,
    api: str = "chat",
) -> tuple[Ask, Facts, Recognition]:
    """Return what a route answers, what rules look at, and what was recognised of a prompt that the caller sent.

    `body` and `extras` are `parse`'s; `headers` have lower-case names; `now` is in Unix seconds. Raises `BadRequest`
    where variables are missing or unknown.
    """
    known = service.policy.known_prompts
    messages = body.get("messages")
    found = UNKNOWN if known is None or not isinstance(messages, list) else recognise(known, messages)
    near = found.result == "near"
    given = variables.resolve(service, found.variables, extras.get("variables") or {}, near=near)
    if found.cut:
        messages = found.messages
    facts = Facts(  # positional: keywords would nearly double the time this takes
        body,
        headers,
        extras,
        api,
        caller.tenant,
        caller.key,
        now,
        request_id,
        messages,
        found.result,
    )
    return Ask(body, messages or [], given, near), facts, found


def unrenderable(error: RenderError) -> BadRequest:
    """What the caller is told whose variables do not fit the prompt."""
    return BadRequest(f"the prompt cannot be rendered: {error}", code="invalid_variables")


def unsendable(error: Unencodable) -> BadRequest:
    """What the caller is told of a body that can be read but not written as JSON again."""
    return BadRequest(f"the request cannot be sent on as JSON: {error}", code="invalid_json")
