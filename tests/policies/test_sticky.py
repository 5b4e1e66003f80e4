"""The caller's key: which fact it comes from, and that kinds never meet."""

from itertools import combinations
from typing import Any

import pytest

from policies import Facts, Problems, compile_sticky

FULL = Facts(
    body={
        "user": "u",
        "metadata": {"team": "t", "empty": ""},
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
    },
    headers={b"x-account": b"a", b"x-session-id": b"c-17"},
)
TALK = "12:conversation=1:shi"


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (None, TALK),
        ("conversation", TALK),
        ("user", "4:user=u"),
        ("session", "7:session=c-17"),
        ("header.X-Account", "16:header.x-account=a"),
        ("metadata.team", "13:metadata.team=t"),
        ("metadata.absent", TALK),
        ("metadata.empty", TALK),
        (["header.absent", "user"], "4:user=u"),
        (["user", "session"], "4:user=u"),
        (["header.absent", "metadata.absent"], TALK),
        (["header.absent", "conversation"], TALK),
        (["conversation"], TALK),
    ],
)
def test_the_first_that_is_present_else_the_conversation(spec: Any, key: str) -> None:
    assert compile_sticky(spec)(FULL) == key


def test_keys_of_different_kinds_are_never_equal() -> None:
    body = {"user": "same", "metadata": {"a": "b=c", "a=b": "c"}, "messages": [{"role": "user", "content": "same"}]}
    facts = Facts(body=body, headers={b"x-user": b"same"}, extras={"session": "same"})
    specs = ["user", "session", "conversation", "header.x-user", "metadata.a", "metadata.a=b"]
    for one, other in combinations(specs, 2):
        assert compile_sticky(one)(facts) != compile_sticky(other)(facts)


@pytest.mark.parametrize(
    ("spec", "path", "code", "suggestion"),
    [
        ([], (), "empty-sticky", "conversation"),
        (7, (), "wrong-type", None),
        (["user", None], (1,), "wrong-type", None),
        ("usr", (), "unknown-sticky", "user"),
        ("model", (), "unknown-sticky", None),
        (["user", "headers.x-id"], (1,), "unknown-sticky", "header.x-id"),
        ("header.x id", (), "unknown-sticky", None),
        (["conversation", "user"], (1,), "never-used", None),
    ],
)
def test_a_mistake_is_refused(spec: Any, path: Any, code: str, suggestion: str | None) -> None:
    with pytest.raises(Problems) as raised:
        compile_sticky(spec)
    (problem,) = raised.value.problems
    assert (problem.path, problem.code, problem.suggestion) == (path, code, suggestion)
