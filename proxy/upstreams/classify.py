"""What a server's error means: one of the classes of `routes.failure`, from status, headers and body."""

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from proxy.upstreams.base import Failed
from proxy.upstreams.redact import redact
from routes import failure

LONGEST_WAIT: Final = 300.0  # seconds; a server that asks for more is asked again then
DEFAULT_WAIT: Final = 1.0  # seconds, for a `retry-after` that cannot be read
EXCERPT: Final = 300  # characters of a foreign text that are repeated
FIELD: Final = 4000  # characters of an upstream's own message kept for the caller

OVERLOADED: Final = frozenset({"overloaded_error", "server_is_overloaded", "overloaded", "engine_overloaded"})
CONTENT_CODES: Final = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content_filtered", "safety"}
)
CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})

_is_context_text = re.compile(
    r"""maximum\ (?:context|model)\ length            # OpenAI, Azure, vLLM, Mistral
    | (?:context|model)'?s?\ (?:length|window|limit|size)\b.*exceed
    | exceed\w*\b.*\bcontext\ (?:length|window|limit|size)   # Anthropic, llama.cpp, SGLang
    | longer\ than\ the\ (?:model's\ )?(?:maximum\ )?(?:model|context)\ length
    | prompt\ is\ too\ long                           # Anthropic
    | input\ is\ too\ long                            # Bedrock
    | token\ count\b.*exceeds                         # Gemini
    | `inputs`\ tokens\ \+                            # TGI
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
).search
_is_content_text = re.compile(
    r"content management policy|blocked by content filter|content[ _]filter(?:ing)? policy|responsible ?ai",
    re.IGNORECASE,
).search

# What a type or code stands for where no HTTP status says it: an error under 200, or inside a stream.
STATUS_OF: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 403,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "timeout_error": 408,
    "request_timeout": 408,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "api_error": 500,
    "server_error": 500,
    **dict.fromkeys(OVERLOADED, 503),
    **dict.fromkeys(CONTENT_CODES | CONTEXT_CODES, 400),
}


@dataclass(frozen=True, slots=True)
class _Error:
    """An error object's fields, whatever dialect it came in."""

    message: str | None
    type: str | None
    param: str | None
    code: str | int | None
    inner: str | None  # Azure's `innererror.code`

    @property
    def words(self) -> frozenset[str]:
        return frozenset(str(word).lower() for word in (self.type, self.code, self.inner) if word is not None)


def classify(
    status: int, headers: Mapping[bytes, bytes], body: bytes, *, model: str, secrets: Iterable[str] = ()
) -> Failed:
    """Turn an answer that is not 2xx, or is not what it should be, into the failure it means.

    `model` is named in the message; `secrets` (see `redact.secrets_of`) are taken out of it.
    """
    error = _read(_parse(body))
    return _failed(status, error, model, secrets, retry_after(headers), _excerpt(body))


def from_error_object(error: object, *, model: str, secrets: Iterable[str] = ()) -> Failed:
    """Classify the value of an `error` member that came under a 200 or as a stream's event."""
    found = _read({"error": error})
    code = str(found.code)
    if re.fullmatch("[45][0-9]{2}", code):
        status = int(code)
    else:
        status = next((STATUS_OF[word] for word in sorted(found.words) if word in STATUS_OF), 500)
    return _failed(status, found, model, secrets, None, "")


def retry_after(headers: Mapping[bytes, bytes], now: float | None = None) -> float | None:
    """Return the seconds a server asks to wait, between 0 and `LONGEST_WAIT`; None when it does not say.

    `now` is Unix time, for dates; default: the clock.
    """
    if (text := headers.get(b"retry-after-ms")) is not None:
        seconds = _number(text)
        return DEFAULT_WAIT if seconds is None else _clamp(seconds / 1000)
    if (text := headers.get(b"retry-after")) is None:
        return None
    if (seconds := _number(text)) is not None:
        return _clamp(seconds)
    try:
        when = parsedate_to_datetime(text.decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return DEFAULT_WAIT
    return _clamp(when - (time.time() if now is None else now))


def _number(text: bytes) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _clamp(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _failed(
    status: int, error: _Error, model: str, secrets: Iterable[str], wait: float | None, excerpt: str
) -> Failed:
    kind = _kind(status, error)
    secrets = tuple(secrets)
    said = redact(_printable(error.message or excerpt), secrets)
    if kind in (failure.CONTEXT_LENGTH, failure.CONTENT_FILTER, failure.REQUEST):
        message = said[:FIELD] or f"model {model!r} refused the request with status {status}"
        code = error.code
        fields = {
            "message": message,
            "type": _word(error.type or "invalid_request_error", secrets),
            "param": _word(error.param, secrets) or None if error.param else None,
            "code": _word(code, secrets) or None if isinstance(code, str) else code,
        }
        return Failed(kind, message, status=status, error=fields)
    message = f"model {model!r} answered {status}" + (f": {said[:EXCERPT]}" if said else "")
    waits = kind in (failure.RATE_LIMITED, failure.UPSTREAM_5XX)
    return Failed(kind, message, status=status, retry_after=wait if waits else None)


def _word(text: str, secrets: tuple[str, ...]) -> str:
    """A short field of an upstream's error, fit for an answer and for the log: the code goes there, too."""
    return redact(_printable(text), secrets)[:EXCERPT]


def _kind(status: int, error: _Error) -> str:
    words = error.words
    if status == 429:
        return failure.RATE_LIMITED
    if status >= 500 or words & OVERLOADED:
        return failure.UPSTREAM_5XX
    if status < 400:
        return failure.BAD_ANSWER  # redirects among them: they are never followed, a key would go along
    if status in (401, 403):
        return failure.AUTH
    if status == 408:
        return failure.TIMEOUT
    message = error.message or ""
    if words & CONTEXT_CODES or _is_context_text(message):
        return failure.CONTEXT_LENGTH
    if words & CONTENT_CODES or _is_content_text(message):
        return failure.CONTENT_FILTER
    return failure.REQUEST


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not text, or a depth bomb
        return None


def _read(value: Any) -> _Error:
    """Find the error in the shapes servers use: OpenAI's, Anthropic's, Google's, vLLM's flat one, FastAPI's."""
    if isinstance(value, list) and value:
        value = value[0]  # Google wraps it in a list
    if not isinstance(value, dict):
        return _Error(None, None, None, None, None)
    error = value.get("error", value)
    if not isinstance(error, dict):
        return _Error(_text(error) or _text(value.get("message")), None, None, None, None)
    inner = error.get("innererror")
    code = error.get("code")
    detail = error.get("detail")
    return _Error(
        message=_text(error.get("message")) or (_text(detail) or json.dumps(detail) if detail else None),
        type=_text(error.get("type")) or _text(error.get("status")),
        param=_text(error.get("param")),
        code=code if isinstance(code, int) and not isinstance(code, bool) else _text(code),
        inner=_text(inner.get("code")) if isinstance(inner, dict) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _excerpt(body: bytes) -> str:
    """The start of a body that is no error object, without markup."""
    text = body[: 16 * EXCERPT].decode("utf-8", "replace")
    text = re.sub(r"<(script|style)\b.*?(</\1\s*>|$)|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(_printable(text).split())[:EXCERPT]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).strip()
