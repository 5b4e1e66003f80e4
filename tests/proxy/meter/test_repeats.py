"""A storm of warnings is a line now and then."""

import pytest
import structlog

from proxy.meter.repeats import MOST, Repeats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_words_are_told_once_a_window_with_their_count() -> None:
    clock = Clock()
    repeats = Repeats(10.0, clock)
    assert repeats(None, "warning", {"event": "slow disk", "ms": 1}) == {"event": "slow disk", "ms": 1}
    for ms in range(99):
        with pytest.raises(structlog.DropEvent):
            repeats(None, "warning", {"event": "slow disk", "ms": ms})
    clock.now = 10.0
    assert repeats(None, "warning", {"event": "slow disk", "ms": 2}) == {
        "event": "slow disk",
        "ms": 2,
        "repeated": 99,
    }
    clock.now = 30.0
    assert repeats(None, "warning", {"event": "slow disk", "ms": 3}) == {"event": "slow disk", "ms": 3}


def test_other_words_and_lower_levels_are_always_told() -> None:
    repeats = Repeats(10.0, Clock())
    for file in ("a.yaml", "b.yaml"):
        assert repeats(None, "error", {"event": "refused", "file": file})["file"] == file
    for _ in range(3):
        assert repeats(None, "info", {"event": "request"}) == {"event": "request"}


def test_words_that_never_repeat_do_not_fill_the_memory() -> None:
    repeats = Repeats(10.0, Clock())
    for n in range(3 * MOST):
        repeats(None, "warning", {"event": f"odd {n}"})
    assert len(repeats._told) <= MOST
