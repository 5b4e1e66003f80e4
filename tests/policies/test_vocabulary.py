"""The names of facts, and which of their values are kept from eyes."""

import pytest

from policies import Facts
from policies.vocabulary import FACTS, find, shown


def test_the_facts_that_the_documents_promise() -> None:
    assert list(FACTS) == [
        "user", "session", "tenant", "key", "model", "api", "response_format", "stream", "tools", "images",
        "tool_names", "messages", "max_tokens", "prompt_tokens", "text", "system", "caller_prompt", "time", "chance",
    ]  # fmt: skip


def test_headers_have_no_case_and_metadata_has() -> None:
    facts = Facts(body={"metadata": {"Team": "a", "n": 1}}, headers={b"x-tier": b"g\xf6ld"})
    header, metadata = find("header.X-Tier"), find("metadata.Team")
    assert header is not None
    assert metadata is not None
    assert (header.name, header.read(facts), metadata.read(facts)) == ("header.x-tier", "göld", "a")
    for absent in ("metadata.team", "metadata.n", "header.other"):
        fact = find(absent)
        assert fact is not None
        assert fact.read(facts) is None
    nothing = Facts(body={"metadata": "a"}, headers={})
    assert metadata.read(nothing) is None


@pytest.mark.parametrize("name", ["header", "header.", "header.x y", "metadata.", "other.name", "tier", "user.name"])
def test_what_is_no_fact(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("header.authorization", True),
        ("header.proxy-authorization", True),
        ("header.x-auth", True),
        ("header.set-cookie", True),
        ("header.x-goog-api-key", True),
        ("header.apikey", True),
        ("header.x-amz-security-token", True),
        ("header.x-client-secret", True),
        ("header.x-max-tokens", False),
        ("header.x-author", False),
        ("header.x-tier", False),
        ("metadata.cookie", False),
    ],
)
def test_secrets_are_masked(name: str, hidden: bool) -> None:
    assert shown(name, "value") == ("***" if hidden else "value")
    assert shown(name, None) is None  # there is nothing to hide
