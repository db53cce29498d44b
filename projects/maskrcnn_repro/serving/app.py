"""The page and the HTTP endpoint of a model, as an ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.data.image_file import ImageError, ImageTooLargeError, UnsupportedImageError
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.serving.answers import Answer, Error, answer_of
from maskrcnn_repro.serving.guard import Guard
from maskrcnn_repro.serving.limits import Limits, Refusal
from maskrcnn_repro.serving.upload import Upload
from maskrcnn_repro.serving.worker import ModelWorker

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request

STATIC = Path(__file__).with_name("static")
PAGES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
}
"""Address to the file in :data:`STATIC` and its kind; there are no others."""
READING = ["GET", "HEAD"]
_FILE = {"type": "string", "format": "binary"}
CONTENT = {
    "image/*": {"schema": _FILE},
    "application/octet-stream": {"schema": _FILE},
    "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _FILE}}},
}
"""Kinds of a request's body, as OpenAPI has them."""
STATUSES = (400, 403, 408, 413, 415, 422, 503, 504)


def build_app(
    worker: ModelWorker,
    card: Mapping[str, Any],
    limits: Limits,
    host: str = "127.0.0.1",
    origins: Sequence[str] = (),
) -> Guard:
    """Return the application.

    Args:
        worker: computes the predictions.
        card: what ``/model`` tells.
        limits: of requests.
        host: see :class:`Guard`.
        origins: see there.
    """
    # The pages with which FastAPI shows openapi.json load scripts from elsewhere.
    app = FastAPI(title="maskrcnn serve", version=__version__, docs_url=None, redoc_url=None)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type"],
            expose_headers=["Retry-After"],
        )
    _add_pages(app)
    _add_errors(app)
    _add_endpoints(app, worker, card, limits)
    return Guard(app, host, origins)


def _add_pages(app: FastAPI) -> None:
    for address, (name, kind) in PAGES.items():
        page = _page((STATIC / name).read_bytes(), kind)
        app.add_api_route(address, page, methods=READING, include_in_schema=False)


def _page(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def show() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return show


def _add_endpoints(
    app: FastAPI, worker: ModelWorker, card: Mapping[str, Any], limits: Limits
) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the server answers."""
        return {"status": "ok"}

    @app.head("/model", include_in_schema=False)
    @app.get("/model")
    async def model() -> JSONResponse:
        """Tell names, sizes, limits and origin of the model."""
        return JSONResponse(dict(card))

    @app.post(
        "/predict",
        response_class=JSONResponse,
        responses={200: {"model": Answer}, **{status: {"model": Error} for status in STATUSES}},
        openapi_extra={"requestBody": {"required": True, "content": CONTENT}},
    )
    async def predict(
        request: Request, threshold: float | None = None, masks: str = "rle"
    ) -> Response:
        """Find the objects in an image; ``threshold``: their least score, ``masks``: rle or none."""
        upload = Upload(request, limits)
        try:
            _check_query(threshold, masks, card["threshold"])
            prediction, seconds = await _predict(upload, worker, limits)
        except ClientDisconnect:
            return Response(status_code=400)
        except Refusal:
            await upload.drain()
            raise
        if threshold is not None:
            prediction = prediction[prediction.scores >= threshold]
        return JSONResponse(answer_of(prediction, seconds, masks == "rle"))


def _check_query(threshold: float | None, masks: str, least: float) -> None:
    if threshold is not None and not least <= threshold <= 1:
        raise Refusal(422, f"threshold {threshold:g} must be at least {least:g} and at most 1.")
    if masks not in ("rle", "none"):
        raise Refusal(422, f"masks {masks!r} must be rle or none.")


async def _predict(upload: Upload, worker: ModelWorker, limits: Limits) -> tuple[Prediction, float]:
    """Return the prediction of an uploaded image, and the seconds from the image's last byte to it."""
    start = time.monotonic()
    with worker.enter() as place:
        future = place.submit(await upload.read())
    sent = time.monotonic()
    prediction = await _outcome(upload, future, start + limits.seconds - sent)
    return prediction, time.monotonic() - sent


async def _outcome(upload: Upload, future: Future[Prediction], seconds: float) -> Prediction:
    """Return a prediction once it is there; one that nobody waits for any more is not computed.

    Raises:
        Refusal: 504, it is not there within ``seconds``; 400, 413 or 415, the image cannot be read.
        ClientDisconnect: the client has gone.
    """
    prediction = asyncio.ensure_future(asyncio.wrap_future(future))
    departure = asyncio.ensure_future(upload.wait_for_departure())
    awaited: set[asyncio.Future[Any]] = {prediction, departure}
    try:
        done, _ = await asyncio.wait(
            awaited, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED
        )
        if prediction in done:
            return prediction.result()
    except ImageError as error:
        raise _refusal_of(error) from error
    finally:
        prediction.cancel()
        departure.cancel()
    if departure in done:
        raise ClientDisconnect
    raise Refusal(504, "The model gave no answer in time; try again when it has less to do.")


def _refusal_of(error: ImageError) -> Refusal:
    if isinstance(error, ImageTooLargeError):
        return Refusal(413, str(error))
    return Refusal(415 if isinstance(error, UnsupportedImageError) else 400, str(error))


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, 422)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        sentence = f"{request.method} {request.url.path}: {error.detail}."
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "The server failed; its terminal shows why."}, 500)
