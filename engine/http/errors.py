"""Deliberate errors as HTTP answers: {"error": one sentence} with a fitting status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from engine.errors import (
    BadDescriptionError,
    BadMediaError,
    BadOfferError,
    ControlError,
    DeviceMissingError,
    EngineError,
    NoFaceError,
    SessionLimitError,
    UnknownPresetError,
    UnknownSessionError,
    UnsupportedOfferError,
)
from engine.http.service import SERVICE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_AFTER_S = 10
STATUS_OF_ERROR: dict[type[EngineError], int] = {
    UnknownSessionError: 404,
    BadOfferError: 400,
    UnsupportedOfferError: 406,
    UnknownPresetError: 404,
    ControlError: 422,
    BadDescriptionError: 422,
    DeviceMissingError: 422,
    BadMediaError: 422,
    NoFaceError: 422,
    SessionLimitError: 503,
}
KEPT_HEADERS = ("WWW-Authenticate", "Allow", "Accept-Patch", "Accept-Post")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors that were not foreseen stay aiohttp's 500."""
    try:
        return await handler(request)
    except SessionLimitError as error:
        return _full(request, error)
    except EngineError as error:
        return web.json_response({"error": error.message}, status=_status(error))
    except web.HTTPError as error:
        headers = {name: value for name, value in error.headers.items() if name in KEPT_HEADERS}
        return web.json_response({"error": error.text}, status=error.status, headers=headers)


def _status(error: EngineError) -> int:
    return next((STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR), 500)


def _full(request: web.Request, error: SessionLimitError) -> web.Response:
    """307 to the server that takes what this one cannot, if there is one: it keeps method and body."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    status = STATUS_OF_ERROR[SessionLimitError]
    if (overflow_url := request.app[SERVICE].config.overflow_url) is not None:
        headers, status = {"Location": overflow_url.rstrip("/") + request.path_qs}, 307
    return web.json_response({"error": error.message}, status=status, headers=headers)
