"""``maskrcnn list`` with options that need PyTorch: descriptions of experiments, and sizes of the rows' models."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_cli.output import while_read
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.sizes import COUNTING
from maskrcnn_repro.tables.models import comparison, listing
from maskrcnn_repro.tables.paper import description
from maskrcnn_repro.tables.paper.additions import named_tables, register_installed
from maskrcnn_repro.tables.paper.experiments import Experiment, all_experiments, find_experiment
from maskrcnn_repro.tables.paper.numbers import find_table, tables
from maskrcnn_repro.utils.files import write_text

FORMATS = (".json", ".md")


def run(args: argparse.Namespace) -> int:
    """Print descriptions of experiments, or the paper's rows with the sizes of their models.

    Returns:
        The exit status: 0; 1 if a training failed.

    Raises:
        ConfigError: ``--output`` names neither JSON nor Markdown.
        TableError: an experiment does not exist.
    """
    if args.experiments is not None:
        return while_read(lambda: _describe(args.experiments))
    if args.output is not None and args.output.suffix not in FORMATS:
        raise ConfigError(f"--output {args.output}: it has to end with {' or '.join(FORMATS)}.")
    command = _list if args.compare is None else _compare
    return while_read(lambda: command(args))


def _describe(names: Sequence[str]) -> int:
    register_installed()
    chosen = [find_experiment(name) for name in names] or list(all_experiments().values())
    print(description.as_text(map(description.describe, chosen)))
    return 0


def _list(args: argparse.Namespace) -> int:
    chosen = [find_table(name) for name in named_tables(args.tables or ["all"], tables())]
    lines = listing.lines(chosen, _try_and_print if args.train else None)
    notes = [COUNTING, *listing.remarks(lines)]
    print(listing.as_table(lines), *notes, str(BACKEND), sep="\n")
    _write(args.output, listing.as_table(lines, "pipe"), notes, listing.as_json(lines))
    return int(any(line.trained not in ("", "ok") for line in lines))


def _compare(args: argparse.Namespace) -> int:
    pairs = comparison.compare(Path(args.compare) if args.compare else None)
    print(comparison.as_table(pairs), COUNTING, str(BACKEND), sep="\n")
    tree = {"comparison": comparison.as_json(pairs), "origin": listing.origin()}
    _write(args.output, comparison.as_table(pairs, "pipe"), [COUNTING], tree)
    return 0


def _try_and_print(experiment: Experiment) -> str:
    print(f"{experiment.id}: two iterations ... ", end="", file=sys.stderr, flush=True)
    result = listing.try_training(experiment)
    print(result, file=sys.stderr, flush=True)
    return result


def _write(path: Path | None, table: str, notes: Sequence[str], tree: dict[str, Any]) -> None:
    if path is None:
        return
    if path.suffix == ".json":
        write_text(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    else:
        origin = json.dumps(listing.origin(), ensure_ascii=False)
        lines = [table, "", *(f"- {note}" for note in notes), f"- Origin: `{origin}`"]
        write_text(path, "\n".join(lines) + "\n")
    print(f"Written: {path}")
