"""Options that choose where trainings run: on this machine, on SLURM, on Ray."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from maskrcnn_cli.parsing import Parser, UsageError, ignored

PLACES = ("local", "slurm", "ray")


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--on``, ``--slurm`` and ``--ray``."""
    parser.add_argument(
        "--on",
        choices=PLACES,
        default="local",
        help="where trainings run, one job each, requeued and resumed (%(default)s)",
    )
    parser.add_argument(
        "--slurm",
        default="",
        metavar="KEY=VALUE,…",
        help="with --on slurm: partition=gpu,time=4:00:00,gpus=8,…, or a YAML with these keys",
    )
    parser.add_argument(
        "--ray",
        default="",
        metavar="KEY=VALUE,…",
        help="with --on ray: address=HOST:PORT,gpus=8,…, or a YAML; without an address, a Ray of this machine",
    )


def check_cluster(args: argparse.Namespace) -> None:
    """Raise UsageError if options of a cluster that is not asked for would be ignored."""
    for name in PLACES[1:]:
        if getattr(args, name) and args.on != name:
            raise UsageError(f"--{name} goes with --on {name}.")


def refuse_cluster(args: argparse.Namespace, reason: str) -> None:
    """Raise UsageError if a cluster was asked for where it would be ignored; ``reason`` begins the sentence."""
    if args.on != PLACES[0]:
        raise ignored(f"--on {args.on}", reason)


def without_cluster(words: Sequence[str]) -> list[str]:
    """Return a command line without the options of :func:`add_cluster_options`, which may be abbreviated."""
    parser = Parser(add_help=False)
    add_cluster_options(parser)
    return parser.parse_known_args(words)[1]
