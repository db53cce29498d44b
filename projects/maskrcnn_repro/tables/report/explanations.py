"""Hypotheses about findings of the paper that do not hold at a level, and the runs that decide them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import get_args

from maskrcnn_repro.tables.paper.additions import added_explanations
from maskrcnn_repro.tables.paper.claims import all_claims
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, look_up, read_data
from maskrcnn_repro.tables.report.model import Explanation
from maskrcnn_repro.tables.report.words import Outcome

Explanations = Mapping[str, Mapping[str, tuple[Outcome, Explanation]]]
"""Level, then claim, to the outcome that is explained and the explanation."""


def explanation(claim: str, outcome: Outcome, level: str) -> Explanation | None:
    """Return the hypothesis about a claim with this outcome at a level, such as ``mini`` or ``mini-nucleus``.

    Those of plug-ins' files come after ours.

    Raises:
        TableError: the data are wrong.
    """
    for read in (_read(), *map(parse_explanations, added_explanations())):
        explained, why = read.get(level, {}).get(claim, (None, None))
        if explained == outcome:
            return why
    return None


@functools.cache
def _read() -> Explanations:
    return parse_explanations(read_data(FOLDER / "explanations.yaml"))


def parse_explanations(top: Node) -> Explanations:
    """Return the explanations of a file like ``explanations.yaml``.

    Raises:
        TableError: a claim or an outcome does not exist, or a key is missing.
    """
    return {
        level: {name: _explanation(name, claim) for name, claim in node.nodes()}
        for level, node in top.nodes()
    }


def _explanation(name: str, node: Node) -> tuple[Outcome, Explanation]:
    look_up(all_claims(), name, "Claim")
    outcome = node.choice("outcome", get_args(Outcome))
    return outcome, node.build(Explanation)  # type: ignore[return-value]
