"""Descriptions of experiments for people, from ``experiments.yaml`` and from their configs and config headers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from maskrcnn_repro.tables.paper.derivation import header_of
from maskrcnn_repro.tables.paper.experiments import Experiment, required_experiments
from maskrcnn_repro.tables.paper.levels import LEVELS, backbone_names
from maskrcnn_repro.tables.paper.numbers import all_tables

from tabulate import tabulate


@dataclass(frozen=True)
class Description:
    """An experiment as ``maskrcnn list --experiments`` prints it.

    Attributes:
        name: its id.
        header: purpose, assumptions and cost, from the comment at the head of its config.
        config: path below ``configs/``.
        rows: ids of the rows that it measures, comma-separated; empty for none.
        against: its baseline and the keys that differ; empty without a baseline.
        stages: ids of the experiments that must run for it, in order, itself last, comma-separated.
        command: runs them at the paper's sizes, or a backbone at its level.
    """

    name: str
    header: str
    config: str
    rows: str
    against: str
    stages: str
    command: str


def describe(experiment: Experiment) -> Description:
    """Return the description of an experiment.

    Raises:
        ConfigError: its config is missing.
    """
    name = experiment.id
    rows = [
        row.id for t in all_tables().values() for row in t.rows.values() if row.experiment == name
    ]
    varies = ", ".join(experiment.varies)
    level = next((level for level in LEVELS if name in backbone_names(level)), "paper --num-gpus 8")
    return Description(
        name=name,
        header=header_of(experiment.config),
        config=experiment.config,
        rows=", ".join(rows),
        against=f"{experiment.baseline}: {varies}" if experiment.baseline else "",
        stages=", ".join(item.id for item in required_experiments(experiment)),
        command=f"maskrcnn experiment {name} --level {level}",
    )


def as_text(descriptions: Iterable[Description]) -> str:
    """Return descriptions as plain text, one paragraph each."""
    return "\n\n".join(map(_paragraph, descriptions))


def as_markdown(descriptions: Iterable[Description]) -> str:
    """Return descriptions as a Markdown table."""
    headers = ["experiment", "rows", "against, and in what", "stages", "purpose and cost"]
    cells = [[d.name, d.rows, d.against, d.stages, d.header] for d in descriptions]
    return tabulate(cells, headers, "pipe", disable_numparse=True)


def _paragraph(description: Description) -> str:
    values = asdict(description)
    titles = ("config", "rows", "against", "stages", "command")
    lines = [f"    {title:<9}{values[title]}" for title in titles if values[title]]
    return "\n".join([f"{description.name}: {description.header}", *lines])
