"""What a server accepts, and how it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of all requests together."""

    max_bytes: int = 32 << 20
    """Of an image file."""
    max_pixels: int = 50_000_000
    """Of an image, by its header."""
    seconds: float = 60.0
    """From the first byte of a request to the prediction."""
    places: int = 16
    """Requests that are uploaded, wait or are computed at one time."""


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        sentence: for the user.
        headers: of the answer.
    """

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})
