"""Problems in words, and what was probably meant."""

from typing import Any

import pytest

from policies.problems import Problem, Problems, kind_of, nearest


def test_problems_say_what_they_hold() -> None:
    raised = Problems([Problem((), "one", "this"), Problem(("a", 0), "two", "that", "those")])
    assert str(raised) == "this; that"
    assert raised.problems[1].suggestion == "those"


def test_nearest_is_the_known_word_most_alike() -> None:
    assert nearest("Strng", ["strong", "tuned"]) == "strong"
    assert nearest("zebra", ["strong", "tuned"]) is None
    assert nearest(7, ["strong"]) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "nothing"), (True, "true or false"), (1, "a number"), (1.5, "a number"), ("", "text"), ([], "a list"),
     ((), "a list"), ({}, "a map")],
)  # fmt: skip
def test_types_in_the_readers_words(value: Any, name: str) -> None:
    assert kind_of(value) == name
