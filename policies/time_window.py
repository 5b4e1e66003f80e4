"""`time:` in a condition: a span of the local day, on some days, in some zone. Given the moment; reads no clock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from policies.problems import Problem, Problems, kind_of, nearest

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BETWEEN = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\s*-\s*(?:([01]?[0-9]|2[0-3]):([0-5][0-9])|(24):(00))")
_ALL_DAY = (0, 24 * 60)


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Minutes of the local day, the end excluded. A window that ends before it begins runs over midnight and belongs
    to the day on which it began."""

    begin: int = _ALL_DAY[0]
    end: int = _ALL_DAY[1]
    days: frozenset[int] = frozenset(range(7))  # Monday is 0
    tz: str = "UTC"
    zone: tzinfo = field(default=UTC, compare=False, repr=False)

    def local(self, now: float) -> datetime:
        return datetime.fromtimestamp(now, self.zone)

    def holds(self, now: float) -> bool:
        """Whether `now` (Unix seconds) lies in it."""
        local = self.local(now)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.begin < self.end:
            return self.begin <= minute < self.end and day in self.days
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days

    def __str__(self) -> str:
        span = f"{self.begin // 60:02}:{self.begin % 60:02}-{self.end // 60:02}:{self.end % 60:02}"
        days = " ".join(DAYS[day] for day in sorted(self.days)) if len(self.days) < 7 else "daily"
        return f"{span} {days} {self.tz}"


def compile_window(raw: Any) -> TimeWindow:
    """`{between: "22:00-06:00", days: [sat, sun], tz: Europe/Berlin}`; raises `Problems`."""
    if not isinstance(raw, Mapping):
        message = f"`time` wants a map of `between`, `days` and `tz`, not {kind_of(raw)}"
        raise Problems([Problem((), "wrong-type", message, 'time: {between: "22:00-06:00"}')])
    problems: list[Problem] = []
    for name in raw:
        if name not in ("between", "days", "tz"):
            message = f"`time` has no `{name}`"
            problems.append(Problem((name,), "unknown-operator", message, nearest(name, ("between", "days", "tz"))))
    if "between" not in raw and "days" not in raw:
        message = "a time window needs `between` or `days`"
        problems.append(Problem((), "empty-condition", message, 'between: "22:00-06:00"'))
    begin, end = _between(raw["between"], problems) if "between" in raw else _ALL_DAY
    days = _days(raw["days"], problems) if "days" in raw else frozenset(range(7))
    tz = raw.get("tz", "UTC")
    zone = _zone(tz, problems)
    if problems:
        raise Problems(problems)
    return TimeWindow(begin, end, days, tz, zone)


def _between(raw: Any, problems: list[Problem]) -> tuple[int, int]:
    found = _BETWEEN.fullmatch(raw) if isinstance(raw, str) else None
    if found is None:
        message = f"`between` wants two times of day such as 22:00-06:00, not {raw!r}"
        problems.append(Problem(("between",), "bad-window", message, '"22:00-06:00"'))
        return _ALL_DAY
    hour, minute, *until = (int(part) for part in found.groups() if part is not None)
    begin, end = hour * 60 + minute, until[0] * 60 + until[1]
    if begin == end:
        message = f"the window {raw} is empty: it ends when it begins"
        problems.append(Problem(("between",), "bad-window", message, '"00:00-24:00"'))
    return begin, end


def _days(raw: Any, problems: list[Problem]) -> frozenset[int]:
    given = raw if isinstance(raw, list | tuple) else [raw]
    if not given:
        problems.append(Problem(("days",), "bad-window", "`days` is empty: the window never opens", "[sat, sun]"))
    days = set()
    for position, name in enumerate(given):
        word = name.lower() if isinstance(name, str) else name
        if word in DAYS:
            days.add(DAYS.index(word))
        elif word in _NAMES:
            days.add(_NAMES.index(word))
        else:
            path = ("days", position) if given is raw else ("days",)
            message = f"{name!r} is not a day of the week; days are {', '.join(DAYS)}"
            problems.append(Problem(path, "bad-window", message, nearest(word, DAYS + _NAMES)))
    return frozenset(days)


def _zone(tz: Any, problems: list[Problem]) -> tzinfo:
    if tz == "UTC":
        return UTC  # needs no time zone database
    if not isinstance(tz, str):
        problems.append(Problem(("tz",), "wrong-type", f"`tz` wants a time zone's name, not {kind_of(tz)}", "UTC"))
        return UTC
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, such as `Europe`
        zones = {zone.lower(): zone for zone in available_timezones()}
        meant = nearest(tz, zones)
        message = f"no time zone {tz!r} is known here"
        problems.append(Problem(("tz",), "unknown-timezone", message, zones[meant] if meant else None))
        return UTC
