"""The error tree, grouped by who is at fault. `proxy/wire/error.py` answers callers with these, in OpenAI's shape.

PointsmanError
  CallerError            the request is wrong: 4xx, nothing was sent upstream
    BadRequest           400 invalid_request_error
    Unauthorized         401 invalid_api_key
    Forbidden            403
    NotFound             404 (model_not_found, unknown path)
    MethodNotAllowed     405
    RequestTimeout       408: the client sends too slowly
    TooLarge             413
    UnsupportedMedia     415
    HeadersTooLarge      431
  Unavailable            503, with retry-after: shutting down
    Overloaded           503: memory or descriptors run out
  UpstreamError          every attempt failed: the class of the last one decides status, type and code
  InternalError          500: a defect of ours
  ConfigError            a config cannot be served: never reaches a caller
"""

import math
from typing import Any, ClassVar


class PointsmanError(Exception):
    """Knows its HTTP status and the four fields of an OpenAI error."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code

    @property
    def http_status(self) -> int:
        return self.status

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class CallerError(PointsmanError):
    status = 400
    type = "invalid_request_error"


class BadRequest(CallerError):
    code = "invalid_request"


class Unauthorized(CallerError):
    status = 401
    code = "invalid_api_key"

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"www-authenticate", b"Bearer")]


class Forbidden(CallerError):
    status = 403
    code = "forbidden"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class MethodNotAllowed(CallerError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", self.allow.encode())]


class TooLarge(CallerError):
    status = 413
    code = "request_too_large"


class HeadersTooLarge(CallerError):
    status = 431
    code = "request_header_fields_too_large"


class RequestTimeout(CallerError):
    status = 408
    code = "request_timeout"


class UnsupportedMedia(CallerError):
    status = 415
    code = "unsupported_media_type"


class Unavailable(PointsmanError):
    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"retry-after", str(self.retry_after).encode())]


class Overloaded(Unavailable):
    """`what` has run out, for now."""

    code = "overloaded"

    def __init__(self, what: str = "no memory is left for more requests") -> None:
        super().__init__(f"{what}; try again in a moment")


class UpstreamError(PointsmanError):
    """Our own tries are spent. Built by `proxy.wire.error` from the last attempt's failure.

    `retry_after`: seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,
        code: str | None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self._status = status
        self._type = type
        self.retry_after = retry_after

    @property
    def http_status(self) -> int:
        return self._status

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = [(b"x-should-retry", b"false")]
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
        return found

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self._type, "param": self.param, "code": self.code}}


class InternalError(PointsmanError):
    """A defect of ours. What it is stands in the log."""

    code = "internal_error"

    def __init__(self, message: str = "internal error: the request could not be served") -> None:
        super().__init__(message)


class ConfigError(PointsmanError):
    """A config that loaded cannot be served here: a worker refuses it, or cannot start with it.

    What is wrong with the files themselves is a list of `proxy.config.problems`.
    """
