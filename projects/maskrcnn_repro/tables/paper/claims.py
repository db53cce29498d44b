"""The paper's findings as data: which rows are compared, in which direction, and the gap that the paper prints."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, read_data
from maskrcnn_repro.tables.paper.numbers import Metric, Row, find_row, metrics

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
        paper_gap: the gap of the paper's numbers, in AP points; None where a plug-in's row has none.
        margin_reason: why ``margin`` is as large; empty without one.
    """

    id: str
    statement: str
    rows: tuple[tuple[str, str], ...]
    quantity: str
    direction: str
    margin: float
    paper_gap: float | None
    margin_reason: str = field(default="", kw_only=True, metadata={"added": True})


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

    def values(self) -> list[tuple[str, str]]:
        """Return the pairs of a row's id and the name of a metric that :meth:`gap` asks for."""
        return [(row, name) for pair in self.rows for row in pair for name in self.metrics()]


ADDED: dict[str, Claim] = {}
"""Those of plug-ins by id, see :mod:`additions`."""


def all_claims() -> Mapping[str, Claim]:
    """Return the paper's claims, then those of registered tables, by id."""
    return {**claims(), **ADDED}


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
        TableError: a row, metric or direction that does not exist, or one without a printed number; or a claim that
            no number could decide.
    """
    claim = _parse_claim(name, node, metrics())
    printed = claim.gap(functools.partial(_printed_value, node.place))
    # The paper prints one decimal; further ones of a difference are floating-point error.
    return replace(claim, paper_gap=round(printed, 1))


def parse_own_claim(
    name: str, node: Node, columns: Mapping[str, Metric], rows: Mapping[str, Row]
) -> Claim:
    """Return a claim of a plug-in's file, whose rows may lack published numbers.

    Args:
        name: its id.
        node: its keys.
        columns: all metrics by name.
        rows: all rows by id, the paper's too.

    Raises:
        TableError: a row, metric or direction that does not exist, or a claim that no number could decide.
    """
    claim = _parse_claim(name, node, columns)
    node.check_names([row for pair in claim.rows for row in pair], rows, "row")
    numbers = {(row, metric): rows[row].metrics.get(metric) for row, metric in claim.values()}
    if None in numbers.values():
        return claim
    return replace(claim, paper_gap=round(claim.gap(lambda row, name: numbers[row, name]), 1))


def _parse_claim(name: str, node: Node, columns: Mapping[str, Metric]) -> Claim:
    rows = tuple(_parse_pair(pair, node) for pair in node.take("rows", list))
    quantity = node.take("quantity", str)
    if len(rows) not in (1, 2):
        raise TableError(f"{node.place}: rows needs one or two pairs, not {len(rows)}.")
    node.check_names(terms(quantity), columns, "metric")
    _refuse_constant_gap(rows, quantity, node)
    direction = node.choice("direction", DIRECTIONS)
    return node.build(
        Claim,
        id=name,
        rows=rows,
        quantity=quantity,
        direction=direction,
        margin=_parse_margin(node) if direction == "≈" else 0.0,
        margin_reason=node.take("margin_reason", str) if direction == "≈" else "",
        paper_gap=None,
    )


def _parse_pair(pair: object, node: Node) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise TableError(f"{node.place}: rows has {pair!r}, which is no pair of row ids.")
    return str(pair[0]), str(pair[1])


def _refuse_constant_gap(rows: Sequence[tuple[str, str]], quantity: str, node: Node) -> None:
    """Raise TableError for a gap that is 0 whatever is measured."""
    for first, second in rows:
        if first == second:
            raise TableError(
                f"{node.place}: rows compares {first!r} with itself; name two different rows."
            )
    for what, values in (("rows", rows), ("quantity", terms(quantity))):
        if len(values) == 2 and values[0] == values[1]:
            raise TableError(
                f"{node.place}: {what} subtracts {values[0]!r} from itself; name two that differ."
            )


def _parse_margin(node: Node) -> float:
    margin = float(node.take("margin", float))
    if not 0 < margin < math.inf:  # NaN, too
        raise TableError(
            f"{node.place}: margin must be a finite number of AP points above 0, not {margin}."
        )
    return margin


def terms(quantity: str) -> list[str]:
    """Return the metrics of a quantity: one, or the first and the one subtracted from it.

    Raises:
        TableError: there are more.
    """
    metrics = re.split(r"\s+-\s+", quantity.strip())
    if len(metrics) > 2:
        raise TableError(
            f"quantity {quantity!r} has {len(metrics)} metrics: write one, or two with a minus."
        )
    return metrics


def _printed_value(place: str, row: str, metric: str) -> float:
    value = find_row(row).metrics.get(metric)
    if value is None:
        raise TableError(f"{place}: the paper has no {metric} for row {row}.")
    return value
