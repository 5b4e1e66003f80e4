"""The small types of the config: durations, sizes, secrets, names. Each says what was wrong in plain words."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from proxy.config.document import scalar

VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class Expanded(str):
    """Text that was wholly one `${VAR}`: a number or true/false may be meant by it."""

    __slots__ = ()


def is_unknown(value: object) -> bool:
    """Text with a variable that is not set: nothing can be said of it, so nothing is."""
    return isinstance(value, str) and VARIABLE.search(value) is not None


class Secret:
    """A credential. Printing it shows nothing; `reveal` is the one way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def wrong(code: str, message: str) -> PydanticCustomError:
    """A validator's error with our own code. Braces would be read as a template's."""
    return PydanticCustomError(code, "{text}", {"text": message})  # type: ignore[arg-type,unused-ignore]  # wants a literal code: ours are, at the callers


LONGEST_PATIENCE: Final = 60.0  # seconds: after so many the kernel ends a connection whose peer takes nothing
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\Z")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\Z")
_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%\Z")
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._/:@ -]{0,98}[A-Za-z0-9._/:@-])?$")


def _as_number(value: Any) -> Any:
    return scalar(value) if isinstance(value, Expanded) else value


def _duration(value: Any) -> float:
    value = _as_number(value)
    if is_unknown(value):
        return 1.0
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    if isinstance(value, str) and (found := _DURATION.match(value.strip())) and len(value) < 32:
        seconds = float(found[1]) * _SECONDS[found[2]]
        if seconds < 1e9:  # thirty years; clocks have an end
            return seconds
    raise wrong("bad-duration", f"{shown(value)} is not a duration: write `500ms`, `2s`, `10m`, or seconds")


def _timeout(value: Any) -> float:
    seconds = _duration(value)
    if seconds == 0:
        raise wrong("bad-duration", "a timeout of 0 would fail every request")
    return seconds


def _interval(value: Any) -> float:
    seconds = _duration(value)
    if seconds < 0.01:
        raise wrong("bad-duration", "an interval must be 10ms or longer")
    return seconds


def _patience(value: Any) -> float:
    seconds = _timeout(value)
    if seconds > LONGEST_PATIENCE:
        raise wrong("bad-duration", "the listener itself gives a client up after 60s: write at most `60s`")
    return seconds


def _size(value: Any) -> int:
    value = _as_number(value)
    if is_unknown(value):
        return 2**20
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and (found := _SIZE.match(value.strip())) and float(found[1]) > 0:
        return int(float(found[1]) * _BYTES[found[2] or "B"])
    raise wrong("bad-size", f"{shown(value)} is not a size: write `10MiB`, `500kB`, or bytes")


def _share(value: Any) -> float:
    value = _as_number(value)
    if is_unknown(value):
        return 0.5
    if isinstance(value, str) and (found := _SHARE.match(value.strip())) and float(found[1]) <= 100:
        return float(found[1]) / 100
    raise wrong("bad-share", f"{shown(value)} is not a share: write `20%`, at most `100%`")


def _whole(value: Any) -> Any:
    value = _as_number(value)
    return 1 if is_unknown(value) else value


def _flag(value: Any) -> Any:
    value = _as_number(value)
    return False if is_unknown(value) else value


def _secret(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise wrong("wrong-type", "a secret is text, `${VAR}` or `file:/path`; quote it if it is a number")
    return Secret(value)


def _address(value: Any) -> str:
    if is_unknown(value):
        return "127.0.0.1:1"
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in bare and bare == host):
        raise wrong("bad-address", f"{shown(value)} is not HOST:PORT, as in `127.0.0.1:8080` or `[::]:8080`")
    return str(value)


def _name(value: str) -> str:
    """Names become labels and headers."""
    if not is_unknown(value) and not _NAME.fullmatch(value):
        raise wrong(
            "bad-name", f"{shown(value)} cannot be a name: a letter or digit, then also `._-/:@ `, at most 100"
        )
    return value


def _moment(value: str) -> str:
    if is_unknown(value):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise wrong("bad-time", f"{shown(value)} is not a time like 2026-11-21T23:00:00+01:00") from None
    if moment.tzinfo is None:
        raise wrong("bad-time", f"{shown(value)} lacks its offset, e.g. +01:00 or Z")
    return value


def shown(value: object) -> str:
    """A value as a message may quote it: short, on one line."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_AS_DURATION: Final = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^(\d.*(ms|s|m|h|d)|\$\{.*\})$"}]
}
_AS_SIZE: Final = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^(\d.*B?|\$\{.*\})$"}]
}

Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema(_AS_DURATION)]
Timeout = Annotated[float, BeforeValidator(_timeout), WithJsonSchema(_AS_DURATION)]
Patience = Annotated[float, BeforeValidator(_patience), WithJsonSchema(_AS_DURATION)]
Interval = Annotated[float, BeforeValidator(_interval), WithJsonSchema(_AS_DURATION)]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema(_AS_SIZE)]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]{1,3}(\.[0-9]+)? ?%|\$\{.*\})$"}),
]
WHOLE = BeforeValidator(_whole)  # for an `int` with bounds of its own
Flag = Annotated[bool, BeforeValidator(_flag)]
SecretText = Annotated[
    Any, BeforeValidator(_secret), PlainSerializer(repr, return_type=str), WithJsonSchema({"type": "string"})
]
Address = Annotated[str, BeforeValidator(_address), WithJsonSchema({"type": "string"})]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME.pattern})]
PolicyName = Annotated[str, AfterValidator(lambda value: value if value == "*" else _name(value))]
Moment = Annotated[str, AfterValidator(_moment)]
