"""Defects found in one COCO file: where they are, and one sentence for each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.table import FEATURES, Defect, defects
from maskrcnn_repro.errors import did_you_mean

SHOWN = 5
"""Ids that a sentence names."""


class Findings:
    """Defects by code.

    Attributes:
        file: the COCO file.
        places: code -> ids of the images, annotations … that have the defect, in the file's order.
        first: code -> what the check says of the first of them.
        images: how many the file has.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.places: dict[str, list[Any]] = {}
        self.first: dict[str, Mapping[str, Any]] = {}
        self.images = 0

    def add(self, code: str, place: Any, /, **values: Any) -> None:
        """Note a defect of the record with the id ``place``; ``values`` fill the table's sentence."""
        if code not in self.places:
            self.places[code] = []
            self.first[code] = {"id": place, **values}
        self.places[code].append(place)

    def __contains__(self, code: str) -> bool:
        return code in self.places

    def codes(self) -> list[str]:
        """Return the codes in the table's order."""
        return [code for code in defects() if code in self.places]

    def count(self, code: str) -> int:
        """Return how many records have the defect."""
        return len(self.places.get(code, ()))

    def broken(self) -> int:
        """Return how many images cannot be read."""
        return len(
            set().union(*(self.places[code] for code in self.codes() if defects()[code].broken))
        )

    def of_severity(
        self, severity: str, use: str, features: Iterable[str] = FEATURES
    ) -> list[Defect]:
        """Return the defects of a severity for a set that is used in this way, in the table's order."""
        rows = (defects()[code] for code in self.codes())
        return [row for row in rows if row.severity(use, frozenset(features)) == severity]

    def says(self, code: str) -> str:
        """Return the clause about the first case, and how many there are with their first ids."""
        places, row = self.places[code], defects()[code]
        clause = row.says.format_map(self.first[code])
        # JSON may hold halves of characters, which no terminal takes.
        clause = clause.encode("utf-8", "backslashreplace").decode()
        counted = "{count}" in row.says and "{total}" in row.says
        if len(places) == 1 or row.of == "file" or counted:
            return clause
        ids = ", ".join(str(place) for place in places[:SHOWN])
        more = ", ..." if len(places) > SHOWN else ""
        return f"{clause} ({len(places)} {_pluralise(row.of)}: {ids}{more})"

    def sentence(self, code: str) -> str:
        """Return one sentence: file, first case, count, ids, and the cure."""
        return f"{self.file}: {self.says(code)}; {defects()[code].cure}."


def shorten(value: Any, limit: int = 80) -> str:
    """Return the value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def hint(name: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'A'?)`` for the names closest to ``name``, or an empty string."""
    question = did_you_mean(name, allowed)
    return f" (d{question.removeprefix(' D')})" if question else ""


def _pluralise(noun: str) -> str:
    return noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + "s"
