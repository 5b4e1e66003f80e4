"""The config file as typed models: its keys, their types and what each is for. Names are resolved elsewhere.

What the leaves define themselves stays raw here (`when`, `split`, `sticky`, `params`, prompts): they compile it.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from proxy.config.schema.calls import Ejection, Hedge, Retries, Timeouts
from proxy.config.schema.model import TLS, Connection, Endpoint, Model, PriceTable, Upstream
from proxy.config.schema.policy import (
    MODEL_OF_REQUEST,
    Default,
    Failures,
    Fallback,
    Fallbacks,
    Outcome,
    Policy,
    Route,
    Rule,
    as_policy,
)
from proxy.config.schema.section import Section
from proxy.config.schema.server import Key, Limits, Server
from proxy.config.schema.test import Expect, Given, Test
from proxy.config.values import Name, PolicyName, is_unknown

__all__ = [
    "MODEL_OF_REQUEST", "SHARED", "TLS", "Config", "Connection", "Default", "Ejection", "Endpoint", "Expect",
    "Failures", "Fallback", "Fallbacks", "Given", "Hedge", "Key", "Limits", "Model", "Outcome", "Policy",
    "PriceTable", "Retries", "Route", "Rule", "Section", "Server", "Test", "Timeouts", "Upstream", "json_schema",
]  # fmt: skip


class Config(Section):
    """A whole config, includes merged."""

    version: Annotated[Literal[1], BeforeValidator(lambda value: 1 if is_unknown(value) else value)] = Field(
        default=1, description="The format of this file."
    )
    server: Server = Field(default=Server(), description="Listeners, workers and limits.")
    include: str | list[str] = Field(default=[], description="Globs of more files, relative to this one.")
    timeouts: Timeouts = Field(
        default=Timeouts(), description="For all calls; upstreams, models, routes may override."
    )
    retries: Retries = Field(default=Retries(), description="Further calls when an endpoint fails.")
    ejection: Ejection = Field(default=Ejection(), description="When failing endpoints are left out.")
    limits: Limits = Field(default=Limits(), description="What one request may ask for.")
    keys: list[Key] = Field(default=[], description="Callers. Without any, only loopback may listen.")
    upstreams: dict[Name, Upstream] = Field(default={}, description="Servers: address and credentials.")
    models: dict[Name, Model] = Field(default={}, description="What can be called, and its price.")
    prompts: dict[Name, str | dict[str, str | dict[str, Any]]] = Field(
        default={}, description="A folder with a file per version, or the versions themselves."
    )
    conditions: dict[Name, Any] = Field(
        default={}, description="Named conditions, used as text in `when`, `any`, `all`."
    )
    routes: dict[Name, Route] = Field(default={}, description="Routes that all policies share.")
    policies: dict[
        PolicyName, Annotated[Policy, BeforeValidator(as_policy, json_schema_input_type=str | Route | Policy)]
    ] = Field(default={}, description="The model names that clients ask for; `*` takes any other.")
    tests: list[Test] = Field(default=[], description="Policy tests.")


# The sections that included files may add to, and what one of their entries is called.
SHARED: Final = {
    "upstreams": "upstream",
    "models": "model",
    "prompts": "prompt",
    "routes": "route",
    "policies": "policy",
    "keys": "key",
    "conditions": "condition",
    "tests": "test",
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, shorthands included, for editors."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pointsman config", **schema} | {
        "title": "Pointsman config"
    }
