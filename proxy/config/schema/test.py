"""Policy tests, as they stand in the config or beside it."""

from typing import Any, Literal

from pydantic import Field

from proxy.config.schema.section import Section
from proxy.config.values import Moment


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
