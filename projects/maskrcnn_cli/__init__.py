"""The command ``maskrcnn``: its subcommands and all argument parsers.

Only the standard library is imported here, so that help, argument errors and listings are fast: PyTorch and
the backend (a Detectron2) are loaded with ``maskrcnn_repro`` when a subcommand starts its work.
"""

from maskrcnn_cli.dispatch import main, run_command

__all__ = ["main", "run_command"]
