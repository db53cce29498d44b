"""``maskrcnn compare``: runs beside each other, as text, a page or JSON."""

from __future__ import annotations

import argparse
import json

from maskrcnn_cli.output import while_read
from maskrcnn_repro.tables.beside.gaps import rows
from maskrcnn_repro.tables.beside.page import write_page
from maskrcnn_repro.tables.beside.run import read_runs
from maskrcnn_repro.tables.beside.text import as_json, lines
from maskrcnn_repro.utils.files import check_output, write_text


def run(args: argparse.Namespace) -> int:
    """Print the comparison and write what was asked for; return the exit status.

    Raises:
        TableError: a folder holds no finished run.
        OutputError: a file has another ending than its kind, or cannot be written.
    """
    for option, ending in (("html", ".html"), ("json", ".json")):
        path = getattr(args, option)
        if path is not None:
            check_output(f"--{option}", path, ending, [])
    runs = read_runs(args.folders)
    compared = list(rows(runs, classes=args.classes))
    status = while_read(lambda: print("\n".join(lines(runs, compared)), flush=True))
    if args.html is not None:
        write_page(args.html, runs, compared)
        print(f"Page: {args.html}")
    if args.json is not None:
        write_text(args.json, json.dumps(as_json(runs, compared), indent=1) + "\n")
        print(f"JSON: {args.json}")
    return status
