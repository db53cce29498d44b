"""The comparison as one HTML page with curves, which needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.tables.beside.gaps import Row
from maskrcnn_repro.tables.beside.run import Run, differences
from maskrcnn_repro.tables.beside.text import FACTS, IMAGES_ONLY, describe_run, notes, shorten
from maskrcnn_repro.tables.report.html.curves import Line, plot
from maskrcnn_repro.tables.report.html.page import environment
from maskrcnn_repro.utils.files import write_text

from markupsafe import Markup

LOSSES = ("total_loss", "loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint", "lr")
"""Names in ``metrics.json`` that are drawn where two runs have them, beside the APs."""


def write_page(path: Path, runs: Sequence[Run], rows: Sequence[Row]) -> None:
    """Write the page in one step."""
    curves = [
        Line(run.name, number, (run.points,)) for number, run in enumerate(runs) if run.points
    ]
    context: Mapping[str, Any] = {
        "runs": runs,
        "facts": FACTS,
        "described": [describe_run(run)[1:] for run in runs],
        "differing": [
            (key, list(map(shorten, values))) for key, values in differences(runs).items()
        ],
        "datasets": {
            dataset: [row for row in rows if row.dataset == dataset]
            for dataset in dict.fromkeys(row.dataset for row in rows)
        },
        "images_only": IMAGES_ONLY,
        "lines": curves,
        "plots": _plots(curves),
        "notes": notes(runs, rows),
    }
    write_text(path, environment().get_template("beside.html.j2").render(context))


def _plots(lines: Sequence[Line]) -> list[tuple[str, Markup]]:
    names = {name for line in lines for run in line.runs for name in run}
    # A metric that was taken once, at the end, is no curve.
    evaluated = [
        name
        for name in sorted(names)
        if name.endswith(("/AP", "/AP75"))
        and any(len(run.get(name, ())) > 1 for line in lines for run in line.runs)
    ]
    shown = [name for name in LOSSES if name in names] + evaluated
    return [(name, plot(lines, name, name, f"curve-{number}")) for number, name in enumerate(shown)]
