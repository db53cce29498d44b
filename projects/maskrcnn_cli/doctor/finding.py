"""What one check of the machine says."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("fine", "note", "warning", "error")
"""By rising gravity. A note limits what can be done, a warning will hurt some runs, an error stops all."""


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        level: one of :data:`LEVELS`.
        subject: what was looked at, in a word or two.
        says: what is there.
        remedy: what to do about it; empty where nothing is to be done.
    """

    level: str
    subject: str
    says: str
    remedy: str = ""
