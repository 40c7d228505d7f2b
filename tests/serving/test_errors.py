"""Errors in OpenAI's form."""

import pytest

from helpers.serving import (
    ApiError,
    BadRequest,
    Busy,
    Draining,
    RequestFailed,
    TooSlow,
    UnknownModel,
    WrongMediaType,
)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (BadRequest("no", "n"), 400, "invalid_request_error", None),
        (BadRequest("no", "n", "invalid_value"), 400, "invalid_request_error", "invalid_value"),
        (UnknownModel("no", "n"), 404, "invalid_request_error", "model_not_found"),
        (TooSlow("no", "n"), 408, "invalid_request_error", "request_timeout"),
        (WrongMediaType("no", "n"), 415, "invalid_request_error", "unsupported_media_type"),
        (Draining("no", "n"), 503, "service_unavailable_error", "shutting_down"),
        (RequestFailed("no", "n"), 500, "server_error", None),
        (ApiError("no", "n"), 500, "server_error", None),
    ],
)
def test_form(error, status, kind, code):
    assert error.status == status
    assert error.body() == {"error": {"message": "no", "type": kind, "param": "n", "code": code}}
    assert error.headers == {}


def test_busy_says_when_to_come_again():
    assert Busy("full", 3).headers == {"Retry-After": "3"}
    assert isinstance(BadRequest("x"), ValueError)
