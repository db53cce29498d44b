"""The command line of ``scripts/list_experiments.py``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.tables.models import comparison, listing
from maskrcnn_repro.tables.models.sizes import COUNTING
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import find_table, tables
from maskrcnn_repro.utils.command_line import status_while_read
from maskrcnn_repro.utils.files import write_text

EXAMPLES = """
examples:
  %(prog)s
  %(prog)s 2c 2d --train
  %(prog)s --train --output experiments.json
  %(prog)s --compare ../detectron2/configs
"""
FORMATS = (".json", ".md")


def main(argv: Sequence[str] | None = None) -> int:
    """List the paper's rows with their experiments.

    Returns:
        0; 1 if a training failed; 2 after a user's error, which is told in one sentence on stderr.
    """
    args = _parse(argv)

    def start() -> int:
        if args.output is not None and args.output.suffix not in FORMATS:
            raise ConfigError(f"--output {args.output}: it has to end with {' or '.join(FORMATS)}.")
        return _compare(args) if args.compare is not None else _list(args)

    return status_while_read(start)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="List the rows of the paper's tables: experiment, config, stages and size.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="such as 2c; by default all")
    parser.add_argument(
        "--train", action="store_true", help="also train each for two iterations on tiny images"
    )
    parser.add_argument(
        "--compare",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="sizes beside those of Detectron2's own configs (its folder 'configs'; by default its model zoo)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write .json or .md")
    return parser.parse_args(argv)


def _list(args: argparse.Namespace) -> int:
    chosen = [find_table(name) for name in args.tables] or list(tables().values())
    found = listing.lines(chosen, _told if args.train else None)
    notes = [COUNTING, *listing.remarks(found)]
    print(listing.as_table(found), *notes, str(BACKEND), sep="\n")
    _write(args.output, listing.as_table(found, "pipe"), notes, listing.as_json(found))
    return int(any(line.trained not in ("", "ok") for line in found))


def _compare(args: argparse.Namespace) -> int:
    found = comparison.compare(Path(args.compare) if args.compare else None)
    print(comparison.as_table(found), COUNTING, str(BACKEND), sep="\n")
    tree = {"comparison": comparison.as_json(found), "origin": listing.origin()}
    _write(args.output, comparison.as_table(found, "pipe"), [COUNTING], tree)
    return 0


def _told(experiment: Experiment) -> str:
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
