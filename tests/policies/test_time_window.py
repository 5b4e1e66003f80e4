"""Windows of the local day: over midnight, by the day they began, through changes of the clock."""

from datetime import datetime
from typing import Any

import pytest

from policies.problems import Problems
from policies.time_window import compile_window


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        ({"between": "09:00-17:00"}, "2026-11-21T09:00:00+00:00", True),
        ({"between": "09:00-17:00"}, "2026-11-21T08:59:59+00:00", False),
        ({"between": "09:00-17:00"}, "2026-11-21T16:59:59+00:00", True),
        ({"between": "09:00-17:00"}, "2026-11-21T17:00:00+00:00", False),
        ({"between": "9:00 - 24:00"}, "2026-11-21T23:59:00+00:00", True),
        ({"between": "22:00-06:00"}, "2026-11-21T22:00:00+00:00", True),
        ({"between": "22:00-06:00"}, "2026-11-21T05:59:00+00:00", True),
        ({"between": "22:00-06:00"}, "2026-11-21T06:00:00+00:00", False),
        ({"between": "22:00-06:00", "days": ["sat"]}, "2026-11-21T23:00:00+00:00", True),
        ({"between": "22:00-06:00", "days": ["sat"]}, "2026-11-22T03:00:00+00:00", True),
        ({"between": "22:00-06:00", "days": ["sat"]}, "2026-11-21T03:00:00+00:00", False),
        ({"between": "22:00-06:00", "days": ["sun"]}, "2026-11-23T03:00:00+00:00", True),
        ({"between": "22:00-06:00", "days": ["sun"]}, "2026-11-22T12:00:00+00:00", False),
        ({"days": "Saturday"}, "2026-11-21T12:00:00+00:00", True),
        ({"days": ["sat", "sun"]}, "2026-11-23T12:00:00+00:00", False),
        ({"between": "22:00-06:00", "tz": "Europe/Berlin"}, "2026-11-21T21:00:00+00:00", True),
        ({"between": "22:00-06:00", "tz": "Europe/Berlin"}, "2026-11-21T20:59:00+00:00", False),
        ({"days": ["sun"], "tz": "Pacific/Auckland"}, "2026-11-21T12:00:00+00:00", True),
        # the hour that the clock skips in spring, and the one that it repeats in autumn
        ({"between": "02:00-03:00", "tz": "Europe/Berlin"}, "2026-03-29T01:00:00+00:00", False),
        ({"between": "02:00-03:00", "tz": "Europe/Berlin"}, "2026-10-25T00:30:00+00:00", True),
        ({"between": "02:00-03:00", "tz": "Europe/Berlin"}, "2026-10-25T01:30:00+00:00", True),
    ],
)
def test_a_window_is_open_or_shut(window: dict[str, Any], moment: str, is_open: bool) -> None:
    assert compile_window(window).holds(datetime.fromisoformat(moment).timestamp()) is is_open


def test_a_window_prints_itself() -> None:
    assert str(compile_window({"between": "22:00-6:00", "days": ["sun", "sat"]})) == "22:00-06:00 sat sun UTC"
    assert str(compile_window({"between": "0:00-24:00"})) == "00:00-24:00 daily UTC"


@pytest.mark.parametrize(
    ("window", "path", "code", "suggestion"),
    [
        ("always", (), "wrong-type", 'time: {between: "22:00-06:00"}'),
        ({}, (), "empty-condition", 'between: "22:00-06:00"'),
        ({"betwen": "1:00-2:00", "days": ["mon"]}, ("betwen",), "unknown-operator", "between"),
        ({"between": "25:00-26:00"}, ("between",), "bad-window", '"22:00-06:00"'),
        ({"between": 1320}, ("between",), "bad-window", '"22:00-06:00"'),
        ({"between": "06:00-06:00"}, ("between",), "bad-window", '"00:00-24:00"'),
        ({"days": []}, ("days",), "bad-window", "[sat, sun]"),
        ({"days": ["sat", "sonday"]}, ("days", 1), "bad-window", "sunday"),
        ({"days": 6}, ("days",), "bad-window", None),
        ({"days": ["sat"], "tz": 2}, ("tz",), "wrong-type", "UTC"),
        ({"days": ["sat"], "tz": "europe/berlin"}, ("tz",), "unknown-timezone", "Europe/Berlin"),
        ({"days": ["sat"], "tz": "Europe"}, ("tz",), "unknown-timezone", None),
        ({"days": ["sat"], "tz": "../etc/passwd"}, ("tz",), "unknown-timezone", None),
    ],
)
def test_a_mistake_is_refused(window: Any, path: Any, code: str, suggestion: str | None) -> None:
    with pytest.raises(Problems) as raised:
        compile_window(window)
    (problem,) = raised.value.problems
    assert (problem.path, problem.code) == (path, code)
    if suggestion is not None:
        assert problem.suggestion == suggestion
