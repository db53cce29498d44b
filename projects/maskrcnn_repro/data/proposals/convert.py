"""The command line of ``scripts/convert_proposals.py``: Detectron2's file to a store, and back."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_repro.data.proposals.detectron2_format import export_pickle, import_pickle
from maskrcnn_repro.data.proposals.store import SUFFIX, ProposalStore
from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.utils.command_line import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as the command line says.

    Args:
        argv: the arguments without the program's name; by default the process's own.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition(": ")[2])
    parser.add_argument("source", type=Path, metavar="IN", help=f"a .pkl, or a folder *{SUFFIX}")
    parser.add_argument(
        "target", type=Path, metavar="OUT", help="the other of the two; not there yet"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_status(lambda: convert(args.source, args.target))


def convert(source: Path, target: Path) -> None:
    """Convert a ``.pkl`` to a folder ``*.proposals``, or such a folder to a ``.pkl``.

    Raises:
        OutputError: the target has not the other kind's name, or is there already.
        DataError: the source is not what its name says.
    """
    suffix = SUFFIX if source.suffix == ".pkl" else ".pkl"
    if target.suffix != suffix:
        raise OutputError(
            f"{str(source)!r} is converted to a name with {suffix!r} at its end, not to {str(target)!r}."
        )
    if target.exists():
        raise OutputError(f"{str(target)!r} is there already; choose another name.")
    if suffix == SUFFIX:
        import_pickle(source, target)
    else:
        store = ProposalStore(source)
        store.verify()
        export_pickle(store, target)


if __name__ == "__main__":
    sys.exit(main())
