"""The paper's tables as data: the printed numbers of each row, and the experiment that reproduces it.

The numbers are in ``data/paper.yaml``, the experiments of the rows in ``data/experiments.yaml``; our own
measurements are in neither. APs are in points, 0 to 100.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from maskrcnn_cli.own_tables import hint
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, describe_missing, look_up, read_data
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.experiments import experiments as paper_experiments


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        name: as in ``paper.yaml``: AP is mask AP, bbAP box AP, kpAP keypoint AP, boundary_AP boundary AP.
        title: heading of the column.
        task: ``segm``, ``bbox``, ``keypoints`` or ``boundary``, as in an evaluator's results.
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
        cost: published numbers of time, memory or size, with their source.
        equal_seconds: id of the experiment that trains the model for as long as the table's baseline takes.
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
    cost: str | None = None
    equal_seconds: str | None = None


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


Use = dict[str, Any]
"""How ``experiments.yaml`` reproduces a row: the attributes :data:`USE` of :class:`Row`."""
USE = ("experiment", "why_not", "departs")


ADDED_METRICS: dict[str, Metric] = {}
ADDED_TABLES: dict[str, Table] = {}
"""Those of plug-ins, see :mod:`additions`."""


def metrics() -> Mapping[str, Metric]:
    """Return all columns by name."""
    return _read()[0]


def tables() -> Mapping[str, Table]:
    """Return all tables by id, in the paper's order.

    Raises:
        TableError: ``paper.yaml`` or ``experiments.yaml`` has a mistake.
    """
    return _read()[1]


def all_metrics() -> Mapping[str, Metric]:
    """Return the paper's columns, then those of registered tables, by name."""
    return {**metrics(), **ADDED_METRICS}


def all_tables() -> Mapping[str, Table]:
    """Return the paper's tables, then the registered ones, by id."""
    return {**tables(), **ADDED_TABLES}


def find_table(name: str) -> Table:
    """Return a table by id, the paper's or a registered one.

    Raises:
        TableError: there is no such table.
    """
    return look_up(all_tables(), name, "Table", hint())


def find_row(name: str, table: Table | None = None) -> Row:
    """Return a row by id, of one table or of all.

    Raises:
        TableError: there is no such row.
    """
    if table is not None:
        return look_up(table.rows, name, f"Row of table {table.id}")
    rows = {key: row for table in all_tables().values() for key, row in table.rows.items()}
    if name not in rows:
        # Without the list of all names that look_up adds, too long for the rows of all tables.
        raise TableError(describe_missing(rows, name, "Row"))
    return rows[name]


@functools.cache
def _read() -> tuple[Mapping[str, Metric], Mapping[str, Table]]:
    uses, extras = parse_uses(read_data(FOLDER / "experiments.yaml"))
    return parse(read_data(FOLDER / "paper.yaml"), uses, extras)


def parse(
    top: Node, uses: Mapping[str, Use], extras: Mapping[str, list[Row]]
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
        columns[name] = node.build(Metric, name=name)
    parsed = {}
    unused = dict(uses)
    for name, node in top.node("tables").nodes():
        parse_row = functools.partial(_parse_row, uses=unused)
        parsed[name] = parse_table(name, node, columns, parse_row, extras.get(name, []))
    top.end()
    rows = index_rows(parsed.values(), top.place)
    if unused:
        raise TableError(f"experiments.yaml: {describe_missing(rows, next(iter(unused)), 'row')}")
    return MappingProxyType(columns), MappingProxyType(parsed)


def index_rows(tables: Iterable[Table], place: str) -> dict[str, Row]:
    """Return the rows of the tables of a file by id.

    Args:
        tables: the tables.
        place: the file, for the message.

    Raises:
        TableError: two tables have a row of one id.
    """
    rows: dict[str, Row] = {}
    holders: dict[str, str] = {}
    for table in tables:
        for key, row in table.rows.items():
            if key in rows:
                raise TableError(
                    f"{place}: row {key!r} stands in the tables {holders[key]!r} and {table.id!r}; give one of them "
                    "another name."
                )
            rows[key], holders[key] = row, table.id
    return rows


def parse_table(
    name: str,
    node: Node,
    metrics: Mapping[str, Metric],
    parse_row: Callable[[str, Node, tuple[str, ...]], Row],
    extras: Sequence[Row] = (),
    **fields: Any,
) -> Table:
    """Return one table.

    Args:
        name: its id.
        node: its keys.
        metrics: all columns that there are.
        parse_row: returns a row from its id, its keys and the table's columns.
        extras: further rows.
        fields: of the table, which its keys need not have.

    Raises:
        TableError: an unknown metric, row or key, a wrong type, something missing.
    """
    columns = node.names("columns")
    node.check_names(columns, metrics, "columns: metric")
    held_out = node.names("held_out")
    rows = {key: parse_row(key, row, columns) for key, row in node.node("rows").nodes()}
    for extra in extras:
        if extra.id in rows:
            raise TableError(f"{node.place}: row {extra.id!r} stands among the extra rows, too.")
        rows[extra.id] = extra
    table = node.build(
        Table,
        id=name,
        columns=columns,
        rows=MappingProxyType(rows),
        baseline_row=node.take("baseline", str),
        held_out=frozenset(columns if held_out == ("all",) else held_out),
        **fields,
    )
    in_gaps = [other for row in rows.values() for other in row.gap_of or ()]
    node.check_names([table.baseline_row, *in_gaps], rows, "row")
    return table


def _parse_row(key: str, node: Node, columns: tuple[str, ...], uses: dict[str, Use]) -> Row:
    use = uses.pop(key, dict.fromkeys(USE))
    values = _parse_values(node.node("metrics"), columns)
    gap = _parse_gap(node)
    return node.build(Row, id=key, metrics=values, gap_of=gap, extra=False, **use)


def parse_own_row(
    key: str, node: Node, columns: tuple[str, ...], experiments: Mapping[str, Experiment]
) -> Row:
    """Return a row of a plug-in's table, which names its experiment itself and may lack published numbers.

    Raises:
        TableError: an unknown metric, experiment or key, a wrong type, or neither experiment nor ``why_not``.
    """
    printed = node.node("metrics").rest() if "metrics" in node else {}
    values = _check_values(node, {**dict.fromkeys(columns), **printed}, columns)
    row = node.build(Row, id=key, metrics=values, gap_of=_parse_gap(node), extra=False)
    if row.ours and row.gap_of is None:
        _check_use(node, row.experiment, row.why_not, experiments=experiments)
    if row.equal_seconds:
        node.check_names([row.equal_seconds], experiments, "equal_seconds: experiment")
    return row


def _parse_gap(node: Node) -> tuple[str, str] | None:
    gap = node.names("gap_of")
    if len(gap) not in (0, 2):
        raise TableError(f"{node.place}: gap_of needs two rows, not {len(gap)}.")
    return (gap[0], gap[1]) if gap else None


def _parse_values(node: Node, columns: tuple[str, ...]) -> Mapping[str, float | None]:
    return _check_values(node, node.rest(), columns)


def _check_values(
    node: Node, values: Mapping[str, Any], columns: tuple[str, ...]
) -> Mapping[str, float | None]:
    node.check_names(map(str, values), columns, "metric")
    for name in columns:
        if name not in values:
            raise TableError(f"{node.place} lacks {name!r}; a dash is null.")
        value = values[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TableError(f"{node.place}: {name} must be a number or null, not {value!r}.")
    return MappingProxyType({name: values[name] for name in columns})


def parse_uses(top: Node) -> tuple[dict[str, Use], dict[str, list[Row]]]:
    """Return how a file like ``experiments.yaml`` reproduces each row, by id, and the extra rows by table.

    Raises:
        TableError: a row has neither experiment nor reason, or an experiment that does not exist.
    """
    uses = {}
    for key, node in top.node("rows").nodes():
        uses[key] = {name: node.maybe(name, str) for name in USE}
        node.end()
        _check_use(node, uses[key]["experiment"], uses[key]["why_not"])
    extras: dict[str, list[Row]] = {}
    for key, node in top.node("extra_rows").nodes():
        table, note, gap = node.take("table", str), node.take("note", str), _parse_gap(node)
        row = node.build(
            Row, id=key, metrics=MappingProxyType({}), gap_of=gap, extra=True, note=note
        )
        if gap is None:
            _check_use(node, row.experiment, row.why_not)
        elif row.experiment is not None:
            raise TableError(f"{node.place} is either an experiment or the gap of two rows.")
        extras.setdefault(table, []).append(row)
    return uses, extras


def _check_use(
    node: Node,
    experiment: str | None,
    why_not: str | None,
    experiments: Mapping[str, Experiment] | None = None,
) -> None:
    if (experiment is None) == (why_not is None):
        raise TableError(f"{node.place} needs either an experiment or the reason why_not.")
    if experiment is not None:
        node.check_names([experiment], experiments or paper_experiments(), "experiment")
