"""The table of all rows: experiment, config, stages, size, and whether it trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskrcnn_repro.tables.models.sizes import COUNTING, Size, size_of
from maskrcnn_repro.tables.models.trial import train_briefly
from maskrcnn_repro.tables.paper.experiments import (
    Experiment,
    experiment_config,
    experiments,
    find_experiment,
    stages,
)
from maskrcnn_repro.tables.paper.numbers import Row, Table
from maskrcnn_repro.utils.provenance import code_origin, machine

from tabulate import tabulate

NONE = "–"  # noqa: RUF001 (a dash in a table)
Trial = Callable[[Experiment], str]
"""Trains an experiment briefly and says ``ok``, or what is wrong."""


@dataclass(frozen=True)
class Line:
    """One row of a table, or an RPN that rows need.

    Attributes:
        table: its id, or ``RPN``.
        row: id of the row; empty for an RPN.
        experiment: id; empty where ``remark`` is the reason why there is none.
        config: below ``configs/``.
        stages: ids of the experiments that come before it.
        parameters: number of them.
        multiply_adds: of one image.
        trained: ``ok``, what went wrong, or empty if it was not tried.
        remark: why there is no experiment, or in what it departs from the paper.
    """

    table: str
    row: str
    experiment: str = ""
    config: str = ""
    stages: tuple[str, ...] = ()
    parameters: int | None = None
    multiply_adds: int | None = None
    trained: str = ""
    remark: str = ""


@functools.cache
def size_of_experiment(name: str) -> Size:
    """Return the size of an experiment's model."""
    return size_of(experiment_config(find_experiment(name)))


def lines(tables: Iterable[Table], trial: Trial | None = None) -> list[Line]:
    """Return a line for each own row of ``tables``, then one for each RPN that they need.

    Args:
        tables: of the paper.
        trial: what trains an experiment; it is asked once for each.
    """
    tried: dict[str, str] = {}

    def line(table: str, row: str, experiment: Experiment, remark: str = "") -> Line:
        trained = experiment.evaluates or experiment.id
        if trial is not None and trained not in tried:
            tried[trained] = trial(find_experiment(trained))
        size = size_of_experiment(experiment.id)
        return Line(
            table=table,
            row=row,
            experiment=experiment.id,
            config=experiment.config,
            stages=tuple(one.id for one in stages(experiment)[:-1]),
            parameters=size.total_parameters,
            multiply_adds=size.total_multiply_adds,
            trained=tried.get(trained, ""),
            remark=remark,
        )

    made = []
    for table in tables:
        for row in _own(table):
            if row.experiment is None:
                made.append(Line(table.id, row.id, remark=f"none: {row.why_not}"))
            else:
                one = find_experiment(row.experiment)
                made.append(line(table.id, row.id, one, row.departs or ""))
    needed = {name for one in made for name in one.stages}
    rpns = {one.proposals for one in experiments().values()} & needed
    made += [line("RPN", "", one) for name, one in experiments().items() if name in rpns]
    return made


def try_training(experiment: Experiment) -> str:
    """Train two iterations; return ``ok`` or the error."""
    try:
        train_briefly(experiment)
    except Exception as error:  # noqa: BLE001 (the other lines are wanted, too)
        return f"{type(error).__name__}: {error}"
    return "ok"


def as_table(found: Sequence[Line], style: str = "simple") -> str:
    """Return the lines as text; ``style`` is one of tabulate's."""
    tried = any(line.trained for line in found)
    headers = ["table", "row", "experiment", "config", "stages before it"]
    headers += ["parameters (M)", "multiply-adds (G)", *(["2 iterations"] if tried else [])]
    cells = [_cells(line)[: len(headers)] for line in found]
    align = ("left",) * 5 + ("right",) * 2 + ("left",) * (len(headers) - 7)
    return tabulate(cells, headers, style, colalign=align, disable_numparse=True)


def remarks(found: Iterable[Line]) -> list[str]:
    """Return one sentence for each row that has no experiment or departs from the paper."""
    return [f"{line.row}: {line.remark}" for line in found if line.remark]


def as_json(found: Sequence[Line]) -> dict[str, Any]:
    """Return lines, sizes by part, and where all of it comes from, as plain values."""
    names = sorted({line.experiment for line in found} - {""})
    return {
        "counting": COUNTING,
        "lines": [asdict(line) for line in found],
        "sizes": {name: _parts(size_of_experiment(name)) for name in names},
        "origin": origin(),
    }


def origin() -> dict[str, Any]:
    """Return backend, versions, commit and machine."""
    return {"code": code_origin(), "machine": machine("cpu")}


def _own(table: Table) -> list[Row]:
    return [row for row in table.rows.values() if row.ours and row.gap_of is None]


def _cells(line: Line) -> list[str]:
    if not line.experiment:
        return [line.table, line.row, *(NONE,) * 6]
    return [
        line.table,
        line.row or NONE,
        line.experiment,
        line.config,
        ", ".join(line.stages) or NONE,
        millions(line.parameters),
        billions(line.multiply_adds),
        line.trained,
    ]


def millions(number: int | None) -> str:
    """Return a number of parameters for a table."""
    return NONE if number is None else f"{number / 1e6:.2f}"


def billions(number: int | None) -> str:
    """Return a number of multiply-adds for a table."""
    return NONE if number is None else f"{number / 1e9:.1f}"


def _parts(size: Size) -> dict[str, Mapping[str, int]]:
    return {"parameters": dict(size.parameters), "multiply_adds": dict(size.multiply_adds)}
