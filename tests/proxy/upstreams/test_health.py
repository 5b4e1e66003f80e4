"""An endpoint's health by playbook: events with times go in, the state comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.health import COOLING, EJECTED, IN, PROBING, Ejection, Health

RULES = Ejection()


def fail(health: Health, now: float, times: int = 1) -> bool:
    """Calls that fail; whether the last one deserves ejection."""
    deserved = False
    for _ in range(times):
        probe = health.begin()
        deserved = health.failed(now, RULES, probe)
        health.end(probe)
    return deserved


def answer(health: Health, now: float, latency: float = 0.1) -> None:
    probe = health.begin()
    health.answered(now, RULES, probe, latency)
    health.end(probe)


def ejected(now: float = 0.0) -> Health:
    health = Health()
    assert fail(health, now, RULES.consecutive)
    health.eject(now, RULES, 0.0)
    return health


def test_the_fifth_failure_in_a_row_is_one_too_many() -> None:
    health = Health()
    assert not fail(health, 0, 4)
    answer(health, 0)
    assert not fail(health, 0, 4)
    assert fail(health, 0)


def test_answers_to_calls_from_before_say_nothing_of_now() -> None:
    """Failures come at once, and between them the answers that were under way when they began."""
    health = Health()
    under_way = [health.begin() for _ in range(10)]
    deserved = []
    for probe in under_way:
        deserved.append(fail_once(health))
        health.answered(0, RULES, probe, 0.2, streak=0)
        health.end(probe)
    assert deserved.index(True) == 4


def test_quick_failures_among_slow_answers_are_not_all_there_is() -> None:
    """One of ten fails, at once; what became of the other nine is known later: they are not held against it."""
    health = Health()
    slow = [(health.begin(), health.streak) for _ in range(90)]
    for _ in range(30):
        assert not fail_once(health)
        for probe, streak in slow[:9]:
            health.answered(0, RULES, probe, 1.0, streak)
            health.end(probe, streak)
        slow = slow[9:] + [(health.begin(), health.streak) for _ in range(9)]


def test_who_leaves_does_not_hide_that_all_others_fail() -> None:
    health = Health()
    assert not fail_once(health)
    for _ in range(20):
        health.end(health.begin(), health.streak)
    assert [fail_once(health) for _ in range(4)] == [False, False, False, True]


def fail_once(health: Health) -> bool:
    probe, streak = health.begin(), health.streak
    deserved = health.failed(0, RULES, probe)
    health.end(probe, streak)
    return deserved


def test_half_of_twenty_is_too_many() -> None:
    """Alternating: never two in a row."""
    health = Health()
    deserved = []
    for number in range(12):
        answer(health, number / 10)
        deserved.append(fail(health, number / 10))
    assert deserved.index(True) == 9


def test_old_failures_eject_nobody() -> None:
    health = Health()
    for _ in range(9):
        answer(health, 0)
        fail(health, 0)
    answer(health, 10.1)
    assert not fail(health, 10.1)


def test_failures_now_and_then_are_remembered_while_hardly_any_calls_come() -> None:
    """And forgotten little by little: neither at once, nor never."""
    health = Health()
    for number in range(21):
        fail(health, number / 10) if number % 3 == 0 else answer(health, number / 10)
    known = health.failure_rate(2.0, RULES)
    assert known == pytest.approx(1 / 3)
    shares = [health.failure_rate(now, RULES) for now in range(5, 200)]
    assert shares == sorted(shares, reverse=True)
    assert shares[10] > known * 0.7  # the window has passed
    assert shares[-1] < known * 0.02
    before = health.failure_rate(30.0, RULES)
    answer(health, 30.0)
    assert before * 0.9 < health.failure_rate(30.0, RULES) < before
    fail(health, 30.0)
    assert before < health.failure_rate(30.0, RULES) < before + 0.05


def test_good_answers_take_the_place_of_what_was_remembered() -> None:
    health = Health()
    for number in range(30):
        fail(health, number / 10) if number % 3 == 0 else answer(health, number / 10)
    for number in range(60):
        answer(health, 20 + number / 2)
    assert health.failure_rate(50.0, RULES) == 0.0


def test_a_few_calls_say_nothing_of_a_share() -> None:
    """An endpoint that always fails is ejected at once; were it left to others before, that would take long."""
    health = Health()
    fail(health, 0.0, RULES.consecutive - 1)
    assert health.failure_rate(0.0, RULES) == 0.0
    for number in range(RULES.requests - RULES.consecutive):
        answer(health, number / 10)
        assert health.failure_rate(number / 10, RULES) == 0.0
    answer(health, 2.0)
    assert health.failure_rate(2.0, RULES) == pytest.approx((RULES.consecutive - 1) / RULES.requests)


COUNTS = st.integers(0, 30)


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, st.floats(0, 20)), max_size=20))
def test_a_share_is_a_share(bursts: list[tuple[int, int, int, float]]) -> None:
    """Also where answers of an earlier window break in this one: more fail than were called."""
    health, now = Health(), 0.0
    for good, bad, broken, pause in bursts:
        for _ in range(good):
            answer(health, now)
        fail(health, now, bad)
        for _ in range(broken):
            health.failed(now, RULES, False, had_answered=True)
        assert 0.0 <= health.failure_rate(now, RULES) <= 1.0
        now += pause


def test_a_stream_that_breaks_later_counts_as_one_request() -> None:
    """Every answer begins well and breaks: ejected by the share, though never by failures in a row."""
    health = Health()
    for number in range(20):
        probe = health.begin()
        health.answered(1, RULES, probe, 0.1)
        assert health.failed(1, RULES, probe, had_answered=True) is (number == 19)
        health.end(probe)


def test_ejected_until_one_probe_succeeds() -> None:
    health = ejected()
    assert health.state(4.9) == EJECTED
    assert not health.is_due(4.9)
    assert health.state(5) == PROBING
    assert health.is_due(5)
    probe = health.begin()
    assert probe
    assert not health.is_due(6), "one probe at a time"
    health.answered(6, RULES, probe, 0.1)
    assert health.state(6) == IN
    health.end(probe)
    assert health.in_flight == 0


def test_a_probe_whose_caller_left_leaves_its_place_to_the_next() -> None:
    health = ejected()
    health.end(health.begin())
    assert health.is_due(5)


def test_each_ejection_lasts_twice_as_long() -> None:
    health = ejected()
    waits, now = [], 0.0
    for _ in range(8):
        now = health.out_until
        assert fail(health, now)
        waits.append(health.eject(now, RULES, 0.0))
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_one_that_was_well_for_long_begins_anew() -> None:
    health = ejected()
    answer(health, 5)
    fail(health, 9, 5)
    assert health.eject(9, RULES, 0.0) == 10
    answer(health, 19)
    fail(health, 40, 5)
    assert health.eject(40, RULES, 0.0) == 5


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_only_adds_and_at_most_half(chance: float) -> None:
    assert 5 <= Health().eject(0, RULES, chance) <= 7.5


def test_failures_of_calls_begun_before_change_nothing() -> None:
    health = Health()
    late = [health.begin() for _ in range(9)]
    for probe in late[:5]:
        deserved = health.failed(0, RULES, probe)
    assert deserved
    health.eject(0, RULES, 0.0)
    assert not any(health.failed(1, RULES, probe) for probe in late[5:])
    health.answered(2, RULES, late[5], 0.1)
    assert health.state(2) == EJECTED, "nor does a late success"


def test_it_comes_back_slowly() -> None:
    health = ejected()
    answer(health, 5)
    shares = [health.ramp(now, RULES) for now in (5, 7.5, 10, 15, 99)]
    assert shares == [0.1, 0.25, 0.5, 1, 1]
    assert Health().ramp(0, RULES) == 1, "one that never failed starts in full"


def test_a_429_cools_and_is_no_failure() -> None:
    health = Health()
    for _ in range(100):
        health.refused(0, 2.0, health.begin())
    assert health.consecutive == 0
    assert [health.state(now) for now in (0, 1.9, 2)] == [COOLING, COOLING, IN]


def test_a_longer_wait_wins() -> None:
    health = Health()
    health.refused(0, 5.0, False)
    health.refused(1, 0.5, False)
    assert health.cool_until == 5


def test_without_a_wait_it_doubles_from_a_second() -> None:
    health, waits, now = Health(), [], 0.0
    for _ in range(8):
        for _ in range(3):  # refused together: that counts once
            health.refused(now, None, False)
        waits.append(health.cool_until - now)
        now = health.cool_until
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    answer(health, now)
    health.refused(now, None, False)
    assert health.cool_until == now + 1


def test_a_probe_that_gets_429_is_alive() -> None:
    health = ejected()
    health.refused(5, 3.0, health.begin())
    assert [health.state(now) for now in (5, 8)] == [COOLING, IN]


def test_latency_follows_within_ten_seconds() -> None:
    health = Health()
    answer(health, 0, 1.0)
    assert health.latency == 1
    answer(health, 10, 2.0)
    assert health.latency == pytest.approx(1.632, abs=0.001)


@given(st.lists(st.tuples(st.sampled_from(("answer", "fail", "refuse", "leave")), st.floats(0, 4)), max_size=80))
def test_calls_in_flight_always_come_back_to_none(events: list[tuple[str, float]]) -> None:
    """Whatever happens, nothing stays in flight, no probe stays out, and no ejection is longer than it may be."""
    health, now = Health(), 0.0
    for what, wait in events:
        now += wait
        probe = health.begin()
        if what == "answer":
            health.answered(now, RULES, probe, 0.1)
        elif what == "fail" and health.failed(now, RULES, probe):
            health.eject(now, RULES, 0.5)
        elif what == "refuse":
            health.refused(now, None, probe)
        health.end(probe)
        assert health.in_flight == 0
        assert not health.is_probed
        assert health.out_until <= now + 450
