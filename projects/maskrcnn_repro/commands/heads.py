"""``maskrcnn benchmark heads``: what the rows of a table cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from maskrcnn_repro.benchmark.heads import Head, compare
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import named_tables, tables_beside
from maskrcnn_repro.tables.paper.experiments import all_experiments, experiment_config, overlays
from maskrcnn_repro.tables.paper.numbers import Row, Table, find_table, tables
from maskrcnn_repro.tables.paper.selection import select


def run(args: argparse.Namespace) -> None:
    """Measure the rows of ``args.table`` and of the other tables of its plug-in, the baseline first.

    Raises:
        UserError: there is no such table or row, or a config or a process has a mistake.
    """
    names = named_tables([args.table], tables())
    if args.table == "all":
        raise TableError(f"all stands for the tables {', '.join(names)}; name one of them.")
    beside = [other for name in names for other in tables_beside(name)]
    compared = map(find_table, dict.fromkeys([*names, *beside]))
    compare([_head(row) for row in chosen_rows([*compared], args.rows)], args)


def chosen_rows(compared: Sequence[Table], names: list[str]) -> list[Row]:
    """Return the baseline of the first table, then the selected rows of all that have an experiment of their own.

    Raises:
        TableError: there is no such row, or none that trains.
    """
    first = compared[0]
    rows = [row for selection in select(compared, names) for row in selection.rows]
    trained: dict[str, Row] = {}
    for row in (first.rows[first.baseline_row], *rows):
        experiment = all_experiments().get(row.experiment or "")
        if experiment and not experiment.evaluates and not experiment.shortens:
            trained.setdefault(experiment.id, row)
    if not trained:
        raise TableError(f"Table {first.id} has no row that trains a model of its own.")
    return list(trained.values())


def _head(row: Row) -> Head:
    experiment = all_experiments()[row.experiment or ""]
    over = map(str, overlays(experiment, "paper"))
    plugins = experiment_config(experiment).get("PLUGINS", ())
    return Head(row.name, (experiment.config, *over), tuple(plugins), row.cost or "")
