"""Holm's correction: what remains of verdicts if none of all claims that were judged is to be wrong by chance.

It counts claims, so that a part of them would be corrected for too few: those of the paper belong together, and
those of a plug-in's file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from maskrcnn_repro.tables.paper.additions import claims_beside
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


def correct_verdicts(
    verdicts: Sequence[Verdict], *, are_all: bool = False
) -> Mapping[str, tuple[float, Outcome]]:
    """Return the adjusted p-value of each claim that has one, and the outcome that it leaves, by id.

    Args:
        verdicts: a claim whose companions are not all among them, be it as missing, is left out.
        are_all: they are all that was judged, whatever is not among them.
    """
    names = {verdict.id for verdict in verdicts}
    groups: dict[Collection[str], list[tuple[Verdict, float]]] = defaultdict(list)
    for verdict in verdicts:
        companions = claims_beside(verdict.id)
        if verdict.p is not None and (are_all or names.issuperset(companions)):
            groups[companions].append((verdict, verdict.p))
    return {
        verdict.id: (p, verdict.outcome if p <= ALPHA else "undecided")
        for judged in groups.values()
        for (verdict, _), p in zip(judged, holm([p for _, p in judged]), strict=True)
    }
