"""The gate before the application: the API key, and the kind and size of what comes in."""

from __future__ import annotations

import asyncio
import hmac
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from helpers.serving.calls import Limits
from helpers.serving.errors import ApiError, TooLarge, TooSlow, Unauthorized, WrongMediaType

OPEN_PATHS = ("/health",)
"""Paths that need no key: what a load balancer asks."""


class Gate:
    """Let calls pass that carry the API key and announce JSON of an allowed size; answer the others."""

    def __init__(self, app: ASGIApp, api_key: str | None, limits: Limits):
        """Stand before `app`; without a key, every call passes."""
        self._app, self._limits = app, limits
        self._key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or answer it with 401, 413 or 415."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], scope["path"], dict(scope["headers"]))
        await (self._app if refusal is None else error_response(refusal))(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        """Return why a call is refused, or None."""
        if self._key is not None and path not in OPEN_PATHS:
            given = headers.get(b"authorization", b"").partition(b" ")
            # In constant time: how long it takes tells nothing about the key.
            if given[0].lower() != b"bearer" or not hmac.compare_digest(given[2].strip(), self._key):
                return Unauthorized("the API key is missing or wrong; send it as: Authorization: Bearer KEY")
        kind = headers.get(b"content-type", b"").partition(b";")[0]
        # Any page in a browser may send text, or an unnamed type, to this machine: for JSON the browser asks.
        if method == "POST" and kind.strip().lower() != b"application/json":
            return WrongMediaType("the body must be JSON; send it with Content-Type: application/json")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            return _too_large(self._limits)
        return None


async def read_body(http: Request, limits: Limits) -> bytes:
    """Return a call's body. Raises TooLarge and TooSlow, having read no more than allowed."""
    body = b""
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in http.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {limits.body_seconds:g} seconds") from None
    except ClientDisconnect:
        raise TooSlow("the client left before its body had come") from None
    return body


def error_response(error: ApiError) -> JSONResponse:
    """Return an error as an HTTP response."""
    headers = dict(error.headers)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooLarge | TooSlow | WrongMediaType):
        headers["Connection"] = "close"  # the rest of the body may be endless
    return JSONResponse(error.body(), HTTPStatus(error.status), headers)


def _too_large(limits: Limits) -> TooLarge:
    """Return the error for a body with too many bytes."""
    return TooLarge(f"the body may have {limits.body_bytes} bytes at most")
