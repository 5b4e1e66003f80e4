"""Choosing among a model's endpoints, with given times and seeded chance."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.runtime import Endpoint, Model
from proxy.upstreams.balance import PENDING, Place, Rotation, Rotations, Turn
from proxy.upstreams.base import Failed, Target
from proxy.upstreams.budget import Retries
from proxy.upstreams.health import EJECTED, IN, Ejection
from routes import failure

RULES = Ejection()
BROKEN = Failed(failure.UPSTREAM_5XX, "broken")


def endpoint(name: str, weight: float = 1.0, priority: int = 0, max_in_flight: int | None = None) -> Endpoint:
    target = Target(name, f"http://{name}.test/v1")
    return Endpoint(target, "m", weight, priority=priority, max_in_flight=max_in_flight)


def three() -> Model:
    return Model("m", tuple(endpoint(name, 1 / 3) for name in "abc"), None)


def two(one: Endpoint, other: Endpoint) -> Model:
    return Model("m", (one, other), None)


def rotation(model: Model, seed: int = 1, pending: dict[str, int] | None = None) -> Rotation:
    chance = random.Random(seed).random
    rotations = Rotations(lambda target: (pending or {}).get(target.name, 0), chance=chance)
    return rotations.of(model, RULES)


def name_of(place: Place | None) -> str:
    return place.endpoint.target.name if place is not None else "none"


def fail(given: Rotation, place: Place, now: float, times: int = 1, failed: Failed = BROKEN) -> None:
    for _ in range(times):
        turn = given.begin(place)
        turn.failed(now, failed)
        turn.end()


def answer(given: Rotation, place: Place, now: float, latency: float = 0.1) -> None:
    turn = given.begin(place)
    turn.answered(now, latency)
    turn.end()


def names(given: Rotation, now: float, count: int = 60) -> set[str]:
    return {name_of(given.choose(now)) for _ in range(count)}


# --- weights and load


def shares(given: Rotation, concurrency: int, latencies: dict[str, float], requests: int = 6000) -> dict[str, float]:
    """So many callers, each asking again once answered: who got how much of the second half."""
    chance = random.Random(7)
    running: list[tuple[float, int, Place, Turn]] = []
    counts: Counter[str] = Counter()
    now = 0.0
    for number in range(requests):
        if len(running) == concurrency:
            running.sort(key=lambda each: each[:2])
            now, _, place, turn = running.pop(0)
            turn.answered(now, latencies[name_of(place)])
            turn.end()
        chosen = given.choose(now)
        assert chosen is not None
        counts[name_of(chosen)] += number >= requests // 2
        took = latencies[name_of(chosen)] * chance.uniform(0.7, 1.4)
        running.append((now + took, number, chosen, given.begin(chosen)))
    return {name: count * 2 / requests for name, count in counts.items()}


@pytest.mark.parametrize("concurrency", [1, 2, 5, 30])
@pytest.mark.parametrize("weight", [0.5, 0.8, 0.95])
def test_equal_endpoints_get_their_weights(weight: float, concurrency: int) -> None:
    given = rotation(two(endpoint("a", weight), endpoint("b", 1 - weight)))
    found = shares(given, concurrency, {"a": 0.2, "b": 0.2})
    assert found["a"] == pytest.approx(weight, abs=0.06)


@pytest.mark.parametrize("concurrency", [1, 20])
def test_a_slow_endpoint_is_left_alone(concurrency: int) -> None:
    """Ten times slower: it still gets a call now and then, to see whether it has recovered."""
    found = shares(rotation(three()), concurrency, {"a": 0.2, "b": 0.2, "c": 2.0})
    assert found["c"] < 0.05
    assert found["a"] == pytest.approx(found["b"], abs=0.1)


def test_a_slow_endpoint_is_forgiven_in_time() -> None:
    given = rotation(two(endpoint("a", 0.5), endpoint("b", 0.5)))
    a, b = given.places
    answer(given, a, 0, 0.2)
    answer(given, b, 0, 2.0)
    assert names(given, 1) == {"a"}
    assert names(given, 40) == {"a", "b"}


def test_a_busy_endpoint_is_passed_over() -> None:
    given = rotation(two(endpoint("a", 0.5), endpoint("b", 0.5)))
    for _ in range(10):
        given.begin(given.places[0])
    assert names(given, 0) == {"b"}


def test_an_endpoint_of_no_weight_waits_for_the_others_to_fail() -> None:
    given = rotation(two(endpoint("a", 1.0), endpoint("b", 0.0)))
    assert names(given, 0) == {"a"}
    assert name_of(given.choose(0, [given.places[0]])) == "b"


# --- priorities


def reserved() -> Rotation:
    return rotation(two(endpoint("reserved", 1.0, 0, max_in_flight=2), endpoint("spill", 1.0, 1)))


def test_reserved_capacity_first_then_spill() -> None:
    given = reserved()
    first = given.begin(given.places[0])
    assert names(given, 0) == {"reserved"}
    given.begin(given.places[0])
    assert names(given, 0) == {"spill"}
    first.end()
    assert names(given, 0) == {"reserved"}


def test_spill_while_ejected_or_cooling() -> None:
    given = reserved()
    fail(given, given.places[0], 0, 5)
    assert names(given, 1) == {"spill"}
    given = reserved()
    fail(given, given.places[0], 0, 1, Failed(failure.RATE_LIMITED, "slow down", retry_after=3))
    assert names(given, 1) == {"spill"}
    assert names(given, 3) == {"reserved"}


# --- affinity


@given(st.text(max_size=20))
def test_a_key_stays_and_moves_only_if_its_endpoint_fails(key: str) -> None:
    """The others' callers stay where they are; and it comes home."""
    given = rotation(three())
    home = given.choose(0, (), key)
    assert home is not None
    assert {name_of(given.choose(0, (), key)) for _ in range(20)} == {name_of(home)}
    other = next(place for place in given.places if place is not home)
    fail(given, other, 0, 5)
    assert given.choose(1, (), key) is home
    fail(given, home, 1, 5)
    assert name_of(given.choose(2, (), key)) not in (name_of(home), name_of(other))


def test_keys_spread_by_weight() -> None:
    given = rotation(two(endpoint("a", 0.8), endpoint("b", 0.2)))
    counts = Counter(name_of(given.choose(0, (), f"conversation {number}")) for number in range(3000))
    assert counts["a"] / 3000 == pytest.approx(0.8, abs=0.03)


def test_on_return_conversations_come_home_a_few_at_a_time() -> None:
    given = rotation(three())
    place = given.places[0]
    fail(given, place, 0, 5)
    probe = place.health.out_until
    answer(given, place, probe)
    found = []
    for after in (0, 2.5, 5, 10):
        chosen = [given.choose(probe + after, (), f"conversation {number}") for number in range(2000)]
        found.append(chosen.count(place) / 2000)
    assert found == sorted(found)
    assert found[0] < 0.1
    assert found[-1] == pytest.approx(1 / 3, abs=0.04)


# --- ejection


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.floats(0, 3)), max_size=200), st.integers())
def test_the_last_one_is_never_ejected(events: list[tuple[int, bool, float]], seed: int) -> None:
    """Whatever fails, someone is in rotation, someone is chosen, and nobody has two probes."""
    given, now = rotation(three(), seed), 0.0
    for number, good, wait in events:
        now += wait
        if good:
            answer(given, given.places[number], now)
        else:
            fail(given, given.places[number], now)
        assert any(place.health.state(now) == IN for place in given.places)
        chosen = given.choose(now)
        assert chosen is not None
        assert chosen.health.state(now) == IN or chosen.health.is_due(now)


def test_one_probe_then_a_ramp() -> None:
    given = rotation(three())
    place = given.places[0]
    fail(given, place, 0, 5)
    back = place.health.out_until
    assert names(given, back - 0.1) == {"b", "c"}
    probe = given.choose(back)
    assert probe is place
    turn = given.begin(place)
    assert names(given, back) == {"b", "c"}, "one probe at a time"
    turn.answered(back + 0.1, 0.1)
    turn.end()
    ramp = []
    for after in (0.2, 5, 10):
        chosen = [given.choose(back + after) for _ in range(2000)]
        ramp.append(chosen.count(place) / 2000)
    assert ramp[0] < 0.1 < ramp[1] < 0.3 < ramp[2] < 0.4


def test_a_retry_is_no_probe() -> None:
    """A request that has failed once is not sent to an endpoint that may well fail again."""
    given = rotation(three())
    fail(given, given.places[0], 0, 5)
    later = given.places[0].health.out_until
    assert given.choose(later, [given.places[1]]) is given.places[2]


def test_a_429_ejects_nobody() -> None:
    given = rotation(three())
    fail(given, given.places[0], 0, 50, Failed(failure.RATE_LIMITED, "slow down", retry_after=2))
    assert given.places[0].health.state(2) == IN


def test_what_the_request_is_to_blame_for_is_no_failure() -> None:
    given = rotation(three())
    for kind in (failure.REQUEST, failure.CONTEXT_LENGTH, failure.CONTENT_FILTER):
        fail(given, given.places[0], 0, 50, Failed(kind, "too long"))
    assert given.places[0].health.state(0) == IN


def test_a_request_that_fails_everywhere_is_held_against_no_one() -> None:
    given = rotation(three())
    for _ in range(50):
        turn = given.begin(given.places[0])
        turn.failed(0, BROKEN, is_known=True)
        turn.end()
    assert given.places[0].health.consecutive == 0


# --- cooling and refusing


def test_if_all_were_told_to_wait_nobody_is_asked() -> None:
    given = rotation(three())
    for place, wait in zip(given.places, (9.0, 4.0, 7.0), strict=True):
        fail(given, place, 0, 1, Failed(failure.RATE_LIMITED, "slow down", retry_after=wait))
    assert given.choose(1) is None
    refusal = given.refusal(1)
    assert refusal.failure == failure.RATE_LIMITED
    assert refusal.retry_after == 3
    assert names(given, 4) == {"b"}


def test_our_own_guess_refuses_nobody() -> None:
    """Where a 429 named no time, the endpoint is avoided, but asked if there is no other."""
    given = rotation(three())
    for now, place in enumerate(given.places):
        fail(given, place, now / 10, 1, Failed(failure.RATE_LIMITED, "slow down"))
    assert names(given, 0.5) == {"a"}


def test_a_model_with_one_endpoint_is_always_asked() -> None:
    given = rotation(Model("m", (endpoint("a"),), None))
    fail(given, given.places[0], 0, 50)
    fail(given, given.places[0], 0, 1, Failed(failure.RATE_LIMITED, "slow down", retry_after=60))
    assert names(given, 1) == {"a"}
    assert given.choose(1, given.places) is None


def test_full_everywhere_is_a_429_to_come_back_soon() -> None:
    given = rotation(Model("m", (endpoint("a", max_in_flight=1),), None))
    given.begin(given.places[0])
    assert given.choose(0) is None
    assert given.refusal(0).retry_after == 1
    assert "busy" in given.refusal(0).message


def test_a_black_hole_gets_eight_connects() -> None:
    pending = {"a": PENDING}
    given = rotation(two(endpoint("a", 0.99), endpoint("b", 0.01)), pending=pending)
    assert names(given, 0) == {"b"}
    pending["b"] = PENDING
    assert "a" in names(given, 0), "all may be new: then it means nothing"


# --- trying another


def test_no_upstream_more_than_twice() -> None:
    """Two keys of one upstream are two endpoints of it."""
    model = Model("m", tuple(endpoint(name, 0.25) for name in ("x#1", "x#2", "x#3", "y")), None)
    given = rotation(model)
    x1, x2, x3, y = given.places
    assert {given.choose(0, [x1]) for _ in range(200)} == {x2, x3, y}
    assert {given.choose(0, [x1, x2]) for _ in range(200)} == {y}
    assert given.choose(0, [x1, x2, y]) is None


def all_of(model: Model, rotations: Rotations) -> Sequence[Place]:
    return rotations.of(model, RULES).places


def test_health_outlives_a_reload_that_leaves_the_endpoint() -> None:
    rotations = Rotations()
    old, new = three(), three()
    given = rotations.of(old, RULES)
    fail(given, given.places[0], 0, 5)
    rotations.retire({"m": new})
    assert all_of(new, rotations)[0].health is given.places[0].health
    rotations.retire({})
    assert all_of(new, rotations)[0].health is not given.places[0].health


def test_both_budgets_must_allow_a_retry() -> None:
    rotations, limits = Rotations(), Retries()
    one, other = (rotations.of(Model(name, (endpoint(name),), None), RULES) for name in "xy")
    assert sum(rotations.may_retry(one, 0, limits, 0) for _ in range(50)) == 30
    assert not rotations.may_retry(other, 0, limits, 0), "the worker's is spent"


def test_suspects_are_few_and_forgotten() -> None:
    rotations = Rotations()
    for request in range(1000):
        rotations.suspect(request, 0)
    assert rotations.is_suspect(1, 9)
    assert not rotations.is_suspect(999, 9), "no room"
    assert not rotations.is_suspect(1, 10)
    rotations.suspect(999, 11)
    assert rotations.is_suspect(999, 12)
    assert len(rotations.suspects) == 1, "the old ones are gone"


@pytest.mark.parametrize("key", [None, "a conversation"])
def test_weights_of_nothing_leave_nobody_without(key: str | None) -> None:
    given = rotation(two(endpoint("a", 0.0), endpoint("b", 0.0)))
    assert given.choose(0, (), key) is not None


# --- endpoints that are unwell


def one_fails_a_third() -> Rotation:
    """`a`: never five in a row, and not half, so it is not ejected."""
    given = rotation(three())
    a, b, c = given.places
    for number in range(60):
        for place in (b, c):
            answer(given, place, number / 60)
        (fail if number % 3 == 0 else answer)(given, a, number / 60)
    assert a.health.state(1) == IN
    return given


def test_a_share_of_failures_counts_like_load() -> None:
    given = one_fails_a_third()
    assert "a" not in names(given, 1, 300)
    assert Counter(name_of(given.choose(100)) for _ in range(300))["a"] > 50, "what is known of it fades"


@pytest.mark.parametrize("busy", [1, 4, 10])
def test_one_that_fails_now_and_then_is_called_little_also_where_others_are_busy(busy: int) -> None:
    given = one_fails_a_third()
    for place in given.places[1:]:
        for _ in range(busy):
            given.begin(place)
    assert Counter(name_of(given.choose(1)) for _ in range(1000))["a"] < 100


def test_one_of_little_weight_is_called_again_when_its_failures_have_faded() -> None:
    given = rotation(two(endpoint("a", 0.9), endpoint("b", 0.1)))
    b = given.places[1]
    for number in range(30):
        (fail if number % 3 == 0 else answer)(given, b, number / 30)
    assert names(given, 1) == {"a"}
    assert names(given, 300) == {"a", "b"}


def test_who_comes_back_is_not_flooded_for_its_idleness() -> None:
    """The others have long answers under way, and it has none."""
    given = rotation(three())
    a, b, c = given.places
    turns = [given.begin(place) for place in (b, c) for _ in range(100)]
    fail(given, a, 0, RULES.consecutive)
    back = 5.0 * 1.5
    answer(given, a, back)
    assert a.health.state(back) == IN
    for after in (RULES.slow_start, 2 * RULES.slow_start):
        found = Counter(name_of(given.choose(back + after)) for _ in range(3000))
        assert found["a"] < 1.2 * 1000
    for turn in turns:
        turn.end()


class Called:
    def __init__(self) -> None:
        self.is_moved = False

    def move(self) -> bool:
        self.is_moved = True
        return True


def test_one_that_falls_silent_is_left_and_what_waits_is_moved() -> None:
    given = rotation(three())
    a, b, _ = given.places
    for number in range(30):
        turn = given.begin(a, number / 30, False, Called())
        turn.answered(number / 30, 0.1)
        turn.end()
    waiting = [Called() for _ in range(8)]
    turns = [given.begin(a, 1.0, False, call) for call in waiting]
    elsewhere = Called()
    given.begin(b, 1.0, False, elsewhere)
    names(given, 1.5)
    assert not any(call.is_moved for call in waiting)
    names(given, 2.1)  # the first look
    assert names(given, 2.3) == {"b", "c"}
    assert all(call.is_moved for call in waiting)
    assert not elsewhere.is_moved
    assert a.health.state(2.3) == EJECTED
    turns[0].answered(2.4, 1.4)  # it was only slow: one that could not be moved is answered
    assert a.health.state(2.4) == IN


def test_one_that_answers_streams_is_not_silent_for_its_long_answers() -> None:
    given = rotation(three())
    a = given.places[0]
    for number in range(30):
        turn = given.begin(a, number / 30, False, Called())
        turn.answered(number / 30, 0.1)
        turn.end()
    waiting = [Called() for _ in range(8)]
    for call in waiting:
        given.begin(a, 1.0, False, call)
    for number in range(1, 20):
        now = 1.0 + number / 2
        streamed = given.begin(a, now, True, Called())
        streamed.answered(now, 0.1)
        streamed.end()
        names(given, now + 0.2)
    assert a.health.state(now) == IN
    assert not any(call.is_moved for call in waiting)
    given.begin(a, now, True, Called())  # it is asked, and does not answer: no sign of life
    names(given, now + 1.1)
    assert names(given, now + 1.3) == {"b", "c"}
    assert all(call.is_moved for call in waiting)
