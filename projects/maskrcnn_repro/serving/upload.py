"""The bytes of an image in a request, of a bounded number."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from maskrcnn_repro.serving.limits import Limits, Refusal

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

_WRAPPING = 1 << 16
"""Bytes of a form around its file."""
_DRAIN_SECONDS = 5.0
HOW = "send the file as multipart/form-data, or its bytes with Content-Type: image/jpeg or the like"


class Upload:
    """An image file on its way to the server, as the body of a request or as the one file of a form.

    Args:
        request: none of its body has been read.
        limits: of the image file, and of the time for it.
    """

    def __init__(self, request: Request, limits: Limits) -> None:
        self._request, self._limits = request, limits
        self._left = 0
        self._has_ended = False

    async def read(self) -> bytes:
        """Return the image file.

        Raises:
            Refusal: 408 (too slow), 413 (too large), 415 (another kind of content), 422 (a form without one file).
            ClientDisconnect: the client has gone.
        """
        headers, limits = self._request.headers, self._limits
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_form = kind == "multipart/form-data"
        is_file = kind in ("", "application/octet-stream") or kind.startswith("image/")
        if not is_form and not is_file:
            raise Refusal(415, f"A request of Content-Type {kind!r} holds no image; {HOW}.")
        self._left = limits.max_bytes + (_WRAPPING if is_form else 0)
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._left:
            raise self._too_large()
        try:
            async with asyncio.timeout(limits.seconds):
                bounded = Request(self._request.scope, self._receive)
                return await (self._file_in_form(bounded) if is_form else bounded.body())
        except TimeoutError:
            raise Refusal(
                408, f"The image did not come within {limits.seconds:g} seconds."
            ) from None

    async def drain(self) -> None:
        """Read on for a while what a refused client sends: many read no answer before they have sent all."""
        if self._request.headers.get("expect", "").lower() == "100-continue":
            return
        self._left = self._limits.max_bytes
        with contextlib.suppress(Refusal, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._has_ended:
                    await self._receive()

    async def wait_for_departure(self) -> None:
        """Return once the client has gone; to be called when the image has been read."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _receive(self) -> Message:
        message = await self._request.receive()
        self._has_ended = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise self._too_large()
        return message

    async def _file_in_form(self, request: Request) -> bytes:
        try:
            async with request.form(max_files=1, max_fields=4) as form:
                files: list[Any] = [part for part in form.values() if isinstance(part, UploadFile)]
                if not files:
                    raise Refusal(422, "The form holds no file; its field for it is called image.")
                content: bytes = await files[0].read()
        except HTTPException as error:
            sentence = f"The form cannot be read: {str(error.detail).rstrip('.')}."
            raise Refusal(422, sentence) from error
        if len(content) > self._limits.max_bytes:
            raise self._too_large()
        return content

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"The image has more than the {self._limits.max_bytes} bytes that are allowed here.",
        )
