"""The playbook must notice what it is for: a wrong question, an answer too many, a story that is not over."""

from collections.abc import Generator

import pytest

from tests.playbook import Playbook


def story() -> Generator[str, str | None, None]:
    answer = yield "name?"
    yield f"hello {answer}"


def test_it_plays() -> None:
    with Playbook(story()) as play:
        play << "name?"
        play >> "Ann"
        play << "hello Ann"


def test_it_shows_a_difference() -> None:
    with pytest.raises(AssertionError, match=r"(?s)asks for something else.*- 'age\?'.*\+ 'name\?'"):
        Playbook(story()) << "age?"


def test_it_complains_of_a_story_that_goes_on() -> None:
    with pytest.raises(AssertionError, match="not finished"), Playbook(story()) as play:
        play << "name?"


def test_it_complains_of_a_question_nobody_looked_at() -> None:
    with pytest.raises(AssertionError, match="not looked at"):
        Playbook(story()) >> "Ann"


def test_it_complains_of_what_comes_after_the_end() -> None:
    play = Playbook(story())
    play << "name?"
    play.close()
    play.finish()
    with pytest.raises(AssertionError, match="expected 'more'"):
        play << "more"
    with pytest.raises(AssertionError, match="nobody waits"):
        play >> "more"
