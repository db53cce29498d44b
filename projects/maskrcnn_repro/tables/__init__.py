"""The paper's tables: its numbers, the experiments behind its rows, its findings as claims."""

from maskrcnn_repro.tables.paper.claims import Claim, claims
from maskrcnn_repro.tables.paper.experiments import (
    LEVELS,
    Experiment,
    experiment_config,
    experiments,
    find_experiment,
    stages,
)
from maskrcnn_repro.tables.paper.numbers import (
    Metric,
    Row,
    Table,
    find_row,
    find_table,
    metrics,
    tables,
)

__all__ = [
    "LEVELS",
    "Claim",
    "Experiment",
    "Metric",
    "Row",
    "Table",
    "claims",
    "experiment_config",
    "experiments",
    "find_experiment",
    "find_row",
    "find_table",
    "metrics",
    "stages",
    "tables",
]
