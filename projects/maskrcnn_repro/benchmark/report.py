"""Results of a benchmark, as a text table and as a JSON file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.provenance import machine

from tabulate import tabulate


def grid(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a text table, its cells as they are."""
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def save(path: Path | None, benchmark: str, facts: dict[str, Any], **results: Any) -> None:
    """Write results with their date and machine as JSON, in one step.

    Args:
        path: of the file; None: nothing is written.
        benchmark: its name.
        facts: what else is to be said of the machine.
        **results: the other entries.
    """
    if path is None:
        return
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    head = {"benchmark": benchmark, "date": date, "machine": machine("cpu") | facts}
    write_text(path, json.dumps(head | results, indent=1) + "\n")
