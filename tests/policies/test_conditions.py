"""`when` compiled: what it means, how it explains and prints itself, and every mistake it refuses."""

import json
from typing import Any

import pytest
from hypothesis import given

from policies import Condition, ConditionTrace, Facts, Problem, Problems, compile_when
from tests.policies.samples import judged, requests, whens


def facts(headers: dict[bytes, bytes] | None = None, /, **body: Any) -> Facts:
    return Facts(body=body, headers=headers or {})


def problems(when: Any, named: dict[str, Any] | None = None) -> list[Problem]:
    with pytest.raises(Problems) as raised:
        compile_when(when, named)
    return raised.value.problems


def only(when: Any, named: dict[str, Any] | None = None) -> Problem:
    (problem,) = problems(when, named)
    return problem


# --- meaning ---


@given(whens(), requests())
def test_a_condition_means_what_its_yaml_says(when: Any, request: Facts) -> None:
    """The closures agree with a slow reading of the same data."""
    assert compile_when(when).test(request) is judged(when, request)


@given(whens(), requests())
def test_explaining_is_deciding(when: Any, request: Facts) -> None:
    """The trace's verdict is the test's; every comparison is in it, as JSON."""
    condition = compile_when(when)
    verdict, traces = condition.trace(request)
    assert verdict is condition.test(request)
    assert {trace.fact for trace in traces} == condition.facts
    json.dumps([(trace.want, trace.got) for trace in traces])


GOLD = {b"x-tier": b"gold"}


@pytest.mark.parametrize(
    ("when", "matches", "misses"),
    [
        ({"header.X-Tier": "gold"}, facts(GOLD), facts({b"x-tier": b"Gold"})),
        ({"header.x-tier": ["gold", "silver"]}, facts(GOLD), facts()),
        ({"header.x-tier": {"in": ["gold"]}}, facts(GOLD), facts({b"x-tier": b"gol"})),
        ({"header.x-tier": {"not": "gold"}}, facts(), facts(GOLD)),
        ({"header.x-tier": {"not": ["gold", "silver"]}}, facts(), facts(GOLD)),
        ({"header.x-tier": {"not": {"prefix": "go"}}}, facts(), facts(GOLD)),
        ({"header.x-tier": {"exists": True}}, facts(GOLD), facts()),
        ({"header.x-tier": {"exists": False}}, facts(), facts(GOLD)),
        ({"header.x-tier": {"prefix": "go", "suffix": "ld"}}, facts(GOLD), facts({b"x-tier": b"go"})),
        ({"header.x-tier": {"contains": "ol"}}, facts(GOLD), facts()),
        ({"header.x-tier": {"matches": "^g.*d$"}}, facts(GOLD), facts({b"x-tier": b"golden"})),
        ({"header.x-tier": {"matches": "ol"}}, facts(GOLD), facts()),
        ({"max_tokens": 5}, facts(max_tokens=5.0), facts(max_tokens=6)),
        ({"max_tokens": [5, 6]}, facts(max_tokens=6), facts()),
        ({"max_tokens": {"gt": 5}}, facts(max_tokens=6), facts(max_tokens=5)),
        ({"max_tokens": {"gte": 5, "lt": 7}}, facts(max_tokens=5), facts(max_tokens=7)),
        ({"max_tokens": {"lte": 5}}, facts(max_tokens=5), facts()),
        ({"max_tokens": {"not": {"gt": 5}}}, facts(), facts(max_tokens=6)),
        ({"stream": True}, facts(stream=True), facts()),
        ({"stream": False}, facts(), facts(stream="yes")),
        ({"tool_names": "find"}, facts(tools=[{"name": "a"}, {"name": "find"}]), facts(tools=[{"name": "a"}])),
        ({"tool_names": ["find", "b"]}, facts(tools=[{"name": "b"}]), facts()),
        ({"tool_names": {"prefix": "web_"}}, facts(tools=[{"type": "web_search"}]), facts(tools=[{"name": "find"}])),
        ({"tool_names": {"not": "find"}}, facts(), facts(tools=[{"name": "a"}, {"name": "find"}])),
        ({"tool_names": {"exists": False}}, facts(), facts(tools=[{"name": "find"}])),
        ({"metadata.team": "a"}, facts(metadata={"team": "a"}), facts(metadata={"team": ["a"]})),
        ({"any": [{"stream": True}, {"max_tokens": 5}]}, facts(max_tokens=5), facts(max_tokens=4)),
        ({"any": [{"stream": True}, {"max_tokens": 5}, {"user": "u"}]}, facts(user="u"), facts(user="v")),
        ({"all": [{"stream": True}, {"max_tokens": 5}], "user": "u"}, facts(stream=True, max_tokens=5, user="u"),
         facts(stream=True, max_tokens=5)),
        ({"not": {"header.x-tier": "gold", "stream": True}}, facts(GOLD), facts(GOLD, stream=True)),
        ({"not": {"not": {"stream": True}}}, facts(stream=True), facts()),
        ({"caller_prompt": {"prefix": "no"}}, facts(), Facts(body={}, headers={}, caller_prompt="exact")),
        ({"time": {"days": ["thu"]}}, facts(), Facts(body={}, headers={}, now=86400.0)),
    ],
)  # fmt: skip
def test_a_condition_matches_and_misses(when: Any, matches: Facts, misses: Facts) -> None:
    condition = compile_when(when)
    assert (condition.test(matches), condition.test(misses)) == (True, False)


def test_named_conditions_stand_wherever_a_condition_may() -> None:
    named = {"vip": {"any": ["gold", {"user": "boss"}]}, "gold": {"header.x-tier": "gold"}}
    for when in ("vip", {"all": ["vip", "gold"]}, {"any": ["vip"]}, {"not": {"not": "gold"}}):
        condition = compile_when(when, named)
        assert (condition.test(facts(GOLD)), condition.test(facts())) == (True, False)


def test_a_text_that_utf8_cannot_carry_is_still_searched() -> None:
    lone = facts(messages=[{"role": "user", "content": "\ud800 order"}])
    assert compile_when({"text": {"matches": "order"}}).test(lone)


def test_costly_facts_are_asked_last() -> None:
    """A header that does not match spares measuring the prompt, however the rule is written."""
    unread = Facts(body={"messages": [{"role": "user", "content": "hi"}]}, headers={})
    assert not compile_when({"text": {"matches": "x"}, "prompt_tokens": {"lt": 9}, "header.a": "b"}).test(unread)
    assert not {"text", "prompt_tokens"} & set(vars(unread))


# --- explaining and printing ---


def test_a_trace_tells_each_comparison_with_what_the_request_had() -> None:
    when = {
        "header.x-tier": ["gold"],
        "not": {"max_tokens": {"gt": 5}, "user": {"exists": False}},
        "user": {"not": "u"},
    }
    verdict, traces = compile_when(when).trace(facts(GOLD, max_tokens=6, user="v"))
    assert verdict
    assert traces == (
        ConditionTrace("header.x-tier", "in", ["gold"], "gold", True),
        ConditionTrace("max_tokens", "not gt", 5, 6, False),
        ConditionTrace("user", "exists", True, "v", True),
        ConditionTrace("user", "not", "u", "v", True),
    )


def test_a_trace_shows_time_as_it_is_there_lists_as_json_and_no_secrets() -> None:
    when = {
        "time": {"between": "22:00-6:00", "tz": "Europe/Berlin"},
        "tool_names": "find",
        "header.authorization": {"prefix": "Bearer"},
    }
    request = facts({b"authorization": b"Bearer sk-1"}, tools=[{"name": "find"}])
    assert compile_when(when).trace(request)[1] == (
        ConditionTrace("time", "within", "22:00-06:00 daily Europe/Berlin", "1970-01-01T01:00:00+01:00", True),
        ConditionTrace("tool_names", "eq", "find", ["find"], True),
        ConditionTrace("header.authorization", "prefix", "Bearer", "***", True),
    )


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ({"header.x-tier": "gold"}, "header.x-tier = gold"),
        ({"any": [{"prompt_tokens": {"gt": 6000}}, {"tools": True}]}, "prompt_tokens > 6000 or tools = true"),
        (
            {"user": ["a", "b"], "any": [{"stream": False}, {"key": "k"}]},
            "user in [a, b] and (stream = false or key = k)",
        ),
        ({"any": [{"user": "a", "key": "k"}, {"user": "b"}]}, "(user = a and key = k) or user = b"),
        ({"not": {"user": "a", "key": "k"}}, "not user = a or not key = k"),
        ({"user": {"exists": True}, "session": {"exists": False}}, "user exists and session is missing"),
        ({"time": {"days": ["sat"]}}, "time within (00:00-24:00 sat UTC)"),
        ({"text": {"matches": "a+"}}, "text matches a+"),
    ],
)
def test_a_condition_prints_itself(when: Any, text: str) -> None:
    assert str(compile_when(when)) == text


def test_conditions_are_equal_when_written_alike() -> None:
    first, again = (
        compile_when({"user": "a", "stream": True}),
        compile_when({"all": [{"user": "a"}, {"stream": True}]}),
    )
    assert first == again
    assert isinstance(first, Condition)
    assert first != compile_when({"user": "b", "stream": True})


def test_what_is_said_twice_is_asked_once() -> None:
    assert str(compile_when({"all": [{"user": "a"}, {"any": [{"user": "a"}, {"user": "a"}]}]})) == "user = a"


# --- mistakes ---


@pytest.mark.parametrize(
    ("when", "path", "code", "suggestion"),
    [
        (None, (), "wrong-type", None),
        ([{"stream": True}], (), "wrong-type", "{all: [...]}"),
        ({}, (), "empty-condition", None),
        ({"all": []}, ("all",), "empty-condition", None),
        ({"any": {"stream": True}}, ("any",), "wrong-type", None),
        ({"not": []}, ("not",), "wrong-type", "{all: [...]}"),
        ({"user": {}}, ("user",), "empty-condition", None),
        ({"promt_tokens": 1}, ("promt_tokens",), "unknown-fact", "prompt_tokens"),
        ({"zzz": 1}, ("zzz",), "unknown-fact", None),
        ({7: 1}, (7,), "unknown-fact", None),
        ({"header": {"x-tier": "gold"}}, ("header",), "unknown-fact", "header.x-tier"),
        ({"metadata.": "a"}, ("metadata.",), "unknown-fact", "metadata.NAME"),
        ({"headers.x-tier": "a"}, ("headers.x-tier",), "unknown-fact", "header.x-tier"),
        ({"header.x tier": "a"}, ("header.x tier",), "unknown-fact", None),
        ({"user": 7}, ("user",), "wrong-type", '"7"'),
        ({"user": True}, ("user",), "wrong-type", '"true"'),
        ({"user": None}, ("user",), "wrong-type", "{exists: false}"),
        ({"user": ["a", 7]}, ("user", 1), "wrong-type", '"7"'),
        ({"user": {"in": "a"}}, ("user", "in"), "wrong-type", "[a]"),
        ({"user": {"in": ["a", []]}}, ("user", "in", 1), "wrong-type", '"[]"'),
        ({"user": {"exists": "yes"}}, ("user", "exists"), "wrong-type", None),
        ({"user": {"gt": 7}}, ("user", "gt"), "wrong-operator", None),
        ({"user": {"prefx": "a"}}, ("user", "prefx"), "unknown-operator", "prefix"),
        ({"user": {"eq": "a"}}, ("user", "eq"), "unknown-operator", "user: a"),
        ({"user": {"regex": "a"}}, ("user", "regex"), "unknown-operator", "matches"),
        ({"user": {">": "a"}}, ("user", ">"), "unknown-operator", None),
        ({"user": {3: "a"}}, ("user", 3), "unknown-operator", None),
        ({"user": {"prefix": 3}}, ("user", "prefix"), "wrong-type", '"3"'),
        ({"user": {"matches": "a("}}, ("user", "matches"), "bad-pattern", None),
        ({"user": {"matches": "(?=a)"}}, ("user", "matches"), "bad-pattern", None),
        ({"user": {"matches": ".{1,1000}!"}}, ("user", "matches"), "bad-pattern", None),
        ({"user": {"not": 3}}, ("user", "not"), "wrong-type", '"3"'),
        ({"user": {"not": {"gt": 3}}}, ("user", "not", "gt"), "wrong-operator", None),
        ({"max_tokens": "12"}, ("max_tokens",), "wrong-type", "12"),
        ({"max_tokens": "many"}, ("max_tokens",), "wrong-type", None),
        ({"max_tokens": True}, ("max_tokens",), "wrong-type", None),
        ({"max_tokens": {"gt": float("inf")}}, ("max_tokens", "gt"), "wrong-type", None),
        ({"max_tokens": float("nan")}, ("max_tokens",), "wrong-type", None),
        ({"max_tokens": 10**400}, ("max_tokens",), "wrong-type", None),
        ({"max_tokens": {"matches": "1"}}, ("max_tokens", "matches"), "wrong-operator", None),
        ({"stream": "yes"}, ("stream",), "wrong-type", "true"),
        ({"stream": 1}, ("stream",), "wrong-type", None),
        ({"stream": {"gt": 1}}, ("stream", "gt"), "wrong-operator", None),
        ({"caller_prompt": "exakt"}, ("caller_prompt",), "unknown-value", "exact"),
        ({"time": "22:00-06:00"}, ("time",), "wrong-type", 'time: {between: "22:00-06:00"}'),
        ({"time": {"between": "22:00"}}, ("time", "between"), "bad-window", '"22:00-06:00"'),
        ("vipp", (), "unknown-condition", "vip"),
        ({"any": ["tools"]}, ("any", 0), "unknown-condition", "{tools: true}"),
        ({"any": ["user"]}, ("any", 0), "unknown-condition", None),
    ],
)
def test_a_mistake_is_refused_where_it_stands(when: Any, path: Any, code: str, suggestion: str | None) -> None:
    problem = only(when, {"vip": {"user": "boss"}})
    assert (problem.path, problem.code, problem.suggestion, problem.named) == (path, code, suggestion, None)
    assert problem.message


def test_all_mistakes_are_told_at_once() -> None:
    found = problems({"usr": "a", "any": [{"stream": 3}, "nobody"], "time": {"tz": "Mars", "days": []}})
    assert [problem.path for problem in found] == [
        ("usr",), ("any", 0, "stream"), ("any", 1), ("time", "days"), ("time", "tz"),
    ]  # fmt: skip


def test_a_mistake_in_a_named_condition_is_told_once_and_there() -> None:
    problem = only({"any": ["vip", {"not": "vip"}]}, {"vip": {"all": [{"user": 3}]}})
    assert (problem.named, problem.path) == ("vip", ("all", 0, "user"))


def test_conditions_that_name_each_other_in_a_ring_are_refused() -> None:
    problem = only("a", {"a": {"any": ["b"]}, "b": {"not": "c"}, "c": {"all": [{"stream": True}, "b"]}})
    assert (problem.named, problem.path, problem.code) == ("c", ("all", 1), "condition-cycle")
    assert problem.message.endswith("b -> c -> b")
