"""No credential is in the repository: what looks like one is a test's own, and says so.

Two nets: the shapes that vendors give their keys, and long random words. A test of ours rather than detect-secrets:
that wants a baseline file of hashes to be kept beside the code, and brings a dependency for what is forty lines here.
"""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SHAPES = re.compile(
    r"""-----BEGIN[ A-Z]*PRIVATE[ ]KEY-----
    | \bsk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_-]{20,}          # OpenAI, Anthropic, OpenRouter
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b | \bAIza[\w-]{35}\b            # Amazon, Google
    | \bgh[pousr]_[A-Za-z0-9]{36,} | \bgithub_pat_\w{40,} | \bglpat-[\w-]{20,}
    | \bxox[abprs]-[\w-]{10,} | \bhf_[A-Za-z0-9]{30,} | \bgsk_\w{30,} | \bxai-\w{30,} | \bnvapi-[\w-]{30,}
    | \bpypi-AgEIcHlwaS5vcmc[\w-]{20,} | \bnpm_[A-Za-z0-9]{36}
    | \beyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{15,}                   # JSON web tokens
    | ://[^/\s:@'"{}$]+:[^/\s:@'"{}$]{6,}@""",
    re.VERBOSE,
)
WORD = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
RANDOM = 4.6  # bits a character; words, paths and names have fewer, hexadecimal at most 4
TEST = re.compile(
    r"canary|secret|test|0123456789|1234567890|9876543210|abcdef|wrong|hidden|example|live|hunter2|chatcmpl-|user:",
    re.IGNORECASE,
)
SKIPPED = {
    "deploy/locks/serve.txt", "deploy/locks/demo.txt", "deploy/locks/dev.txt",  # hashes of packages
    "deploy/locks/fuzz.txt", "tests/faults/js/package-lock.json",
    "docs/dashboard.png", "LICENSE",
}  # fmt: skip
KNOWN = {
    "tests/proxy/upstreams/test_redact.py",  # one of each shape, which is its subject
    "tests/test_credentials.py",
}


def entropy(word: str) -> float:
    """Bits per character, by the word's own letters."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())


def is_random(word: str) -> bool:
    """Paths and addresses are long, too, but their parts are not."""
    return entropy(word) >= RANDOM and re.search(r"\d", word) is not None and max(map(len, word.split("/"))) >= 20


def suspicious(text: str) -> Iterator[tuple[int, str]]:
    """What looks like a credential and does not say that it is a test's: its line, and its beginning."""
    for number, line in enumerate(text.splitlines(), 1):
        found = [match[0] for match in SHAPES.finditer(line)]
        found += [word for word in WORD.findall(line) if is_random(word)]
        for each in found:
            if not TEST.search(each):
                yield number, each[:12] + "..."


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return sorted({name for name in done.stdout.decode().split("\0") if name} - SKIPPED - KNOWN)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_file_holds_a_credential() -> None:
    found = [
        f"{name}:{line}: {begins}"
        for name in tracked()
        if (ROOT / name).is_file()
        for line, begins in suspicious((ROOT / name).read_text(errors="replace"))
    ]
    assert found == [], "take it out, revoke it; or let a test's own say `test` or `canary`"


@pytest.mark.parametrize(
    "line",
    [
        "key = 'sk-proj-" + "a1B2" * 10 + "'",
        "sk-ant-" + "x9Yz" * 8,
        "AKIA" + "Q7XZ" * 4,
        "AIza" + "b" * 35,
        "ghp_" + "k3" * 18,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "https://bob:" + "correcthorse@" + "host.org/",
        "x = 'q8Zr2LwV0nTb7KdYc5MjXg1PfHsA4eUo9iRk3'",
    ],
)
def test_a_credential_is_noticed(line: str) -> None:
    assert list(suspicious(line))


@pytest.mark.parametrize(
    "line",
    [
        "sk-upstream-strong-canary-7",
        "sha256:0a30ef8f5322a4173720ae6712dc9a5e58f5a19868f3f167b4b5778db066c2b5",
        "def test_a_callers_body_cannot_reach_litellms_own_arguments",
        "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json",
        "redis://localhost:6379",
        "req_810b2160525e7888d1129a4960ea09ca",
    ],
)
def test_what_is_none_is_left_alone(line: str) -> None:
    assert not list(suspicious(line))
