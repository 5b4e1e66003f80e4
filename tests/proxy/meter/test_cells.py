"""Cells, and the arithmetic of several workers."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.meter.cells import Distribution, Family, Series, State, merge, retire

COUNT = Family("n_total", "counter", "n", ("a", "b"))
SPREAD = Family("s_seconds", "histogram", "s", ("a",), scale=10**9, bounds=(10, 20, 30))
RUNNING = Family("running", "gauge", "r")
LEAST = Family("ok", "gauge", "o", merge="min")
MOST = Family("peak", "gauge", "p", merge="max")
NEWEST = Family("info", "gauge", "i", ("hash",), merge="latest")
FAMILIES = {family.name: family for family in (COUNT, SPREAD, RUNNING, LEAST, MOST, NEWEST)}


def test_an_observation_falls_into_the_first_bucket_that_holds_it() -> None:
    spread = Distribution((10, 20))
    for value in (0, 10, 11, 20, 21, 10**12):
        spread.observe(value)
    assert spread.counts == [2, 2, 2]
    assert spread.sum == 0 + 10 + 11 + 20 + 21 + 10**12


def test_a_series_gives_the_same_cell_for_the_same_labels() -> None:
    series = Series(COUNT)
    series.cell("x", "y").value += 2
    series.cell("x", "y").value += 1
    assert series.state() == [[["x", "y"], 3]]


def test_a_series_refuses_too_few_labels() -> None:
    with pytest.raises(ValueError, match="n_total has the labels"):
        Series(COUNT).cell("x")


def test_counters_add_and_gauges_follow_their_rule() -> None:
    one: State = {
        "n_total": [[["x", "y"], 1], [["x", "z"], 5]],
        "s_seconds": [[["x"], [1, 0, 0, 2, 77]]],
        "running": [[[], 3]],
        "ok": [[[], 1]],
        "peak": [[[], 4]],
        "info": [[["old"], 1]],
    }
    two: State = {
        "n_total": [[["x", "y"], 10]],
        "s_seconds": [[["x"], [0, 1, 0, 0, 15]]],
        "running": [[[], 2]],
        "ok": [[[], 0]],
        "peak": [[[], 2]],
        "info": [[["new"], 1]],
    }
    assert merge([one, two], FAMILIES) == {
        "n_total": [[["x", "y"], 11], [["x", "z"], 5]],
        "s_seconds": [[["x"], [1, 1, 0, 2, 92]]],
        "running": [[[], 5]],
        "ok": [[[], 0]],
        "peak": [[[], 4]],
        "info": [[["new"], 1]],
    }


def test_of_a_dead_worker_only_what_was_counted_stays() -> None:
    state: State = {"n_total": [[["x", "y"], 1]], "s_seconds": [[["x"], [0, 0, 0, 0, 0]]], "running": [[[], 3]]}
    assert sorted(retire(state, FAMILIES)) == ["n_total", "s_seconds"]


def test_a_histogram_of_other_buckets_does_not_spoil_the_sum() -> None:
    """While workers are replaced by a new version, both are there for a moment."""
    old: State = {"s_seconds": [[["x"], [1, 2]]]}
    new: State = {"s_seconds": [[["x"], [1, 0, 0, 0, 5]]]}
    assert merge([old, new], FAMILIES) == new


def test_merging_changes_no_state_that_it_was_given() -> None:
    one: State = {"s_seconds": [[["x"], [1, 0, 0, 0, 5]]]}
    merge([one, one], FAMILIES)
    assert one == {"s_seconds": [[["x"], [1, 0, 0, 0, 5]]]}


states = st.lists(
    st.dictionaries(st.tuples(st.sampled_from("xy"), st.sampled_from("xy")), st.integers(0, 2**80)),
    min_size=1,
    max_size=4,
)


@given(states)
def test_merging_does_not_depend_on_grouping_or_on_the_way_here(counts: list[dict[Any, int]]) -> None:
    """Workers' states arrive as JSON or pickles, some already merged with those of the dead."""
    given: list[State] = [{"n_total": [[list(labels), n] for labels, n in each.items()]} for each in counts]
    whole = merge(given, FAMILIES)
    assert merge([merge(given[:1], FAMILIES), *given[1:]], FAMILIES) == whole
    assert merge([json.loads(json.dumps(state)) for state in given], FAMILIES) == whole
    assert merge([pickle.loads(pickle.dumps(state)) for state in given], FAMILIES) == whole
    assert sum(value for _, value in whole["n_total"]) == sum(sum(each.values()) for each in counts)
