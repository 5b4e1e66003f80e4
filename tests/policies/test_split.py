"""Splits: the published vectors, shares that hold, and callers who only move when they must."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Arm, Decision, Facts, Problems, Split, choose, compile_sticky, parse_shares
from policies.split import encode, score

VECTORS = Path(__file__).with_name("split_vectors.json")


def split(shares: Mapping[str, float], salt: str = "support/default") -> Split:
    total = sum(shares.values())
    arms = tuple(
        Arm(Decision("support", "default", name, name, weight / total or 1.0), weight)
        for name, weight in shares.items()
    )
    return Split(arms, salt, lambda facts: str(facts.user))


def drawn(given: Split, key: str, live: Mapping[str, float] | None = None) -> str:
    return choose(given, Facts(body={"user": key}, headers={}), live).route


def slowly(salt: str, shares: Mapping[str, str], key: str) -> str:
    """The documented draw in other means: 50-digit decimals, bytes spelled out."""
    with localcontext() as context:
        context.prec = 50
        scores = {}
        for arm, weight in shares.items():
            hashed = hashlib.blake2b(digest_size=8)
            for text in (salt, arm, key):
                data = text.encode("utf-8", "surrogatepass")
                hashed.update(bytes([len(data) >> shift & 255 for shift in range(56, -8, -8)]) + data)
            k = int(hashed.hexdigest()[:13], 16)
            if Decimal(weight) > 0:
                scores[arm] = Decimal(weight) / -((Decimal(k) + Decimal("0.5")) / 2**52).ln()
    return min(scores, key=lambda arm: (-scores[arm], arm))


def vectors() -> list[dict[str, Any]]:
    """What stands in `split_vectors.json`; `python -m tests.policies.test_split` writes it."""
    splits = [
        ("support/default", {"tuned": "0.25", "strong": "0.75"}),
        ("support/default", {"tuned": "0.005", "strong": "0.995"}),
        ("", {"a": "0.5", "b": "0.5"}),
        ("sålt/✓", {"ärm": "0.2", "b": "0.3", "c": "0.5", "never": "0"}),
        ("a", {"bc": "0.5", "c": "0.5"}),
        ("ab", {"c": "0.5", "bc": "0.5"}),
    ]
    keys = ["", "4:user=ann", "4:user=bob", "7:session=c-17", "12:conversation=0:hi", "日本語", "\ud800", "x" * 300]
    keys += [f"4:user=customer-{number}" for number in range(12)]
    return [
        {"salt": salt, "arms": arms, "key": key, "arm": slowly(salt, arms, key)}
        for salt, arms in splits
        for key in keys
    ]


def test_the_published_vectors_are_what_the_slow_draw_gives() -> None:
    assert json.loads(VECTORS.read_text()) == vectors()


@pytest.mark.parametrize(
    "case", json.loads(VECTORS.read_text()), ids=lambda case: f"{case['salt']}:{case['key'][:24]!a}"
)
def test_a_published_vector(case: dict[str, Any]) -> None:
    shares = {arm: float(weight) for arm, weight in case["arms"].items()}
    arms = tuple(Arm(Decision("p", "r", arm, arm), weight) for arm, weight in shares.items())
    given = Split(arms, case["salt"], lambda _: str(case["key"]))
    assert choose(given, Facts(body={}, headers={})).arm == case["arm"]


weights = st.dictionaries(
    st.sampled_from(["tuned", "strong", "cheap", "other"]), st.integers(0, 100).map(float), min_size=1
).filter(lambda shares: any(shares.values()))
keys = st.text(max_size=8)


@given(weights, st.text(max_size=6), keys)
def test_the_fast_draw_is_the_slow_draw(shares: dict[str, float], salt: str, key: str) -> None:
    slow = slowly(salt, {arm: str(weight) for arm, weight in shares.items()}, str(key or None))
    assert drawn(split(shares, salt), key) == slow


@given(weights, keys)
def test_the_order_of_arms_is_irrelevant(shares: dict[str, float], key: str) -> None:
    assert drawn(split(shares), key) == drawn(split(dict(reversed(shares.items()))), key)


@given(weights, weights, keys)
def test_a_caller_moves_only_to_an_arm_that_grew_relative_to_the_old(
    before: dict[str, float], after: dict[str, float], key: str
) -> None:
    old, new = drawn(split(before), key), drawn(split(before), key, after)
    if old != new:
        assert after.get(new, 0) * before[old] > before.get(new, 0) * after.get(old, 0)


@given(weights, keys)
def test_an_arm_of_nothing_is_never_drawn(shares: dict[str, float], key: str) -> None:
    assert shares[drawn(split(shares), key)] > 0


@pytest.mark.parametrize("tuned", [0.005, 0.25, 0.5, 0.9])
def test_shares_hold_over_many_callers(tuned: float) -> None:
    """Within four standard deviations; the callers are fixed, so this cannot flicker."""
    given, callers = split({"tuned": tuned, "strong": 1 - tuned}), 20_000
    count = Counter(drawn(given, f"customer-{number}") for number in range(callers))
    assert abs(count["tuned"] - tuned * callers) < 4 * math.sqrt(callers * tuned * (1 - tuned))


def test_splits_with_other_salts_are_independent() -> None:
    callers = [f"customer-{number}" for number in range(10_000)]
    one, two = (split({"a": 0.5, "b": 0.5}, salt) for salt in ("one", "two"))
    both = sum(drawn(one, key) == drawn(two, key) == "a" for key in callers)
    assert 2300 < both < 2700


def test_a_ramp_only_adds_callers() -> None:
    given = split({"tuned": 0.05, "strong": 0.95})
    tuned: set[str] = set()
    for percent in (5, 10, 25, 50, 100):
        live = {"tuned": percent / 100, "strong": 1 - percent / 100}
        now = {key for key in map(str, range(1000)) if drawn(given, key, live) == "tuned"}
        assert tuned <= now
        tuned = now
    assert len(tuned) == 1000


def test_a_written_split_answers_with_its_own_decisions() -> None:
    given = split({"tuned": 0.25, "strong": 0.75})
    assert any(choose(given, Facts(body={"user": "ann"}, headers={})) is arm.decision for arm in given.arms)


def test_live_shares_are_the_propensity() -> None:
    given = split({"tuned": 0.25, "strong": 0.75})
    facts = Facts(body={"user": "ann"}, headers={})
    assert choose(given, facts, {"tuned": 2.0, "gone": 5.0}) == Decision("support", "default", "tuned", "tuned", 1.0)
    by_arm = {"tuned": 0.4, "strong": 0.6}
    for key in ("ann", "bob", "cid", "dot"):
        decision = choose(given, Facts(body={"user": key}, headers={}), by_arm)
        assert decision.propensity == by_arm[decision.route]


@pytest.mark.parametrize("live", [{}, {"tuned": 0.0}, {"tuned": -1.0}, {"tuned": math.nan}, {"gone": 1.0}])
def test_live_shares_that_leave_nothing_to_draw_are_not_followed(live: dict[str, float]) -> None:
    given = split({"tuned": 0.25, "strong": 0.75})
    facts = Facts(body={"user": "ann"}, headers={})
    assert choose(given, facts, live) is choose(given, facts)


def test_equal_scores_go_to_the_first_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.split.score", lambda weight, data: 1.0)
    for order in (("b", "a", "c"), ("a", "b", "c"), ("c", "b", "a")):
        assert drawn(split(dict.fromkeys(order, 1.0)), "ann") == "a"


def test_no_digest_makes_a_score_infinite_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        def __init__(self, data: bytes, digest_size: int) -> None:
            self.data = data

        def digest(self) -> bytes:
            return self.data

    monkeypatch.setattr("policies.split.blake2b", Digest)
    assert 0 < score(0.005, b"\0" * 8) < score(0.005, b"\xff" * 8) < math.inf


def test_an_arm_is_named_by_its_route_where_it_has_no_name() -> None:
    assert Arm(Decision("p", "r", "strong"), 1.0).name == "strong"


def test_texts_are_hashed_behind_their_length() -> None:
    assert encode("é") == b"\0\0\0\0\0\0\0\x02\xc3\xa9"
    assert encode("a") + encode("bc") != encode("ab") + encode("c")


# --- shares as they are written ---


@pytest.mark.parametrize(
    ("raw", "shares"),
    [
        ({"tuned": "25%", "strong": "rest"}, {"tuned": 0.25, "strong": 0.75}),
        ({"strong": "rest", "tuned": "0.5%"}, {"strong": 0.995, "tuned": 0.005}),
        ({"a": "33.3%", "b": "33.3 %", "c": "33.4%"}, {"a": 0.333, "b": 0.333, "c": 0.334}),
        ({"a": "0.1%", "b": "0.2%", "c": "99.7%"}, {"a": 0.001, "b": 0.002, "c": 0.997}),
        ({"tuned": "100%", "strong": "rest"}, {"tuned": 1.0, "strong": 0.0}),
        ({"tuned": "0%", "strong": "100%"}, {"tuned": 0.0, "strong": 1.0}),
        ({"only": "rest"}, {"only": 1.0}),
    ],
)
def test_shares_are_read(raw: dict[str, str], shares: dict[str, float]) -> None:
    parsed = parse_shares(raw)
    assert parsed == shares
    assert list(parsed) == list(raw)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_shares_that_total_a_hundred_are_exact(cuts: list[int]) -> None:
    """However many decimals: the parts are added as fractions."""
    edges = [0, *sorted(cuts), 10**6]
    parts = [high - low for low, high in pairwise(edges)]
    raw = {f"arm{number}": f"{Decimal(part) / 10**4:f}%" for number, part in enumerate(parts)}
    assert parse_shares(raw) == {f"arm{number}": float(Fraction(part, 10**6)) for number, part in enumerate(parts)}
    del raw["arm0"]
    assert parse_shares({"arm0": "rest", **raw})["arm0"] == float(Fraction(parts[0], 10**6))


@pytest.mark.parametrize(
    ("raw", "path", "code", "suggestion"),
    [
        ("25%", (), "wrong-type", None),
        ({}, (), "empty-split", None),
        ({"a": "50%", "b": "40%"}, (), "shares-total", "b: 50%"),
        ({"a": "90%", "b": "90%", "c": "10%"}, (), "shares-total", None),
        ({"a": "90%", "b": "rest", "c": "20%"}, (), "shares-total", None),
        ({"a": "33%", "b": "33%", "c": "33%"}, (), "shares-total", "c: 34%"),
        ({"a": "rest", "b": "rest"}, ("b",), "two-rests", None),
        ({"a": 25, "b": "rest"}, ("a",), "bad-share", "25%"),
        ({"a": True, "b": "rest"}, ("a",), "bad-share", None),
        ({"a": "a lot", "b": "rest"}, ("a",), "bad-share", None),
        ({"a": "1e1%", "b": "rest"}, ("a",), "bad-share", None),
        ({"a": "٢٥%", "b": "rest"}, ("a",), "bad-share", None),
        ({"a": "-5%", "b": "rest"}, ("a",), "bad-share", None),
        ({"a": "101%", "b": "rest"}, ("a",), "bad-share", None),
    ],
)
def test_shares_that_make_no_split_are_refused(raw: Any, path: Any, code: str, suggestion: str | None) -> None:
    with pytest.raises(Problems) as raised:
        parse_shares(raw)
    (problem,) = raised.value.problems
    assert (problem.path, problem.code, problem.suggestion) == (path, code, suggestion)


def test_all_wrong_shares_are_told_at_once() -> None:
    with pytest.raises(Problems) as raised:
        parse_shares({"a": 5, "b": "rest", "c": "rest", "d": "-1%"})
    assert [problem.path for problem in raised.value.problems] == [("a",), ("d",), ("c",)]


def test_a_split_by_sticky_key_is_the_same_for_a_callers_every_request() -> None:
    arms = tuple(Arm(Decision("p", "r", name, name, 0.5), 0.5) for name in ("a", "b"))
    given = Split(arms, "p/r", compile_sticky("user"))
    asked = [{"user": "ann", "messages": [{"role": "user", "content": text}]} for text in ("one", "two", "three")]
    assert len({choose(given, Facts(body=body, headers={})).route for body in asked}) == 1


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
