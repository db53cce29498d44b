"""Why a finding of the paper does not hold at a level, as we see it, and the run that would tell."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, look_up, read_data
from maskrcnn_repro.tables.report.verdicts import Outcome, Verdict


@dataclass(frozen=True)
class Explanation:
    """What we think of a claim that does not hold.

    Attributes:
        outcome: that it is of; beside another one it says nothing.
        because: the reason, as far as it can be told without more runs.
        would_tell: the run whose outcome would decide it.
        told: what that run said, once it was made; else None.
    """

    outcome: Outcome
    because: str
    would_tell: str
    told: str | None = None


def explanation(verdict: Verdict, level: str) -> Explanation | None:
    """Return what is known of a verdict at a level, such as ``mini`` or ``mini-nucleus``.

    Raises:
        TableError: the data are wrong.
    """
    found = _read().get(level, {}).get(verdict.claim.id)
    return found if found and found.outcome == verdict.outcome else None


@functools.cache
def _read() -> Mapping[str, Mapping[str, Explanation]]:
    return parse_explanations(read_data(FOLDER / "explanations.yaml"))


def parse_explanations(top: Node) -> Mapping[str, Mapping[str, Explanation]]:
    """Return the explanations of a file like ``explanations.yaml``: level, then claim.

    Raises:
        TableError: a claim or an outcome does not exist, or a key is missing.
    """
    return MappingProxyType(
        {
            level: MappingProxyType({name: _explanation(name, one) for name, one in node.nodes()})
            for level, node in top.nodes()
        }
    )


def _explanation(name: str, node: Node) -> Explanation:
    look_up(claims(), name, "Claim")
    outcome = node.take("outcome", str)
    if outcome not in get_args(Outcome):
        raise TableError(
            f"{node.place}: outcome {outcome!r} is none of {', '.join(get_args(Outcome))}."
        )
    texts = node.take("because", str), node.take("would_tell", str), node.maybe("told", str)
    made = Explanation(outcome, *texts)  # type: ignore[arg-type]
    node.end()
    return made
