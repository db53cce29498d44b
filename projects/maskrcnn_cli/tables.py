"""Subcommands for the paper's tables: ``table``, ``experiment`` and ``list``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_cli.clusters import add_cluster_options, check_cluster, refuse_cluster
from maskrcnn_cli.parsing import Command, Parser, UsageError, count, refuse, split_overrides

LEVELS = ("mini", "small", "paper")
"""Sizes at which experiments run; each but the paper's has a folder of overlays, ``configs/LEVEL/level``."""
MOST_SEEDS = 100
"""More than any claim needs, and a slip of the keyboard."""
LISTING = "maskrcnn_cli.listing:run"

TABLE_EXAMPLES = """
  What there is, what a table would run, then run it and print it beside the paper's:
    %(prog)s
    %(prog)s 2c --plan
    %(prog)s 2c

  Two rows with three seeds, two trainings side by side:
    %(prog)s 2c --rows pool alignave --seeds 3 --jobs 2

  What there is so far, of all tables; then the page of the kept reports, which needs neither runs nor data:
    %(prog)s all --report
    %(prog)s all --report --kept --html kept.html

  One seed more than is kept in results/: where that is of today's recipe, the new seed and shared stages alone are trained:
    %(prog)s 2c --kept --seeds 4

  The paper's sizes, on eight GPUs (where COCO belongs: docs/tables.md, "Levels and overlays"); the same as jobs of a cluster:
    %(prog)s 2a --level paper --num-gpus 8
    %(prog)s 2a --level paper --num-gpus 8 --on slurm --slurm partition=gpu,time=4:00:00

  Detectron2's published weights in a column of their own:
    %(prog)s 2a --level paper --eval-only --weights T2a.r50c4 T2a.r50fpn=model_final_f10217.pkl

  Data of your own, kept apart from results (paths in the file start at the working directory):
    %(prog)s 2c --overlay examples/nucleus.yaml

  A trial with other values, kept apart from results:
    %(prog)s 2c -- SOLVER.MAX_ITER 20
"""

COMPARE_EXAMPLES = """
  What differs between two runs, and by how much, on the images that both were tested on:
    %(prog)s output/a output/b

  With curves, and the AP of each class:
    %(prog)s output/a output/b output/c --classes --html compared.html
"""

EXPERIMENT_EXAMPLES = """
  %(prog)s r50_c4_roipool
  %(prog)s r50_fpn --level paper --num-gpus 8
  %(prog)s r50_fpn --plan
  %(prog)s r50_c4 --overlay examples/nucleus.yaml
  %(prog)s r50_fpn SOLVER.MAX_ITER 20          (a trial, kept apart from results)
"""

LIST_EXAMPLES = """
  %(prog)s
  %(prog)s --experiments r50_c4_roipool
  %(prog)s 2c 2d --sizes
  %(prog)s --train --output experiments.json
  %(prog)s --compare ../detectron2/configs
"""


def _seeds(word: str) -> int:
    number = count(word)
    if number > MOST_SEEDS:
        raise argparse.ArgumentTypeError(
            f"{word} trainings of each row are more than anyone waits for; give 1 to {MOST_SEEDS}"
        )
    return number


def add_table_options(parser: Parser) -> None:
    """Add the options of ``maskrcnn table``."""
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help="1, 2a … 9, class-agnostic, fpn-roialign, a plug-in's, or all; without: list them",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        action="extend",
        default=[],
        metavar="ROW",
        help="only these rows; claims: those that a finding is about",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
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
        help="let the records kept in results/ stand for seeds 1 to N that have not run here; with --report and "
        "without --seeds: the reports kept there, even where there are runs",
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
        action="extend",
        default=[],
        metavar="ROW[=FILE]",
        help="with 2a --eval-only: Detectron2's weights, a file, an address or its published ones",
    )
    _add_run_options(parser)


def parse_table(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line of ``maskrcnn table``; without a table it lists all of them.

    Raises:
        UsageError: options without a table, or wrong arguments.
    """
    options, overrides = split_overrides(words)
    args = parser.parse_args(options)
    args.overrides = tuple(overrides)
    if not args.tables:
        if words:
            raise UsageError(f"Name a table first: {parser.prog} TABLE [--rows ROW …]; or all.")
        args.runs = LISTING
    check_cluster(args)
    if args.plan:
        refuse(args, ("html", "save_records"), "--plan writes nothing")
    if args.report:
        refuse(args, ("jobs", "threads", "num_gpus"), "--report runs nothing")
        refuse_cluster(args, "--report runs nothing")
    if args.kept:
        refuse(args, ("eval_only",), "--kept takes records that were kept before")
    if args.kept and args.report and not args.seeds:
        refuse(
            args, ("save_records",), "--kept without --seeds shows reports that were kept before"
        )
    return args


def add_experiment_options(parser: Parser) -> None:
    """Add the options of ``maskrcnn experiment``."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="its id, such as r50_c4")
    parser.add_argument("--seed", type=count, default=1, metavar="K", help="training seed (1)")
    parser.add_argument("--plan", action="store_true", help="say what would be run")
    # A default, as Python before 3.13 calls the argument a required one without.
    parser.add_argument(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="config keys and values make it a trial",
    )
    _add_run_options(parser)


def parse_experiment(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line of ``maskrcnn experiment``; options may come before or after EXPERIMENT.

    Raises:
        UsageError: wrong arguments.
    """
    words, overrides = split_overrides(words)
    args = parser.parse_intermixed_args(words)
    check_cluster(args)
    args.overrides = (*args.opts, *overrides)
    return args


def add_list_options(parser: Parser) -> None:
    """Add the options of ``maskrcnn list``."""
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="such as 2c (all)")
    parser.add_argument(
        "--experiments",
        nargs="*",
        metavar="NAME",
        help="instead of tables: rows, config, baseline, stages, command and cost of these experiments, or of all",
    )
    parser.add_argument(
        "--sizes",
        action="store_true",
        help="with config, stages, parameters and multiply-adds of each model, which are built for it",
    )
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
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write the sizes, as .json or .md"
    )


def parse_list(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line of ``maskrcnn list``.

    Raises:
        UsageError: wrong arguments.
    """
    args = parser.parse_args(words)
    # Without these options no model is built, and PyTorch need not be imported.
    needs_models = args.sizes or args.train or args.output or args.compare is not None
    if not needs_models and args.experiments is None:
        args.runs = LISTING
    if args.experiments is not None:
        others = ("tables", "sizes", "train", "compare", "output")
        refuse(args, others, "--experiments describes experiments alone")
    if args.compare is not None:
        refuse(args, ("tables", "train"), "--compare shows the models of all tables, untrained")
    return args


def _add_run_options(parser: Parser) -> None:
    parser.add_argument(
        "--level",
        default="mini",
        metavar="|".join(LEVELS),
        help="size of it all: generated data on a CPU, in minutes or in hours, or the paper's (mini)",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="FILE",
        help="lay this YAML over the level's in all stages, such as data of your own; relative paths in "
        "DATASETS.CUSTOM start at the working directory; may be given several times",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="trainings side by side (cores, at most 4; with a GPU or at level paper 1)",
    )
    add_cluster_options(parser)
    parser.add_argument(
        "--threads", type=count, metavar="N", help="CPU threads of each (cores over jobs)"
    )
    parser.add_argument(
        "--num-gpus",
        type=count,
        metavar="N",
        help="processes of each training (at level paper all GPUs, else 1)",
    )
    parser.add_argument(
        "--output",
        default="output",
        metavar="FOLDER",
        help="below it: LEVEL[-OVERLAY]/EXPERIMENT/seedK",
    )


def add_compare_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn compare``."""
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the folder that the others are compared with"
    )
    parser.add_argument("others", type=Path, nargs="+", metavar="RUN", help="other runs' folders")
    parser.add_argument("--classes", action="store_true", help="the AP of each class too")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page with curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")


def parse_compare(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the folders into ``folders``, the first of them that of comparison.

    Raises:
        UsageError: there are fewer than two, or wrong options.
    """
    args = parser.parse_args(words)
    args.folders = [args.run, *args.others]
    return args


TABLE = Command(
    name="table",
    summary="Run the paper's tables and print ours beside the paper's.",
    example="2c --level mini",
    runs="maskrcnn_repro.commands.tables:run_table",
    add_options=add_table_options,
    examples=TABLE_EXAMPLES,
    parse=parse_table,
)
EXPERIMENT = Command(
    name="experiment",
    summary="Run one experiment with all its stages.",
    example="r50_c4_roipool --level mini",
    runs="maskrcnn_repro.commands.tables:run_experiment",
    add_options=add_experiment_options,
    examples=EXPERIMENT_EXAMPLES,
    parse=parse_experiment,
)
LIST = Command(
    name="list",
    summary="List the rows of the paper's tables and their experiments.",
    example="2c",
    runs="maskrcnn_repro.commands.list_experiments:run",
    add_options=add_list_options,
    examples=LIST_EXAMPLES,
    parse=parse_list,
)
COMPARE = Command(
    name="compare",
    summary="Compare finished runs: configs, metrics with intervals, curves.",
    example="output/a output/b --html compared.html",
    runs="maskrcnn_repro.commands.compare:run",
    add_options=add_compare_options,
    examples=COMPARE_EXAMPLES,
    parse=parse_compare,
)
