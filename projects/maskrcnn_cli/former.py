"""Commands of earlier releases, which print their new names and run."""

import sys

from maskrcnn_cli.dispatch import run_command


def train() -> int:
    """Run ``maskrcnn-train``."""
    return _run("train")


def table() -> int:
    """Run ``maskrcnn-table``."""
    return _run("table")


def experiment() -> int:
    """Run ``maskrcnn-experiment``."""
    return _run("experiment")


def _run(name: str) -> int:
    former = f"maskrcnn-{name}"
    text = f"{former} is called maskrcnn {name} now; the old name goes with the next release."
    print(text, file=sys.stderr, flush=True)
    return run_command(name, prog=former)
