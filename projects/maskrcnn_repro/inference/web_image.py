"""Images from the web: of a bounded size, within a bounded time, by http and https alone."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, build_opener

from maskrcnn_repro._version import __version__
from maskrcnn_repro.data.image_file import ImageError

BLOCK = 1 << 16
SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class UrlLimits:
    """Limits of a file that is fetched from the web."""

    max_bytes: int = 64 << 20
    seconds: float = 30.0
    """For all of it, from the first packet to the last byte."""


def is_address(x: Any) -> bool:
    """Tell whether ``x`` is an address, of whatever scheme."""
    return isinstance(x, str) and "://" in x and not Path(x).exists()


def read_address(address: str, limits: UrlLimits | None) -> bytes:
    """Return the content of an address.

    Args:
        address: http or https; it may lead on to other addresses of these schemes.
        limits: of the file; None: addresses are refused.

    Raises:
        ImageError: it cannot be fetched within the limits.
    """
    if limits is None:
        raise ImageError(f"Image {address} is an address, and addresses are not read here.")
    if not address.lower().startswith(SCHEMES):
        raise ImageError(
            f"Image {address} cannot be fetched: an address begins with http:// or https://."
        )
    answers: queue.Queue[bytes | Exception] = queue.Queue()
    given_up = threading.Event()
    # A thread, because a server can send headers so slowly that no timeout of a socket ends it.
    threading.Thread(
        target=_fetch, args=(address, limits, answers, given_up), name="fetch image", daemon=True
    ).start()
    try:
        answer = answers.get(timeout=limits.seconds)
    except queue.Empty:
        given_up.set()
        answer = TimeoutError(f"it did not come within {limits.seconds:g} seconds")
    if isinstance(answer, bytes):
        return answer
    reason = str(getattr(answer, "reason", answer) or answer).rstrip(".")
    raise ImageError(f"Image {address} cannot be fetched: {reason}.") from answer


class _WebOnly(HTTPRedirectHandler):
    """Follows redirects to http and https alone; the library's own handler follows ftp, too."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not newurl.lower().startswith(SCHEMES):
            raise URLError("it leads on to an address that is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    opener = build_opener(_WebOnly)
    opener.addheaders = [("User-Agent", f"maskrcnn-repro/{__version__}")]
    return opener


def _fetch(
    address: str,
    limits: UrlLimits,
    answers: queue.Queue[bytes | Exception],
    given_up: threading.Event,
) -> None:
    try:
        with _opener().open(address, timeout=limits.seconds) as response:
            answers.put(_content(response, limits, given_up))
    except Exception as error:  # noqa: BLE001 (the caller tells whatever a server causes)
        answers.put(error)


def _content(response: HTTPResponse, limits: UrlLimits, given_up: threading.Event) -> bytes:
    content = bytearray()
    while not given_up.is_set() and (block := response.read1(BLOCK)):
        content += block
        if len(content) > limits.max_bytes:
            raise OSError(f"it has more than the {limits.max_bytes} bytes that are allowed")
    stated = response.headers.get("Content-Length")
    if stated and int(stated) != len(content):
        raise OSError(f"{len(content)} of {stated} bytes came")
    return bytes(content)
