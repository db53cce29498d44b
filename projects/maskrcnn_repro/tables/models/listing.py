"""The listing of the paper's rows: experiment, config, what runs before it, model size, and whether it trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskrcnn_repro.modeling.sizes import COUNTING, Size, size_of
from maskrcnn_repro.tables.models.short_training import train_briefly
from maskrcnn_repro.tables.paper.experiments import (
    Experiment,
    all_experiments,
    experiment_config,
    find_experiment,
    required_experiments,
)
from maskrcnn_repro.tables.paper.numbers import Table
from maskrcnn_repro.utils.provenance import code_origin, machine

from tabulate import tabulate

NONE = "–"  # noqa: RUF001 (a dash in a table)
TrainingCheck = Callable[[Experiment], str]
"""Trains an experiment briefly; returns ``ok`` or the error."""


@dataclass(frozen=True)
class Line:
    """A row of a table, or an RPN whose proposals rows need.

    Attributes:
        table: id of the table, or ``RPN``.
        row: id of the row; empty for an RPN.
        experiment: id; empty where ``remark`` is the reason why there is none.
        config: path below ``configs/``.
        stages: ids of the experiments that must run before it.
        parameters: their number in the model.
        multiply_adds: their number for one image.
        trained: ``ok``, the error, or empty if training was not checked.
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
    """Return the size of an experiment's model, by the experiment's id."""
    return size_of(experiment_config(find_experiment(name)))


def lines(tables: Iterable[Table], check: TrainingCheck | None = None) -> list[Line]:
    """Return a line for each row that is a model of the paper, then one for each RPN that these need.

    Args:
        tables: tables of the paper.
        check: called once for each trained experiment; None: training is not checked.
    """
    outcomes: dict[str, str] = {}

    def line(table: str, row: str, experiment: Experiment, remark: str = "") -> Line:
        trained = experiment.evaluates or experiment.shortens or experiment.id
        if check is not None and trained not in outcomes:
            outcomes[trained] = check(find_experiment(trained))
        size = size_of_experiment(experiment.shortens or experiment.id)
        return Line(
            table=table,
            row=row,
            experiment=experiment.id,
            config=experiment.config,
            stages=tuple(earlier.id for earlier in required_experiments(experiment)[:-1]),
            parameters=size.total_parameters,
            multiply_adds=size.total_multiply_adds,
            trained=outcomes.get(trained, ""),
            remark=remark,
        )

    listed = []
    for table in tables:
        for row in table.rows.values():
            if not row.ours or row.gap_of is not None:
                continue
            if row.experiment is None:
                listed.append(Line(table.id, row.id, remark=f"none: {row.why_not}"))
            else:
                experiment = find_experiment(row.experiment)
                listed.append(line(table.id, row.id, experiment, row.departs or ""))
    needed = {name for item in listed for name in item.stages}
    rpns = [rpn for rpn in all_experiments().values() if rpn.is_rpn and rpn.id in needed]
    return [*listed, *(line("RPN", "", rpn) for rpn in rpns)]


def try_training(experiment: Experiment) -> str:
    """Train two iterations; return ``ok`` or the error."""
    try:
        train_briefly(experiment)
    except Exception as error:  # noqa: BLE001 (one failure must not end the listing)
        return f"{type(error).__name__}: {error}"
    return "ok"


def as_table(listed: Sequence[Line], style: str = "simple") -> str:
    """Return lines as a text table; ``style`` is one of tabulate's."""
    checked = any(line.trained for line in listed)
    headers = ["table", "row", "experiment", "config", "stages before it"]
    headers += ["parameters (M)", "multiply-adds (G)", *(["2 iterations"] if checked else [])]
    cells = [_cells(line)[: len(headers)] for line in listed]
    align = ("left",) * 5 + ("right",) * 2 + ("left",) * (len(headers) - 7)
    return tabulate(cells, headers, style, colalign=align, disable_numparse=True)


def remarks(listed: Iterable[Line]) -> list[str]:
    """Return one sentence for each row that has no experiment or departs from the paper."""
    return [f"{line.row}: {line.remark}" for line in listed if line.remark]


def as_json(listed: Sequence[Line]) -> dict[str, Any]:
    """Return lines, sizes by part, and the code and machine that they come from, as plain values."""
    names = sorted({line.experiment for line in listed} - {""})
    return {
        "counting": COUNTING,
        "lines": [asdict(line) for line in listed],
        "sizes": {name: asdict(size_of_experiment(name)) for name in names},
        "origin": origin(),
    }


def origin() -> dict[str, Any]:
    """Return backend, versions, commit and machine that a listing comes from."""
    return {"code": code_origin(), "machine": machine("cpu")}


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
    """Return a number in millions, or a dash for None, as a table's cell."""
    return NONE if number is None else f"{number / 1e6:.2f}"


def billions(number: int | None) -> str:
    """Return a number in billions, or a dash for None, as a table's cell."""
    return NONE if number is None else f"{number / 1e9:.1f}"
