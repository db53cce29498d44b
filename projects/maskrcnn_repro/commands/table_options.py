"""Options and examples of ``scripts/run_table.py`` and ``scripts/run_experiment.py``."""

from __future__ import annotations

import argparse

from maskrcnn_repro.tables.paper.experiments import LEVELS

TABLE_EXAMPLES = """
examples:
  What there is, what a table would run, then run it and print it beside the paper's:
    %(prog)s
    %(prog)s 2c --plan
    %(prog)s 2c

  Two rows with three seeds, two trainings side by side:
    %(prog)s 2c --rows pool alignave --seeds 3 --jobs 2

  What there is so far, of all tables; then the page of the kept reports, with curves and pictures of the runs here:
    %(prog)s all --report
    %(prog)s all --report --kept --html results/mini/report.html

  The paper's sizes, on eight GPUs (see DATASETS in configs/base for the data):
    %(prog)s 2a --level paper --num-gpus 8

  Detectron2's published weights in a column of their own:
    %(prog)s 2a --level paper --eval-only --weights T2a.r50c4 T2a.r50fpn=model_final_f10217.pkl

  Data of your own, kept apart from results (paths in the file start at the working directory):
    %(prog)s 2c --overlay examples/nucleus.yaml

  A trial with other values, kept apart from results:
    %(prog)s 2c -- SOLVER.MAX_ITER 20
"""

EXPERIMENT_EXAMPLES = """
examples:
  %(prog)s r50-c4-roipool
  %(prog)s r50-fpn --level paper --num-gpus 8
  %(prog)s r50-fpn --plan
  %(prog)s r50-c4 --overlay examples/nucleus.yaml
  %(prog)s r50-fpn SOLVER.MAX_ITER 20          (a trial, kept apart from results)
"""


def table_parser() -> argparse.ArgumentParser:
    """Return the options of ``scripts/run_table.py``."""
    parser = _parser("Run the paper's tables and print ours beside the paper's.", TABLE_EXAMPLES)
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help="1, 2a … 9, or all; without: list them"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument(
        "--seeds",
        type=_count,
        metavar="N",
        help="training seeds 1 to N (1; a report: all there are)",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true", help="say what would be run")
    mode.add_argument(
        "--run", action="store_true", help="run what is missing, then report (default)"
    )
    mode.add_argument("--eval-only", action="store_true", help="evaluate stored checkpoints again")
    mode.add_argument(
        "--report",
        action="store_true",
        help="print what there is; where there are no runs, what is kept in results/",
    )
    parser.add_argument(
        "--kept",
        action="store_true",
        help="with --report: what is kept in results/ even where there are runs; the page shows their curves "
        "and pictures beside it",
    )
    parser.add_argument("--html", metavar="FILE", help="the page (report.html beside the runs)")
    parser.add_argument(
        "--save-records",
        nargs="?",
        const="results",
        metavar="FOLDER",
        help="keep the small records behind the report in FOLDER (results), and write the results of the "
        "README beside it anew",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="ROW[=FILE]",
        help="with 2a --eval-only: Detectron2's weights, a file, an address or its published ones",
    )
    return parser


def experiment_parser() -> argparse.ArgumentParser:
    """Return the options of ``scripts/run_experiment.py``."""
    parser = _parser("Run one experiment with all its stages.", EXPERIMENT_EXAMPLES)
    parser.add_argument("experiment", metavar="EXPERIMENT", help="its id, such as r50-c4")
    parser.add_argument("--seed", type=_count, default=1, metavar="K", help="training seed (1)")
    parser.add_argument("--plan", action="store_true", help="say what would be run")
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="config keys and values make it a trial"
    )
    return parser


def _parser(description: str, examples: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--level",
        default="mini",
        metavar="|".join(reversed(LEVELS)),
        help="size of it all: minutes on a CPU with generated data, or the paper's (mini)",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="FILE",
        help="lay this YAML over the level's in all stages, such as data of your own; relative paths in "
        "DATASETS.CUSTOM start at the working directory; may be given several times",
    )
    parser.add_argument("--jobs", type=_count, metavar="N", help="trainings side by side")
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads of each")
    parser.add_argument("--num-gpus", type=_count, metavar="N", help="processes of each training")
    parser.add_argument(
        "--output",
        default="output",
        metavar="FOLDER",
        help="below it: LEVEL[-OVERLAY]/EXPERIMENT/seedK",
    )
    return parser


def _count(word: str) -> int:
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 upwards")
    return number
