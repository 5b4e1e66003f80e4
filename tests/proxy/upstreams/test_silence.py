"""Silence by playbook: calls and answers with times go in, whether it is odd comes out."""

from proxy.upstreams.silence import AGAIN, FEW, KNOWN, LEAST, MANY, TIMES, Silence


class Call:
    def move(self) -> bool:
        return True


def usual(latency: float, count: int = KNOWN) -> Silence:
    """An endpoint that has answered so often, each after so many seconds; the last one at 0."""
    silence = Silence()
    for _ in range(count):
        call = Call()
        silence.begin(call, -latency)
        silence.answered(call, 0.0, latency)
    return silence


def asked(silence: Silence, count: int, now: float = 0.0) -> list[Call]:
    calls = [Call() for _ in range(count)]
    for call in calls:
        silence.begin(call, now)
    return calls


def is_odd(silence: Silence, now: float) -> bool:
    """Two looks are needed."""
    silence.is_odd(now - 1.5 * AGAIN)
    return silence.is_odd(now)


def test_many_that_wait_three_times_the_slowest_are_odd() -> None:
    silence = usual(1.0)
    asked(silence, MANY)
    assert not is_odd(silence, TIMES * 1.0)
    assert is_odd(silence, TIMES * 1.0 + 2 * AGAIN)


def test_half_as_many_are_given_twice_the_time() -> None:
    silence = usual(1.0)
    asked(silence, MANY // 2)
    assert not is_odd(silence, 2 * TIMES)
    assert is_odd(silence, 2 * TIMES + 2 * AGAIN)


def test_one_may_wait_by_chance() -> None:
    """But not a probe, which nobody follows."""
    silence = usual(1.0)
    asked(silence, 1)
    assert not is_odd(silence, 100.0)
    assert not silence.is_odd(TIMES, True)
    assert not silence.is_odd(TIMES + AGAIN, True), "the first of two looks"
    assert silence.is_odd(TIMES + 3 * AGAIN, True)


def test_what_has_no_past_is_not_unlike_it() -> None:
    silence = usual(1.0, KNOWN - 1)
    asked(silence, 100)
    assert not is_odd(silence, 1000.0)


def test_any_answer_is_a_sign_of_life() -> None:
    """A slow server with many callers answers one of them now and then."""
    silence = usual(1.0)
    calls = asked(silence, 2 * MANY)
    silence.answered(calls[0], 3.0, 3.0)
    assert not is_odd(silence, 3.5)
    silence.heard(8.0)
    assert not is_odd(silence, 16.0)


def test_a_short_silence_says_nothing_of_a_fast_server() -> None:
    silence = usual(0.001)
    asked(silence, MANY)
    assert not is_odd(silence, LEAST)
    assert is_odd(silence, LEAST + 2 * AGAIN)


def test_our_own_sleep_is_not_its_silence() -> None:
    """After a pause of the machine's the first look finds silence; before the second the answers are read."""
    silence = usual(0.1)
    calls = asked(silence, MANY)
    assert not silence.is_odd(30.0)
    silence.answered(calls[0], 30.01, 30.0)
    assert not silence.is_odd(30.0 + AGAIN)


def test_the_slowest_answer_fades() -> None:
    silence = usual(0.1)
    (call,) = asked(silence, 1)
    silence.answered(call, 0.0, 60.0)
    assert silence.slowest == 60.0
    for call in asked(silence, 1000):
        silence.answered(call, 0.0, 0.1)
    assert 0.1 < silence.slowest < 1.0


def test_calls_that_end_wait_no_more() -> None:
    silence = usual(1.0)
    calls = asked(silence, FEW)
    silence.end(calls[0])
    silence.end(calls[0])
    assert list(silence) == calls[1:]
    assert not is_odd(silence, 100.0)


def test_time_without_calls_is_not_silence() -> None:
    silence = usual(1.0)
    asked(silence, MANY, now=1000.0)
    assert not is_odd(silence, 1002.0)
