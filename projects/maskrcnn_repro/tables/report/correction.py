"""Holm's correction: what remains of verdicts if none of all claims that were judged is to be wrong by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maskrcnn_repro.tables.report.model import Verdict
from maskrcnn_repro.tables.report.words import Outcome

ALPHA = 0.05
"""What intervals of verdicts allow, too."""


def holm(values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being so many, in the same order (Holm, Scand. J. Statist. 1979).

    The smallest is multiplied by their number, the next by one less, and so on; none is below the one before.
    """
    adjusted = [0.0] * len(values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted


def correct_verdicts(verdicts: Sequence[Verdict]) -> Mapping[str, tuple[float, Outcome]]:
    """Return the adjusted p-value of each claim that has one, and the outcome that it leaves, by id."""
    judged = [(verdict, verdict.p) for verdict in verdicts if verdict.p is not None]
    adjusted = holm([p for _, p in judged])
    return {
        verdict.id: (p, verdict.outcome if p <= ALPHA else "undecided")
        for (verdict, _), p in zip(judged, adjusted, strict=True)
    }
