"""Entry point of ``maskrcnn``: finds the subcommand, parses its arguments and calls its function."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from maskrcnn_cli import (
    analyzing,
    benchmarks,
    checking,
    conversion,
    exporting,
    looking,
    predicting,
    serving,
    tables,
    training,
)
from maskrcnn_cli.doctor import DOCTOR
from maskrcnn_cli.location import version
from maskrcnn_cli.output import run_guarded, tell
from maskrcnn_cli.parsing import UsageError, unknown

GROUPS = {
    "train and evaluate": (training.TRAIN, training.EVAL),
    "use": (predicting.PREDICT, serving.SERVE, exporting.EXPORT),
    "tables": (tables.TABLE, tables.EXPERIMENT, tables.LIST),
    "data and weights": (
        conversion.CONVERT_DATA,
        checking.CHECK,
        checking.STATISTICS,
        training.PROPOSALS,
        conversion.CONVERT_PROPOSALS,
        conversion.CONVERT_CITYSCAPES,
        conversion.CONVERT_WEIGHTS,
        conversion.JOIN_WEIGHTS,
    ),
    "look": (
        analyzing.ANALYZE,
        tables.COMPARE,
        looking.DRAW_SAMPLING,
        looking.REPLAY,
        benchmarks.BENCHMARK,
        DOCTOR,
    ),
}
"""Heading in ``maskrcnn --help`` -> its subcommands."""
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``maskrcnn``.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    Returns:
        The exit status: the subcommand's, or 2 after a user's error, which is one sentence on stderr.
    """
    return run_guarded(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"maskrcnn {version()}")
        return 0
    return run_command(words[0], words[1:])


def run_command(name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a subcommand and return its exit status.

    Args:
        name: of the subcommand.
        argv: its arguments; by default those of the process.
        prog: the program's name in help and errors, if it is not ``maskrcnn NAME``.

    Returns:
        See :func:`main`.
    """
    return run_guarded(lambda: _run_command(name, argv, prog))


def _run_command(name: str, argv: Sequence[str] | None, prog: str | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    try:
        if name.startswith("-"):
            error = unknown("Option", name, ("-h", "--help", "--version"))
            raise UsageError(f"{error} Those of a subcommand stand behind its name.")
        if name not in COMMANDS:
            raise unknown("Subcommand", name, COMMANDS)
        args = COMMANDS[name].arguments(words, prog)
        return start(args)
    except UsageError as error:
        tell(f"Error: {error}")
        return 2
    except KeyboardInterrupt:  # while the subcommand is imported
        tell("Interrupted.")
        return 130


def start(args: argparse.Namespace) -> int:
    """Import the function ``args.runs``, call it with the arguments, and return the exit status.

    Raises:
        UsageError: the backend, which is chosen by the import, cannot be used.
    """
    module, _, function = args.runs.partition(":")
    # Listings need neither PyTorch nor a backend.
    if module.startswith("maskrcnn_cli."):
        return int(getattr(importlib.import_module(module), function)(args))
    try:
        status = importlib.import_module("maskrcnn_repro.utils.command_line").exit_status
    except ImportError as error:
        # By name: the module of a BackendError may not be imported here, as it chooses the backend.
        if type(error).__module__ != "maskrcnn_repro.errors":
            raise
        raise UsageError(str(error)) from None
    return int(status(lambda: getattr(importlib.import_module(module), function)(args)))


def overview() -> str:
    """Return the help text of ``maskrcnn``: the subcommands in groups, each with an example."""
    lines = [
        "usage: maskrcnn SUBCOMMAND ...",
        "",
        "Mask R-CNN as its paper has it. maskrcnn SUBCOMMAND --help says more.",
    ]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        for command in commands:
            lines.append(f"  {command.name:<20}{command.summary}")
            lines.append(f"  {'':<20}  maskrcnn {command.name} {command.example}")
    options = [("-h, --help", "this help"), ("--version", "the version")]
    lines += ["", "options:", *(f"  {name:<20}{text}" for name, text in options)]
    return "\n".join(lines)
