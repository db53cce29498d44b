"""The command ``maskrcnn``: its subcommands and all argument parsers.

Only the standard library is imported here, so help, argument errors and listings take no time: PyTorch, and with
it the choice of a Detectron2, comes with ``maskrcnn_repro`` when a subcommand starts its work.
"""

from maskrcnn_cli.dispatch import main, run_command

__all__ = ["main", "run_command"]
