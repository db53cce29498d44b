"""What a page holds that another one, about to take its place, does not."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECTION = re.compile(r'<section id="([^"]*)">\s*<h2>(.*?)</h2>(.*?)(?=<section id=|\Z)', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_PARTS: Mapping[str, str] = {
    "": "",
    "the measurements of ": "exchange-origin",
    "the curves of ": '<figure class="curves"',
    "the pictures of ": '<figure class="sheet',
}
"""Words before a section's title -> what it has then; the section itself first."""


def find_lost_parts(page: str, instead: str) -> list[str]:
    """Return which sections, curves, pictures and measurements of a page another one lacks, in words.

    Args:
        page: the HTML that stands there; of any other HTML nothing is said.
        instead: the HTML that would take its place.
    """
    remains = _contents(instead)
    return [words for part, words in _contents(page).items() if part not in remains]


def _contents(page: str) -> dict[tuple[str, str], str]:
    """Return section and kind of all that a page holds, with their names."""
    return {
        (
            section,
            kind,
        ): f"{kind}\N{LEFT DOUBLE QUOTATION MARK}{_strip_markup(title)}\N{RIGHT DOUBLE QUOTATION MARK}"
        for section, title, body in _SECTION.findall(page)
        for kind, sign in _PARTS.items()
        if sign in body
    }


def _strip_markup(title: str) -> str:
    return " ".join(_TAG.sub("", title).split())
