"""The table of defects as data: ``defects.yaml``, read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

SEVERITIES = ("error", "warning", "note")
USES = ("train", "test")
EVERY_IMAGE = "every image"
FEATURES = frozenset({"masks", "keypoints", "no pixel range", EVERY_IMAGE})
"""What severities depend on: heads of the model, no INPUT.PIXEL_RANGE, no DATALOADER.SKIP_BROKEN."""


@dataclass(frozen=True)
class Defect:
    """A row of ``defects.yaml``, whose head says what each field is."""

    code: str
    of: str
    says: str
    training: str
    evaluation: str
    cure: str
    train: str = ""
    test: str = ""
    needs: str = ""
    fix: str = ""
    broken: bool = False

    def severity(self, use: str, features: frozenset[str]) -> str:
        """Return ``error``, ``warning``, ``note`` or "" for a set that is used in this way.

        Args:
            use: one of :data:`USES`.
            features: those of :data:`FEATURES` that the config has.
        """
        severity: str = getattr(self, use)
        if self.broken and severity == "error" and EVERY_IMAGE not in features:
            return "warning"
        return "note" if severity and self.needs and self.needs not in features else severity

    @property
    def same_everywhere(self) -> bool:
        """Whether neither use nor features change the severity."""
        return self.train == self.test and not self.needs and not self.broken


@cache
def defects() -> dict[str, Defect]:
    """Return the defects by code, in the order in which they are looked for."""
    rows = yaml.safe_load(Path(__file__).with_name("defects.yaml").read_text(encoding="utf-8"))
    return {code: Defect(code=code, **fields) for code, fields in rows.items()}
