"""``maskrcnn analyze``: the page about where a model errs."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskrcnn_repro.analysis.page import PAGE, Options, write_page, write_page_of
from maskrcnn_repro.analysis.source import Source
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.files import check_output


def run(args: argparse.Namespace) -> None:
    """Write the page and print where it is.

    Raises:
        ConfigError: the arguments name neither a run nor a pair of files, or both.
        DataError: a file is wrong or missing.
        OutputError: the page cannot be written.
    """
    pair = args.results, args.truth
    if (args.run is None) == (pair == (None, None)) or (args.run is None and None in pair):
        raise ConfigError("Name a run folder, or a pair of files with --results and --truth.")
    options = Options(args.task, args.iou, args.score, args.worst)
    if args.out is not None:
        check_output("--out", args.out, ".html", [path for path in pair if path is not None])
    if args.run is not None:
        if args.images is not None:
            raise ConfigError("--images belongs to --results and --truth; a run knows its images.")
        page = write_page(args.run, dataset=args.dataset, out=args.out, options=options)
    else:
        if args.dataset is not None:
            raise ConfigError(
                "--dataset belongs to a run folder; --truth names the data set's file."
            )
        source = Source(args.truth.stem, args.truth, args.results, args.images)
        page = write_page_of(source, args.out or Path(PAGE), options)
    print(f"Page: {page} ({page.stat().st_size / 1e6:.1f} MB)", flush=True)
