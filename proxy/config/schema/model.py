"""What can be called: servers, the models at them, and what they cost."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from proxy import runtime
from proxy.config.schema.calls import Hedge, Timeouts
from proxy.config.schema.section import Section
from proxy.config.values import WHOLE, Duration, Flag, SecretText, wrong
from proxy.upstreams.base import Target

# Defaults are those of the values that serving uses.
TARGET: Final = Target("", "")
CALLED: Final = runtime.Model("", (), None)

Dialect: TypeAlias = Literal["openai", "vllm", "none"]


class TLS(Section):
    ca: str | None = Field(default=None, description="A CA bundle; default: the system's.")
    certificate: str | None = Field(default=None, description="A client certificate (needs `client: httpx`).")
    key: str | None = Field(default=None, description="Its private key.")


class Connection(Section):
    """How to reach a server; shared by upstreams and by models that carry their own address."""

    base_url: str | None = Field(default=None, description="The API's root, e.g. https://api.openai.com/v1.")
    api_key: SecretText | None = Field(
        default=None, description="`${VAR}`, `file:/path` or, for tests, the key itself."
    )
    auth: Literal["bearer", "api-key", "none"] | None = Field(
        default=None, description="The header that carries the key."
    )
    headers: dict[str, str] = Field(default={}, description="Sent with every call.")
    client: Literal["pool", "httpx"] | None = Field(default=None, description="`pool` is fast; `httpx` can do more.")
    http2: Flag = Field(default=False, description="Speak HTTP/2 (needs `client: httpx`).")
    proxy: str | None = Field(default=None, description="A forward proxy's URL (needs `client: httpx`).")
    tls: TLS = Field(default=TLS(), description="Trust and client certificates.")
    max_connections: Annotated[int, Field(ge=1, le=100_000), WHOLE] = Field(
        default=TARGET.max_connections, description="At most, per worker."
    )
    keep_alive: Duration = Field(default=TARGET.keep_alive, description="How long an idle connection is kept.")
    dialect: Dialect | None = Field(default=None, description="Which parameters the server knows; default: openai.")
    timeouts: Timeouts = Field(default=Timeouts(), description="For calls to this server.")
    bills_after_disconnect: Flag | None = Field(
        default=None, description="It bills the whole answer to a caller who leaves; default: false."
    )


class Upstream(Connection):
    """A server: address and credentials."""

    api_keys: list[SecretText] | None = Field(
        default=None, min_length=1, description="Several keys instead: each is an endpoint of its own."
    )

    @model_validator(mode="after")
    def _has_address(self) -> "Upstream":
        if self.base_url is None:
            raise wrong("missing-key", "needs `base_url`")
        if self.api_key is not None and self.api_keys is not None:
            raise wrong("conflicting-keys", "has `api_key` and `api_keys`: only one can be true")
        return self


class Endpoint(Section):
    at: str = Field(description="An upstream.")
    model: str | None = Field(
        default=None, min_length=1, description="The name sent upstream; default: the model's key."
    )
    weight: str | float | int | None = Field(
        default=None, description="`80%`, `rest`, or a number beside other numbers."
    )
    priority: Annotated[int, Field(ge=0, le=100), WHOLE] = Field(
        default=0, description="0 is called first; the next number when none before it can be."
    )
    max_in_flight: Annotated[int, Field(ge=1), WHOLE] | None = Field(
        default=None, description="Calls at once, per worker; more go to the others."
    )


class Rates(Section):
    """US$ per 1M tokens."""

    input: float | int = Field(description="Prompt tokens.")
    cached_input: float | int | None = Field(
        default=None, description="Prompt tokens read from a cache; default: input."
    )
    cache_write: float | int | None = Field(
        default=None, description="Prompt tokens written to a cache; default: input."
    )
    output: float | int = Field(description="Answer tokens.")
    reasoning: float | int | None = Field(default=None, description="Reasoning tokens; default: output.")


class PriceTable(Rates):
    above: dict[str, dict[str, float | int]] = Field(
        default={},
        description="Dearer rates for prompts of more tokens than the key says: {200000: {input: 4, output: 18}}.",
    )


class Model(Connection):
    """What can be called: endpoints at upstreams, an address of its own, or a LiteLLM provider."""

    at: str | None = Field(default=None, description="The upstream it is served at.")
    model: str | None = Field(default=None, min_length=1, description="The name sent upstream; default: the key.")
    endpoints: list[Endpoint] | None = Field(default=None, min_length=1, description="Several places, with weights.")
    provider: str | None = Field(
        default=None, min_length=1, description="A LiteLLM provider: called through LiteLLM."
    )
    options: dict[str, Any] = Field(default={}, description="Further arguments for LiteLLM, e.g. {api_version: ...}.")
    price: PriceTable | None = Field(
        default=None, description="US$ per 1M tokens; known models have a shipped price."
    )
    params: dict[str, Any] | None = Field(
        default=None, description="Request parameters to default, set, drop or rename."
    )
    cache_ttl: Duration = Field(default=CALLED.cache_ttl, description="How long the vendor's prompt cache lives.")
    reasoning: Flag = Field(
        default=False, description="It thinks long before its first content: `first_content` is 300s by default."
    )
    hedge: Hedge | None = Field(default=None, description="When to ask a second endpoint; default: never.")
    affinity: Literal["conversation", "user", "none"] = Field(
        default="none", description="What stays at one endpoint, so that the vendor's prompt cache serves it."
    )

    @model_validator(mode="after")
    def _has_one_address(self) -> "Model":
        ways = {"at": self.at, "endpoints": self.endpoints, "provider": self.provider}
        given = [way for way, value in ways.items() if value is not None]
        if self.base_url is not None and self.provider is None:
            given.append("base_url")
        if not given:
            raise wrong("missing-key", "says not where it runs: give it `at`, `endpoints`, `base_url` or `provider`")
        if len(given) > 1:
            raise wrong("conflicting-keys", f"has {' and '.join(f'`{way}`' for way in given)}: only one can be true")
        if self.endpoints is not None and self.model is not None:
            raise wrong("conflicting-keys", "has `endpoints` and `model`: the endpoints name their models")
        return self
