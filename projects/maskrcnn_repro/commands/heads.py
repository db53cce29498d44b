"""``maskrcnn benchmark heads``: what the rows of a table cost."""

from __future__ import annotations

import argparse

from maskrcnn_repro.benchmark.heads import Head, compare
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import named_tables
from maskrcnn_repro.tables.paper.experiments import all_experiments, experiment_config, overlays
from maskrcnn_repro.tables.paper.numbers import Row, Table, find_table, tables
from maskrcnn_repro.tables.paper.selection import select


def run(args: argparse.Namespace) -> None:
    """Measure the rows of ``args.table``, its baseline first.

    Raises:
        UserError: there is no such table or row, or a config or a process has a mistake.
    """
    names = named_tables([args.table], tables())
    if len(names) != 1:
        raise TableError(
            f"{args.table} stands for the tables {', '.join(names)}; name one of them."
        )
    table = find_table(names[0])
    compare([_head(row) for row in chosen_rows(table, args.rows)], args)


def chosen_rows(table: Table, names: list[str]) -> list[Row]:
    """Return the baseline of a table, then the selected rows that have an experiment of their own.

    Raises:
        TableError: there is no such row, or none that trains.
    """
    (selection,) = select([table], names)
    trained: dict[str, Row] = {}
    for row in (table.rows[table.baseline_row], *selection.rows):
        if row.experiment:
            trained.setdefault(row.experiment, row)
    if not trained:
        raise TableError(f"Table {table.id} has no row that trains a model of its own.")
    return list(trained.values())


def _head(row: Row) -> Head:
    experiment = all_experiments()[row.experiment or ""]
    over = map(str, overlays(experiment, "paper"))
    plugins = experiment_config(experiment).get("PLUGINS", ())
    return Head(row.name, (experiment.config, *over), tuple(plugins), row.cost or "")
