"""The config file as typed models: its keys, their types and what each is for. Names are resolved elsewhere.

What the leaves define themselves stays raw here (`when`, `split`, `sticky`, `params`, prompts): they compile it.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from proxy.config.values import (
    WHOLE,
    Address,
    Duration,
    Flag,
    Interval,
    Moment,
    Name,
    Patience,
    PolicyName,
    SecretText,
    Share,
    Size,
    Timeout,
    is_unknown,
    wrong,
)

Dialect: TypeAlias = Literal["openai", "vllm", "none"]
Bound: TypeAlias = Annotated[int, Field(ge=1), WHOLE]
MODEL_OF_REQUEST: Final = "request"  # a route's `model:` that means the asked name


class Section(BaseModel):
    """A map of the config. Unknown keys are refused; what was tried is noted for the suggestion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=(), defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _note_shape(cls, data: Any, info: ValidationInfo) -> Any:
        if info.context is not None and isinstance(data, dict):
            info.context[id(data)] = cls
        return data


class Timeouts(Section):
    connect: Timeout | None = Field(default=None, description="Name look-up and TCP.")
    tls: Timeout | None = Field(default=None, description="The TLS handshake.")
    first_content: Timeout | None = Field(
        default=None, description="From sending to the first content of the answer."
    )
    idle: Timeout | None = Field(default=None, description="Between two pieces of the answer, comments included.")
    idle_content: Timeout | None = Field(default=None, description="Between two pieces of content.")
    total: Timeout | None = Field(default=None, description="A route's answer, from start to end, retries included.")
    client: Patience | None = Field(
        default=None, description="Between two pieces that the caller takes of a stream; at most 60s."
    )

    def given(self) -> dict[str, float]:
        return {kind: seconds for kind, seconds in self.__dict__.items() if seconds is not None}


class Retries(Section):
    """Further calls of a model after one that failed, before the caller has had any content."""

    budget: Share = Field(default=0.2, description="Of the requests of the last 10 to 20 seconds, so many retries.")
    floor: float | int = Field(default=3, ge=0, le=1000, description="Retries a second that are always allowed.")
    spend: Share = Field(default=0.05, description="Of the money spent, what failed attempts may have cost.")
    attempts: Annotated[int, Field(ge=1, le=3), WHOLE] = Field(
        default=3, description="Calls of models for one request at most, fallbacks included."
    )
    pause: Duration = Field(
        default=2.0, description="At most, before the same endpoint is called again; 0s: it never is."
    )


class Hedge(Section):
    """A second call of a model, at another of its endpoints, where the first is late: the first content wins."""

    after: Timeout = Field(description="How late: from the call to its first content.")
    budget: Share = Field(default=0.02, description="Of the requests, and of the spend, what second calls may be.")


class Ejection(Section):
    """When a failing endpoint is left out, and for how long; the last one never is."""

    consecutive: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(default=5, description="Failures in a row, or")
    rate: Share = Field(default=0.5, description="this share of failures")
    requests: Annotated[int, Field(ge=1), WHOLE] = Field(default=20, description="among at least so many requests")
    window: Timeout = Field(default=10.0, description="in this time.")
    base: Timeout = Field(default=5.0, description="How long the first time; then twice as long each time.")
    longest: Timeout = Field(default=300.0, description="But never longer than this, and up to half as much jitter.")
    slow_start: Duration = Field(default=10.0, description="From the good probe to its full share again.")


class Limits(Section):
    """What one request may ask for; more is refused with 400 before any model is called."""

    keys: Bound = Field(default=50_000, description="Keys of all JSON objects of a body above 64 KiB.")
    values: Bound = Field(default=200_000, description="Texts, numbers, lists, objects of a body above 64 KiB.")
    messages: Bound = Field(default=10_000, description="Messages.")
    images: Bound = Field(default=1_000, description="Images, sounds and files, in all messages.")
    tools: Bound = Field(default=1_024, description="Tools.")
    n: Bound = Field(default=128, description="`n` and `best_of`: answers to one request.")
    max_tokens: Bound = Field(default=1_000_000, description="`max_tokens` and `max_completion_tokens`.")
    top_logprobs: Bound = Field(default=100, description="`top_logprobs`.")
    stop: Bound = Field(default=64, description="Stop sequences.")
    logit_bias: Bound = Field(default=10_000, description="Tokens in `logit_bias`.")
    schema_depth: Bound = Field(default=64, description="Levels of `tools`, or of `response_format`.")
    schema_values: Bound = Field(default=50_000, description="Values in `tools`, or in `response_format`.")
    schema_pattern: Bound = Field(default=4_096, description="Characters of a regular expression in these.")


class Server(Section):
    listen: Address = Field(default="127.0.0.1:8080", description="Where callers come: HOST:PORT.")
    admin: Address | None = Field(
        default="127.0.0.1:8081", description="Where /metrics and /admin are; null for nowhere."
    )
    admin_key: SecretText | None = Field(default=None, description="The key of /admin/*; without one it is closed.")
    workers: Annotated[int, Field(ge=1, le=512), WHOLE] = Field(default=1, description="Processes that serve.")
    max_body: Size = Field(default=10 * 2**20, description="The largest request body, e.g. 10MiB.")
    max_memory: Size | None = Field(
        default=None,
        ge=128 * 2**20,
        description="Memory of one worker; near it, requests are refused. A cgroup's limit holds, too.",
    )
    body_memory: Size = Field(
        default=256 * 2**20, description="The bodies of all requests not answered yet, per worker; then 503."
    )
    max_head: Size = Field(default=32 * 2**10, description="The largest request line with its headers.")
    max_header: Size = Field(default=8 * 2**10, description="The largest header.")
    max_headers: Annotated[int, Field(ge=1, le=10_000), WHOLE] = Field(
        default=100, description="Headers of a request."
    )
    head_timeout: Timeout = Field(default=10.0, description="How long a request's headers may take to come.")
    body_timeout: Timeout = Field(default=60.0, description="Between two pieces of a request's body.")
    announce: Duration = Field(default=0.0, description="On shutdown: how long to report not ready before closing.")
    drain: Duration = Field(default=600.0, description="On shutdown: how long running requests may take.")
    hold: Duration = Field(default=10.0, description="How long a stream's status waits for its first content.")
    keep_alive_comment: Interval = Field(default=10.0, description="Between comments in a stream that waits.")
    access_log: Flag = Field(default=True, description="Log one line per request.")


class Key(Section):
    name: Name = Field(description="The key's name in facts and logs.")
    key: SecretText = Field(description="The bearer token: `file:/path` or `${VAR}`.")
    tenant: Name | None = Field(default=None, description="Who the key belongs to; default: its name.")
    policies: list[str] | None = Field(default=None, description="The policies it may use; default: all.")


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
        default=1000, description="At most, per worker."
    )
    keep_alive: Duration = Field(default=50.0, description="How long an idle connection is kept.")
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
    cache_ttl: Duration = Field(default=300.0, description="How long the vendor's prompt cache lives.")
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


def _as_policy(value: Any) -> Any:
    """A route's name or a route is short for a policy that only has a default."""
    if isinstance(value, str) or (isinstance(value, dict) and "model" in value):
        return {"default": value}
    return value


class Given(Section):
    """What a test assumes beside the request's body."""

    headers: dict[str, str] = Field(default={}, description="Request headers.")
    tenant: str | None = Field(default=None, description="The caller's tenant.")
    key: str | None = Field(default=None, description="The caller's key, by name.")
    api: str | None = Field(default=None, description="chat (the default), completions, responses, embeddings.")
    time: Moment | None = Field(default=None, description="The moment, with its offset: 2026-11-21T23:00:00+01:00.")
    request_id: str | None = Field(default=None, description="What `chance` is drawn from.")
    chance: float | int | None = Field(default=None, ge=0, lt=1, description="The `chance` itself.")


class Expect(Section):
    """What a test demands; a list means any of these."""

    policy: str | None = Field(default=None, description="The policy that answers.")
    rule: str | list[str] | None = Field(default=None, description="The rule that matched.")
    route: str | list[str] | None = Field(default=None, description="The route chosen.")
    arm: str | list[str] | None = Field(default=None, description="The arm of a split.")
    model: str | list[str] | None = Field(default=None, description="The route's model.")
    prompt: str | list[str] | None = Field(default=None, description="The route's prompt, e.g. support@3, or none.")
    caller_prompt: Literal["exact", "near", "none"] | None = Field(default=None, description="How it was recognised.")
    error: str | None = Field(default=None, description="The code of the error that is the answer.")


class Test(Section):
    """One policy test: a request and the decision it must lead to."""

    __test__ = False  # pytest: this is no test class

    name: str = Field(min_length=1, description="What the test shows.")
    given: Given = Field(default=Given(), description="Headers, caller, time.")
    request: dict[str, Any] = Field(description="The request's JSON body.")
    expect: Expect = Field(description="Policy, rule, route, model, prompt.")


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
        PolicyName, Annotated[Policy, BeforeValidator(_as_policy, json_schema_input_type=str | Route | Policy)]
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
