"""What was measured of the operations in files: ``exchange.json`` and the pictured part of an image beside it.

They lie in the folder of RoIAlign's run, and are kept with the code in ``results/LEVEL/BACKEND``. They count for the
very runs of a report alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.exchange.model import ALIGN, METHOD, TABLE, Exchange, runs_of
from maskrcnn_repro.tables.report.model import Origin, Report
from maskrcnn_repro.tables.report.places import is_kept, record_of
from maskrcnn_repro.tables.report.plain import from_json, json_text, to_json
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import run_folder
from maskrcnn_repro.utils.files import replaced, write_text

FILE, PNG = "exchange.json", "exchange.png"


@dataclass(frozen=True)
class Stored:
    """A comparison of the operations, with the pictured part of an image as a PNG; empty where it is not kept."""

    exchange: Exchange
    png: bytes = b""


def find_stored(report: Report, kept: Path | None = None) -> Stored | None:
    """Return the comparison that belongs to a report of table 2c; None if there is none.

    Args:
        report: the report.
        kept: the folder that it is kept in; by default it is of the runs on this machine.
    """
    runs = runs_of(report) if report.table == TABLE else {}
    if not runs:
        return None
    return _read(report, kept or _folder(runs[ALIGN]))[0]


def damage(report: Report, kept: Path | None = None) -> str:
    """Return why a comparison of a report's runs that lies in its place cannot be used; empty if none does.

    Args:
        report: the report.
        kept: the folder that it is kept in; by default it is of the runs on this machine.
    """
    runs = runs_of(report) if report.table == TABLE else {}
    return _read(report, kept or _folder(runs[ALIGN]))[1] if runs else ""


def _folder(run: Origin) -> Path:
    results = Path(run.results)
    return results.parents[1] if is_kept(results) else run_folder(results)


def _read(report: Report, folder: Path) -> tuple[Stored | None, str]:
    """Return the comparison in a folder, or None and, if the files are damaged, how."""
    file, picture = folder / FILE, folder / PNG
    if not os.path.lexists(file):
        return None, ""
    try:
        exchange = from_json(Exchange, read_json(file))
    except (TableError, ValueError, TypeError) as error:
        return None, f"{file}: {str(error).removeprefix(f'{file} ').rstrip('.')}"
    if exchange.method != METHOD or not is_of(exchange, report):
        return None, ""
    png = picture.read_bytes() if picture.is_file() else b""
    if exchange.pictured and digest(png) != exchange.pictured.png:
        return None, f"{picture} is not the picture of {FILE}"
    return Stored(exchange, png), ""


def is_of(exchange: Exchange, report: Report) -> bool:
    """Tell whether a comparison was made with the runs that a report would take now."""
    records = {name: record_of(run) for name, run in runs_of(report).items()}
    return records == {name: run.record for name, run in exchange.runs.items()}


def measure_missing(report: Report, say: Callable[[str], None]) -> None:
    """Compare the operations on a report's runs, unless that was done, and store it beside RoIAlign's.

    Raises:
        UserError: weights, images or detections are missing or cannot be read, or the files cannot be written.
    """
    runs = runs_of(report) if report.table == TABLE else {}
    if find_stored(report) or not runs or any(is_kept(Path(run.results)) for run in runs.values()):
        return
    # Models need not be imported to read a report.
    from maskrcnn_repro.tables.report.exchange.measure import measure

    exchange, png = measure(runs, say=say)
    write(Stored(exchange, png), run_folder(Path(runs[ALIGN].results)))


def write(what: Stored, folder: Path) -> None:
    """Write both files, the picture first.

    Raises:
        OutputError: a file cannot be written.
    """
    exchange = what.exchange
    if exchange.pictured:
        exchange = replace(exchange, pictured=replace(exchange.pictured, png=digest(what.png)))
    if what.png:
        with replaced(folder / PNG) as beside:
            beside.write_bytes(what.png)
    else:
        (folder / PNG).unlink(missing_ok=True)
    write_text(folder / FILE, json_text(to_json(exchange)))


def keep(report: Report, folder: Path, *, adds: bool = False) -> None:
    """Keep the comparison of a report of table 2c with the code, in place of an earlier one.

    Photographs stay where they are: pictures of generated images alone are kept, of others the outlines.

    Args:
        report: the report.
        folder: ``LEVEL/BACKEND``.
        adds: whether an earlier one stays where the report has none.

    Raises:
        OutputError: a file cannot be written.
    """
    if report.table != TABLE:
        return
    there = find_stored(report)
    if adds and not there:
        return
    if there:
        write(without_photograph(there), folder)
        return
    for name in (FILE, PNG):
        (folder / name).unlink(missing_ok=True)


def without_photograph(what: Stored) -> Stored:
    """Return a comparison as it may be kept with the code: with its picture only of a generated image."""
    return what if is_generated(what.exchange.dataset) else replace(what, png=b"")


def digest(png: bytes) -> str:
    """Return the SHA-256 of a picture; empty without one."""
    return hashlib.sha256(png).hexdigest() if png else ""
