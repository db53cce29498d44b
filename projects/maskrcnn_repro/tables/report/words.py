"""Numbers and outcomes in words, the same on a console, in Markdown and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Outcome = Literal["holds", "fails", "undecided", "images only", "too little learnt", "missing"]
DASH = "\N{EN DASH}"
"""Stands where there is nothing."""


def points(value: float | None) -> str:
    """Return AP points: ``45.1``, or a dash."""
    return DASH if value is None else f"{value:.1f}"


def format_signed(value: float | None, digits: int = 1) -> str:
    """Return AP points with their sign, -0.04 as no -0.0; a dash for None."""
    if value is None:
        return DASH
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def format_with_minus(value: float | None, digits: int = 1) -> str:
    """Return :func:`format_signed` with a typographic minus, for the page."""
    return set_minus(format_signed(value, digits))


def set_minus(text: str) -> str:
    """Return a number's text with a typographic minus."""
    return text.replace("-", "\N{MINUS SIGN}")


def short_commit(commit: str | None) -> str:
    """Return the start of a commit, and whether files differed from it."""
    if commit is None:
        return "of no checkout"
    return commit[:12] + "-dirty" * commit.endswith("-dirty")


def under(overlays: tuple[str, ...] | list[str]) -> str:
    """Return `` under own.yaml: not the paper's data and recipe``; empty without overlays."""
    return f" under {', '.join(overlays)}: not the paper's data and recipe" if overlays else ""


TEMPLATES = Path(__file__).parent / "templates"
"""Jinja's, of the page and of the README's part."""
