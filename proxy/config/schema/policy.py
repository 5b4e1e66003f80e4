"""How requests are decided and answered: routes, rules, policies."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.schema.calls import Hedge, Timeouts
from proxy.config.schema.section import Section
from proxy.config.values import Name, wrong

MODEL_OF_REQUEST: Final = "request"  # a route's `model:` that means the asked name


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_fallback(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


Failures: TypeAlias = Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class Fallback(Section):
    to: str = Field(description="The route that takes over.")
    # `if` is Python's; the alias is what the file says
    on: Failures | None = Field(default=None, alias="if", min_length=1, description="The failures it answers to.")


FallbackItem: TypeAlias = Annotated[Fallback, BeforeValidator(_as_fallback, json_schema_input_type=str | Fallback)]
Fallbacks: TypeAlias = Annotated[
    list[FallbackItem], BeforeValidator(_as_list, json_schema_input_type=str | Fallback | list[str | Fallback])
]


class Route(Section):
    """A named way to answer: a model, maybe with a prompt."""

    model: str = Field(description="A model's name; `request` forwards the name that was asked for.")
    at: str | None = Field(default=None, description="With `model: request`: the upstream to ask.")
    prompt: str | None = Field(
        default=None, description="A prompt: `support@3`, or `support` for the highest version."
    )
    caller_system: Literal["merge", "keep", "drop"] | None = Field(
        default=None, description="What becomes of the caller's own system text; default: merge."
    )
    params: dict[str, Any] | None = Field(
        default=None, description="Request parameters to default, set, drop or rename."
    )
    fallback: Fallbacks = Field(default=[], description="Routes to try when this one fails before any content.")
    timeouts: Timeouts = Field(default=Timeouts(), description="Over the model's.")
    hedge: Hedge | None = Field(default=None, description="Over the model's.")


def _as_outcome(value: Any) -> Any:
    """`strong` and `{model: strong}` are short for `{route: ...}`."""
    if isinstance(value, str) or (isinstance(value, dict) and "model" in value):
        return {"route": value}
    return value


class Outcome(Section):
    """A route, or a split between routes."""

    route: str | Route | None = Field(default=None, description="A route's name, or a route written here.")
    split: dict[str, Any] | None = Field(
        default=None, min_length=1, description="Shares by route: 25%, or one `rest`."
    )
    sticky: str | list[str] | None = Field(default=None, description="What keeps a caller on one arm.")
    salt: str | None = Field(
        default=None, min_length=1, description="Changes who gets which arm; default: policy and rule."
    )

    @model_validator(mode="after")
    def _has_one_outcome(self) -> "Outcome":
        if (self.route is None) == (self.split is None):
            if self.route is None:
                raise wrong("missing-key", "needs a `route` or a `split`")
            raise wrong("conflicting-keys", "has a `route` and a `split`: only one can be true")
        if self.split is None and (self.sticky is not None or self.salt is not None):
            raise wrong("conflicting-keys", "has `sticky` or `salt`, which belong to a `split`")
        return self


class Rule(Outcome):
    name: Name | None = Field(default=None, description="For labels and traces; default: rule-N.")
    when: Any = Field(description="The condition: facts, `all`, `any`, `not`, or a condition's name.")


Default: TypeAlias = Annotated[Outcome, BeforeValidator(_as_outcome, json_schema_input_type=str | Route | Outcome)]


class Policy(Section):
    """The rules behind one public model name. First match wins."""

    caller_prompt: str | None = Field(default=None, description="A prompt that callers send themselves: `support@*`.")
    baseline: str | None = Field(default=None, description="The route that savings and quality are measured against.")
    routes: dict[Name, Route] = Field(default={}, description="Its own routes, over the shared ones.")
    rules: list[Rule] = Field(default=[], description="In order; the first whose `when` holds decides.")
    default: Default = Field(description="A route or a split, when no rule matches.")
    caller_system: Literal["merge", "keep", "drop"] | None = Field(
        default=None, description="For routes that say nothing."
    )


def as_policy(value: Any) -> Any:
    """A route's name or a route is short for a policy that only has a default."""
    if isinstance(value, str) or (isinstance(value, dict) and "model" in value):
        return {"default": value}
    return value
