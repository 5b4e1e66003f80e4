"""The listeners, and what they take of callers."""

from typing import Annotated, Final, TypeAlias

from pydantic import Field

from proxy import runtime
from proxy.config.schema.section import Section
from proxy.config.values import (
    WHOLE,
    Address,
    Duration,
    Flag,
    Interval,
    Name,
    SecretText,
    Size,
    Timeout,
)
from proxy.wire import bounds

# Defaults are those of the values that serving uses.
SERVER: Final = runtime.Server()
TAKEN: Final = SERVER.limits
BOUNDS: Final = bounds.Bounds()

Bound: TypeAlias = Annotated[int, Field(ge=1), WHOLE]


class Limits(Section):
    """What one request may ask for; more is refused with 400 before any model is called."""

    keys: Bound = Field(default=BOUNDS.keys, description="Keys of all JSON objects of a body above 64 KiB.")
    values: Bound = Field(default=BOUNDS.values, description="Texts, numbers, lists, objects of a body above 64 KiB.")
    messages: Bound = Field(default=BOUNDS.messages, description="Messages.")
    images: Bound = Field(default=BOUNDS.images, description="Images, sounds and files, in all messages.")
    tools: Bound = Field(default=BOUNDS.tools, description="Tools.")
    n: Bound = Field(default=BOUNDS.n, description="`n` and `best_of`: answers to one request.")
    max_tokens: Bound = Field(default=BOUNDS.max_tokens, description="`max_tokens` and `max_completion_tokens`.")
    top_logprobs: Bound = Field(default=BOUNDS.top_logprobs, description="`top_logprobs`.")
    stop: Bound = Field(default=BOUNDS.stop, description="Stop sequences.")
    logit_bias: Bound = Field(default=BOUNDS.logit_bias, description="Tokens in `logit_bias`.")
    schema_depth: Bound = Field(
        default=BOUNDS.schema_depth, description="Levels of `tools`, or of `response_format`."
    )
    schema_values: Bound = Field(
        default=BOUNDS.schema_values, description="Values in `tools`, or in `response_format`."
    )
    schema_pattern: Bound = Field(
        default=BOUNDS.schema_pattern, description="Characters of a regular expression in these."
    )


class Server(Section):
    listen: Address = Field(default=SERVER.listen, description="Where callers come: HOST:PORT.")
    admin: Address | None = Field(
        default=SERVER.admin, description="Where /metrics and /admin are; null for nowhere."
    )
    admin_key: SecretText | None = Field(
        default=SERVER.admin_key, description="The key of /admin/*; without one it is closed."
    )
    workers: Annotated[int, Field(ge=1, le=512), WHOLE] = Field(
        default=SERVER.workers, description="Processes that serve."
    )
    max_body: Size = Field(default=TAKEN.max_body, description="The largest request body, e.g. 10MiB.")
    max_memory: Size | None = Field(
        default=SERVER.max_memory,
        ge=128 * 2**20,
        description="Memory of one worker; near it, requests are refused. A cgroup's limit holds, too.",
    )
    body_memory: Size = Field(
        default=TAKEN.body_memory, description="The bodies of all requests not answered yet, per worker; then 503."
    )
    max_head: Size = Field(default=TAKEN.max_head, description="The largest request line with its headers.")
    max_header: Size = Field(default=TAKEN.max_header, description="The largest header.")
    max_headers: Annotated[int, Field(ge=1, le=10_000), WHOLE] = Field(
        default=TAKEN.max_headers, description="Headers of a request."
    )
    head_timeout: Timeout = Field(
        default=TAKEN.head_timeout, description="How long a request's headers may take to come."
    )
    body_timeout: Timeout = Field(default=TAKEN.body_timeout, description="Between two pieces of a request's body.")
    announce: Duration = Field(
        default=SERVER.announce, description="On shutdown: how long to report not ready before closing."
    )
    drain: Duration = Field(default=SERVER.drain, description="On shutdown: how long running requests may take.")
    hold: Duration = Field(default=TAKEN.hold, description="How long a stream's status waits for its first content.")
    keep_alive_comment: Interval = Field(
        default=TAKEN.keep_alive_comment, description="Between comments in a stream that waits."
    )
    access_log: Flag = Field(default=SERVER.access_log, description="Log one line per request.")


class Key(Section):
    name: Name = Field(description="The key's name in facts and logs.")
    key: SecretText = Field(description="The bearer token: `file:/path` or `${VAR}`.")
    tenant: Name | None = Field(default=None, description="Who the key belongs to; default: its name.")
    policies: list[str] | None = Field(default=None, description="The policies it may use; default: all.")
