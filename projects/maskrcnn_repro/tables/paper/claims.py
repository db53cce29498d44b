"""The paper's findings as data: which rows are compared, in which direction, and the gap that the paper prints."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, read_data
from maskrcnn_repro.tables.paper.numbers import find_row, metrics

DIRECTIONS = (">", "≥", "≈")


@dataclass(frozen=True)
class Finding:
    """A difference between rows of the paper's tables that the paper draws a conclusion from.

    Attributes:
        id: its name.
        statement: the finding in words.
        rows: one pair of row ids: the first against the second; or two pairs: the gap of the first pair
            against the gap of the second.
        quantity: the metric that is compared, or ``A - B``: metric A against metric B.
        direction: ``>`` (the gap is positive), ``≥`` (not negative) or ``≈`` (within ``margin``).
        margin: AP points, for ``≈``; 0 otherwise.
        paper_gap: the gap of the paper's numbers, in AP points.
    """

    id: str
    statement: str
    rows: tuple[tuple[str, str], ...]
    quantity: str
    direction: str
    margin: float
    paper_gap: float


@dataclass(frozen=True)
class Claim(Finding):
    """A finding as it is asked of numbers, the paper's or ours."""

    def gap(self, value: Callable[[str, str], Any]) -> Any:
        """Return the gap that the claim is about: ``a - b`` of one pair, ``(a - b) - (c - d)`` of two.

        Args:
            value: returns the number, or an array of draws, for a row's id and the name of a metric.
        """

        def row_value(row: str) -> Any:
            first, *second = (value(row, metric) for metric in terms(self.quantity))
            return first - second[0] if second else first

        gaps = [row_value(a) - row_value(b) for a, b in self.rows]
        return gaps[0] - gaps[1] if len(gaps) == 2 else gaps[0]

    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics that :meth:`gap` asks for."""
        return tuple(terms(self.quantity))


@functools.cache
def claims() -> Mapping[str, Claim]:
    """Return all claims by id.

    Raises:
        TableError: ``claims.yaml`` has a mistake.
    """
    top = read_data(FOLDER / "claims.yaml")
    return MappingProxyType({name: parse_claim(name, node) for name, node in top.nodes()})


def parse_claim(name: str, node: Node) -> Claim:
    """Return one claim of a file like ``claims.yaml``.

    Raises:
        TableError: a row, metric or direction that does not exist, or one without a printed number.
    """
    rows = tuple(_parse_pair(pair, node) for pair in node.take("rows", list))
    quantity = node.take("quantity", str)
    if len(rows) not in (1, 2):
        raise TableError(f"{node.place}: rows needs one or two pairs, not {len(rows)}.")
    node.check_names(terms(quantity), metrics(), "metric")
    direction = node.choice("direction", DIRECTIONS)
    claim = node.build(
        Claim,
        id=name,
        rows=rows,
        quantity=quantity,
        direction=direction,
        margin=node.take("margin", float) if direction == "≈" else 0.0,
        paper_gap=math.nan,
    )
    printed = claim.gap(functools.partial(_printed_value, node.place))
    # The paper prints one decimal; further ones of a difference are floating-point error.
    return replace(claim, paper_gap=round(printed, 1))


def _parse_pair(pair: object, node: Node) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise TableError(f"{node.place}: rows has {pair!r}, which is no pair of row ids.")
    return str(pair[0]), str(pair[1])


def terms(quantity: str) -> list[str]:
    """Return the metrics of a quantity: one, or the first and the one subtracted from it."""
    return re.split(r"\s+-\s+", quantity.strip())


def _printed_value(place: str, row: str, metric: str) -> float:
    value = find_row(row).metrics.get(metric)
    if value is None:
        raise TableError(f"{place}: the paper has no {metric} for row {row}.")
    return value
