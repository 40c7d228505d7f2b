"""What a server refuses or fails to do, as OpenAI's clients expect to be told."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer that says what went wrong: an HTTP status, and a body of the form `{"error": {...}}`."""

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(self, message: str, param: str | None = None, code: str | None = None):
        """Take a sentence, the name of the parameter at fault, and a word for programs."""
        super().__init__(message)
        self.message, self.param = message, param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of the answer."""
        return {}

    def body(self) -> dict[str, Any]:
        """Return the answer's body, with `message`, `type`, `param` and `code`."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": fields}


class BadRequest(ApiError, ValueError):
    """The request cannot be served as it is: status 400."""

    status, kind = 400, "invalid_request_error"


class Unauthorized(BadRequest):
    """The request has no valid API key: status 401."""

    status, code = 401, "invalid_api_key"


class NoRoute(BadRequest):
    """The request's path, or its method, is not served: status 404, or the one given."""

    status = 404

    def __init__(self, message: str, status: int = 404):
        super().__init__(message)
        self.status = status


class UnknownModel(BadRequest):
    """The request names a model that is not served: status 404."""

    status, code = 404, "model_not_found"


class TooSlow(BadRequest):
    """The request's body did not come in time: status 408."""

    status, code = 408, "request_timeout"


class TooLarge(BadRequest):
    """The request's body has more bytes than are read: status 413."""

    status, code = 413, "request_too_large"


class WrongMediaType(BadRequest):
    """The request's body is not announced as JSON: status 415."""

    status, code = 415, "unsupported_media_type"


class Busy(ApiError):
    """The queue is full: status 429, with the seconds after which to try again."""

    status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int = 1):
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Return the header Retry-After."""
        return {"Retry-After": str(self.retry_after)}


class Draining(ApiError):
    """The server ends and takes no more requests: status 503."""

    status, kind, code = 503, "service_unavailable_error", "shutting_down"


class RequestFailed(ApiError):
    """The engine could not compute this request: status 500. Other requests go on."""


class EngineLost(RequestFailed):
    """The engine ended before the answer did: status 500. Another engine can go on with the answer."""
