"""The subcommands of ``maskrcnn`` as functions of their arguments; each returns the exit status."""

from functools import partial

from maskrcnn_cli import run_command

table = partial(run_command, "table")
experiment = partial(run_command, "experiment")
list_rows = partial(run_command, "list")
proposals = partial(run_command, "proposals")
benchmark = partial(run_command, "benchmark")
draw_sampling = partial(run_command, "draw-sampling")
convert_proposals = partial(run_command, "convert-proposals")
convert_cityscapes = partial(run_command, "convert-cityscapes")
convert_data = partial(run_command, "convert-data")
convert_weights = partial(run_command, "convert-weights")
join_weights = partial(run_command, "join-weights")
