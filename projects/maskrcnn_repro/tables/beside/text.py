"""The comparison as lines of a console and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from maskrcnn_repro.tables.beside.gaps import LEVEL, Gap, Row
from maskrcnn_repro.tables.beside.run import Run, differences
from maskrcnn_repro.tables.report.claims_text import interval_ends
from maskrcnn_repro.tables.report.words import DASH, format_signed, points, short_commit

from tabulate import tabulate

WIDEST = 40
"""Characters of a config value in a table."""
IMAGES_ONLY = (
    f"[…]: {LEVEL:.0f} % interval over test images alone; another training seed moves a gap too."
)


def lines(runs: Sequence[Run], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the runs, what differs in their configs, and their metrics with gaps to the first."""
    names = [run.name for run in runs]
    yield tabulate([describe_run(run) for run in runs], ["run", *FACTS], disable_numparse=True)
    yield ""
    differing = differences(runs)
    shown = [[key, *map(shorten, values)] for key, values in differing.items()]
    if shown:
        yield f"Config: {len(shown)} keys differ"
        yield tabulate(shown, ["key", *names], disable_numparse=True)
    else:
        yield "Config: no key differs"
    for dataset in dict.fromkeys(row.dataset for row in rows):
        own = [row for row in rows if row.dataset == dataset]
        table = [[row.title, *map(gap_text, row.gaps)] for row in own]
        yield f"\n{dataset}, gaps to {names[0]}"
        yield tabulate(table, ["points", *names], disable_numparse=True)
        if any(gap.interval for row in own for gap in row.gaps):
            yield IMAGES_ONLY
    for note in notes(runs, rows):
        yield f"Note: {note}."


FACTS = ("seed", "iterations", "minutes", "backend", "commit", "machine")


def describe_run(run: Run) -> list[str]:
    """Return a run's name and its :data:`FACTS`."""
    record = run.record
    minutes = DASH if record.seconds is None else f"{record.seconds / 60:.1f}"
    commit = short_commit(record.commit)
    return [
        run.name, str(record.seed), str(record.iterations), minutes, record.backend, commit, record.machine
    ]  # fmt: skip


def shorten(value: Any) -> str:
    """Return a config value in at most :data:`WIDEST` characters; a dash where a run has none."""
    text = DASH if value is None else str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def gap_text(gap: Gap) -> str:
    """Return ``36.7``, ``36.7 (+1.2)`` or ``36.7 (+1.2 [+0.6, +1.8])``."""
    if gap.gap is None:
        return points(gap.value)
    ends = ""
    if gap.interval:
        ends = f" [{', '.join(interval_ends(gap.interval))}]"
    return f"{points(gap.value)} ({format_signed(gap.gap)}{ends})"


def notes(runs: Sequence[Run], rows: Sequence[Row]) -> list[str]:
    """Return what could not be read, what nothing is compared with, and why intervals are missing, each once."""
    unread = [note for run in runs for note in run.notes]
    reasons = [
        f"no interval for {run.name} on {row.dataset}: {gap.reason}"
        for row in rows
        for run, gap in zip(runs, row.gaps, strict=True)
        if gap.reason
    ]
    return list(dict.fromkeys([*unread, *warn_of_single_runs(runs, rows), *reasons]))


def warn_of_single_runs(runs: Sequence[Run], rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each data set on which a single run was tested."""
    tested: dict[str, set[str]] = {}
    for row in rows:
        values = zip(runs, row.gaps, strict=True)
        tested.setdefault(row.dataset, set()).update(
            r.name for r, gap in values if gap.value is not None
        )
    for dataset, names in tested.items():
        if len(names) == 1:
            yield f"only {names.pop()} was tested on {dataset}, so that nothing is compared there"


def as_json(runs: Sequence[Run], rows: Sequence[Row]) -> Mapping[str, Any]:
    """Return all of it as what JSON knows."""
    return {
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "config_sha256": run.record.config_sha256,
                **dict(zip(FACTS, describe_run(run)[1:], strict=True)),
            }
            for run in runs
        ],
        "config": {
            key: [value if isinstance(value, bool | int | float | str | None) else str(value) for value in values]
            for key, values in differences(runs).items()
        },
        "metrics": [
            {
                "dataset": row.dataset,
                "task": row.task,
                "metric": row.metric,
                "runs": [
                    {
                        "value": gap.value,
                        "gap": gap.gap,
                        "interval": asdict(gap.interval) if gap.interval else None,
                    }
                    for gap in row.gaps
                ],
            }
            for row in rows
        ],
        "notes": notes(runs, rows),
    }  # fmt: skip
