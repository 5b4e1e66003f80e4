"""Secrets in texts that servers write."""

import pytest

from proxy.upstreams.base import Target
from proxy.upstreams.redact import redact, secrets_of

TARGET = Target(
    "up",
    "http://up.test",
    headers=((b"authorization", b"Bearer hunter2-hunter2"), (b"api-key", b"0123456789abcdef"), (b"x-v", b"2024")),
    provider={"provider": "bedrock", "aws_secret_access_key": "aws+secret/text", "region": "eu-central-1"},
)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: hunter2-hunter2.",
        "bad 0123456789abcdef",
        "bad aws+secret/text",
        "header was Bearer hunter2-hunter2",
    ],
)
def test_the_targets_own_secrets(text: str) -> None:
    said = redact(text, secrets_of(TARGET))
    assert "***" in said
    assert not {"hunter2", "0123456789abcdef", "aws+secret"} & set(said.replace(".", " ").split())


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-AbC_123-xyz",
        "sk-abc1****************wxyz",
        "sk-ant-api03-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA1234567890abcdefghijklmno",
        "gsk_abcdefghijk",
        "hf_abcdefghijk",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_",
    ],
)
def test_what_looks_like_a_key(secret: str) -> None:
    assert redact(f"key {secret}, sorry") == "key ***, sorry"


def test_a_bearer_token_of_any_shape() -> None:
    assert redact("sent 'Authorization: bearer  abc.def'") == "sent 'Authorization: bearer ***'"


@pytest.mark.parametrize(
    "text", ["risk-free task-oriented answer", "model gpt-6.1-sol not found", "use key 'messages' and v 2024", ""]
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text, secrets_of(TARGET)) == text
