"""The paper's tables as data: the printed numbers of each row, and the experiment that reproduces it.

The numbers are in ``data/paper.yaml``, the experiments of the rows in ``data/experiments.yaml``; our own
measurements are in neither. APs are in points, 0 to 100.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, look_up, missing, read_data
from maskrcnn_repro.tables.paper.experiments import experiments


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        name: as in ``paper.yaml``: AP is mask AP, bbAP box AP, kpAP keypoint AP.
        title: heading of the column.
        task: ``segm``, ``bbox`` or ``keypoints``, as in an evaluator's results.
        key: name within the task, such as ``AP50`` or ``AP-person``.
    """

    name: str
    title: str
    task: str
    key: str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        id: unique over all tables.
        name: as printed.
        metrics: the printed numbers by column; None for a dash. Empty for an extra row.
        ours: whether it is a model of the paper; False for another method.
        experiment: id of the experiment that measures it; None for other methods, for gap rows, and where
            ``why_not`` is set.
        why_not: the reason why it cannot be run.
        departs: in what the experiment differs from the paper's row.
        gap_of: for a gap row, the two rows whose difference, first minus second, the paper prints.
        derived: whether the metrics are computed from printed numbers, not printed themselves.
        extra: whether it is an additional row of this project, which the paper does not have.
        note: for the reader.
    """

    id: str
    name: str
    metrics: Mapping[str, float | None]
    ours: bool = True
    experiment: str | None = None
    why_not: str | None = None
    departs: str | None = None
    gap_of: tuple[str, str] | None = None
    derived: bool = False
    extra: bool = False
    note: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, or a result given in its text.

    Attributes:
        id: ``1``, ``2a`` to ``9``, ``class-agnostic``, ``fpn-roialign``.
        title: what it compares.
        split: the images that the paper evaluates on.
        columns: names of metrics, in order.
        rows: by id, in order, extra ones last.
        baseline_row: id of the row that gaps are counted from.
        held_out: columns that the paper measured on images without public annotations; our numbers on
            val are shown beside them, but not compared with them.
    """

    id: str
    title: str
    split: str
    columns: tuple[str, ...]
    rows: Mapping[str, Row]
    baseline_row: str
    held_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Use:
    """How ``experiments.yaml`` reproduces a row; the attributes are those of :class:`Row`."""

    experiment: str | None
    why_not: str | None
    departs: str | None


def metrics() -> Mapping[str, Metric]:
    """Return all columns by name."""
    return _read()[0]


def tables() -> Mapping[str, Table]:
    """Return all tables by id, in the paper's order.

    Raises:
        TableError: ``paper.yaml`` or ``experiments.yaml`` has a mistake.
    """
    return _read()[1]


def find_table(name: str) -> Table:
    """Return a table by id.

    Raises:
        TableError: there is no such table.
    """
    return look_up(tables(), name, "Table")


def find_row(name: str, table: Table | None = None) -> Row:
    """Return a row by id, of one table or of all.

    Raises:
        TableError: there is no such row.
    """
    if table is not None:
        return look_up(table.rows, name, f"Row of table {table.id}")
    rows = {key: row for table in tables().values() for key, row in table.rows.items()}
    if name not in rows:
        # Without the list of all names that look_up adds, too long for the rows of all tables.
        raise TableError(missing(rows, name, "Row"))
    return rows[name]


@functools.cache
def _read() -> tuple[Mapping[str, Metric], Mapping[str, Table]]:
    uses, extras = parse_uses(read_data(FOLDER / "experiments.yaml"))
    return parse(read_data(FOLDER / "paper.yaml"), uses, extras)


def parse(
    top: Node, uses: Mapping[str, _Use], extras: Mapping[str, list[Row]]
) -> tuple[Mapping[str, Metric], Mapping[str, Table]]:
    """Return metrics and tables of a file like ``paper.yaml``.

    Args:
        top: the file's top-level mapping.
        uses: how each row is reproduced, by its id.
        extras: additional rows by table.

    Raises:
        TableError: an unknown metric or key, a wrong type, something missing, a row twice.
    """
    columns = {}
    for name, node in top.node("metrics").nodes():
        columns[name] = Metric(name, *(node.take(key, str) for key in ("title", "task", "key")))
        node.end()
    parsed = {}
    unused = dict(uses)
    for name, node in top.node("tables").nodes():
        parsed[name] = _parse_table(name, node, columns, unused, extras.get(name, []))
    top.end()
    if unused:
        rows = [row for table in parsed.values() for row in table.rows]
        raise TableError(f"experiments.yaml: {missing(rows, next(iter(unused)), 'row')}")
    return MappingProxyType(columns), MappingProxyType(parsed)


def _parse_table(
    name: str, node: Node, metrics: Mapping[str, Metric], uses: dict[str, _Use], extras: list[Row]
) -> Table:
    columns = node.names("columns")
    for column in columns:
        if column not in metrics:
            raise TableError(f"{node.place}: columns: {missing(metrics, column, 'metric')}")
    held_out = node.names("held_out")
    rows = {key: _parse_row(key, row, columns, uses) for key, row in node.node("rows").nodes()}
    rows.update((row.id, row) for row in extras)
    table = Table(
        id=name,
        title=node.take("title", str),
        split=node.take("split", str),
        columns=columns,
        rows=MappingProxyType(rows),
        baseline_row=node.take("baseline", str),
        held_out=frozenset(columns if held_out == ("all",) else held_out),
    )
    node.end()
    in_gaps = [other for row in rows.values() for other in row.gap_of or ()]
    for other in (table.baseline_row, *in_gaps):
        if other not in rows:
            raise TableError(f"{node.place}: {missing(rows, other, 'row')}")
    return table


def _parse_row(key: str, node: Node, columns: tuple[str, ...], uses: dict[str, _Use]) -> Row:
    gap = _parse_gap(node)
    use = uses.pop(key, _Use(None, None, None))
    ours = node.maybe("ours", bool)
    row = Row(
        id=key,
        name=node.take("name", str),
        metrics=_parse_values(node.node("metrics"), columns),
        ours=True if ours is None else ours,
        experiment=use.experiment,
        why_not=use.why_not,
        departs=use.departs,
        gap_of=gap,
        derived=node.maybe("derived", bool) or False,
        note=node.maybe("note", str),
    )
    node.end()
    return row


def _parse_gap(node: Node) -> tuple[str, str] | None:
    gap = node.names("gap_of")
    if len(gap) not in (0, 2):
        raise TableError(f"{node.place}: gap_of needs two rows, not {len(gap)}.")
    return (gap[0], gap[1]) if gap else None


def _parse_values(node: Node, columns: tuple[str, ...]) -> Mapping[str, float | None]:
    values = node.rest()
    for name in values:
        if name not in columns:
            raise TableError(f"{node.place}: {missing(columns, str(name), 'metric')}")
    for name in columns:
        if name not in values:
            raise TableError(f"{node.place} lacks {name!r}; a dash is null.")
        value = values[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TableError(f"{node.place}: {name} must be a number or null, not {value!r}.")
    return MappingProxyType({name: values[name] for name in columns})


def parse_uses(top: Node) -> tuple[dict[str, _Use], dict[str, list[Row]]]:
    """Return how a file like ``experiments.yaml`` reproduces each row, by id, and the extra rows by table.

    Raises:
        TableError: a row has neither experiment nor reason, or an experiment that does not exist.
    """
    uses = {}
    for key, node in top.node("rows").nodes():
        use = _Use(*(node.maybe(name, str) for name in ("experiment", "why_not", "departs")))
        node.end()
        _check_use(use, node)
        uses[key] = use
    extras: dict[str, list[Row]] = {}
    for key, node in top.node("extra_rows").nodes():
        experiment, gap = node.maybe("experiment", str), _parse_gap(node)
        row = Row(
            id=key,
            name=node.take("name", str),
            metrics=MappingProxyType({}),
            experiment=experiment,
            gap_of=gap,
            extra=True,
            note=node.take("note", str),
        )
        if gap is None:
            _check_use(_Use(experiment, None, None), node)
        elif experiment is not None:
            raise TableError(f"{node.place} is either an experiment or the gap of two rows.")
        extras.setdefault(node.take("table", str), []).append(row)
        node.end()
    return uses, extras


def _check_use(use: _Use, node: Node) -> None:
    if (use.experiment is None) == (use.why_not is None):
        raise TableError(f"{node.place} needs either an experiment or the reason why_not.")
    if use.experiment is not None and use.experiment not in experiments():
        raise TableError(f"{node.place}: {missing(experiments(), use.experiment, 'experiment')}")
