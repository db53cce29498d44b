"""Reports in files: beside the runs, and kept with the code in ``results/``.

``LEVEL/BACKEND/EXPERIMENT/seedK.json`` is a run's ``results.json`` with what it was made from;
``LEVEL/BACKEND/tables/TABLE.json`` and ``.md`` are the report; ``LEVEL/BACKEND/claims.json`` has all claims of the
tables there; ``exchange.json`` and ``.png`` beside it are of :mod:`maskrcnn_repro.tables.report.exchange`.
Beside a record lie ``curves_seedK.json``, ``draws_seedK.npz`` and ``pictured_seedK.json``, and ``LEVEL/BACKEND/pictures`` has
the images of the latter (:mod:`maskrcnn_repro.tables.report.kept_run`): ``maskrcnn table all --report --kept --html FILE`` draws
the page of all of it from these alone. Records of earlier versions lack some of them; ``LEVEL/report.html`` may hold more
than they give. No file names a folder of the machine that made it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.old_names import current_experiment, former_experiments
from maskrcnn_repro.tables.report.exchange.files import keep
from maskrcnn_repro.tables.report.kept_reading import CLAIMS, TABLES, KeptReports, read_report
from maskrcnn_repro.tables.report.kept_run import Files, beside_files, picture_files, record_tree
from maskrcnn_repro.tables.report.model import Report, verdicts_in
from maskrcnn_repro.tables.report.places import is_kept, record_of, table_command
from maskrcnn_repro.tables.report.plain import json_text, to_json
from maskrcnn_repro.tables.report.report import PaperData
from maskrcnn_repro.tables.report.text import as_markdown
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import State, identity, read_note, run_folder
from maskrcnn_repro.tables.runs.retrained import digest_of_run, kept_record
from maskrcnn_repro.tables.runs.scrubbing import scrub
from maskrcnn_repro.tables.runs.stage import Setting, Stage, StoreStage
from maskrcnn_repro.utils.files import replaced, write_text


def write_report(report: Report, folder: Path) -> str:
    """Write a report as JSON and as Markdown, and return their places, for people.

    Args:
        report: with all rows: a later look at two of them must not cut the files.
        folder: gets ``TABLE.json`` and ``TABLE.md``.

    Raises:
        OutputError: a file cannot be written.
    """
    texts = {".json": json_text(to_json(report)), ".md": as_markdown(report)}
    files = [folder / f"{report.table}{suffix}" for suffix in texts]
    for file, text in zip(files, texts.values(), strict=True):
        write_text(file, text)
    return ", ".join(map(str, files))


def save_reports(
    reports: Sequence[Report],
    setting: Setting,
    paper: PaperData,
    place: Path,
    *,
    adds: bool = False,
) -> Path:
    """Save the records of reports, the tables and their claims; a table with neither is left out.

    What an earlier report saved of the same experiments is replaced: other seeds of them go. Where runs are added to what
    is kept, nothing of it goes that could stand for a run. A table for which :func:`stays_kept` is left as it is.

    Args:
        reports: the reports, whole.
        setting: that they were made with.
        paper: all experiments and claims.
        place: the folder ``results``.
        adds: whether the runs are added to what is kept; they are in any case where kept records stand beside runs in
            the reports.

    Returns:
        Where they are.

    Raises:
        TableError: another kept table would lose a record that it was made from, or with ``adds`` a run would take the
            place of a kept record; nothing was written.
        OutputError: a file cannot be written.
    """
    folder = kept_place(setting, place)
    adds = adds or any(is_kept(Path(run.results)) for report in reports for run in report.origin)
    saving = [report for report in reports if report.origin or report.claims]
    saving = [report for report in saving if not stays_kept(report, folder)]
    saved: Files = {}
    for report in saving:
        _add_report(report, setting, paper, saved, adds=adds)
    records = {
        name: str(json.loads(content)["record"])
        for name, content in saved.items()
        if name.stem.startswith("seed")
    }
    outdated = _list_outdated(folder, records, adds=adds)
    if adds:
        _refuse_replacement(records, setting, paper)
    _refuse_lost_records(saving, folder, records, outdated, adds=adds)
    for report in saving:
        keep(report, folder, adds=adds)
    _write_files(saved, folder)
    for file in outdated:
        file.unlink()
    verdicts = verdicts_in(KeptReports(folder).tables.values(), paper.claims)
    write_text(folder / CLAIMS, json_text({"claims": to_json(verdicts)}))
    return folder


def kept_place(setting: Setting, place: Path) -> Path:
    """Return the folder that keeps the reports of a setting in ``place``, the folder ``results``."""
    return place / setting.label / BACKEND.name


def stays_kept(report: Report, folder: Path) -> bool:
    """Tell whether a report without any record leaves its kept table as it is: that one has records.

    Args:
        report: the report.
        folder: ``results/LEVEL/BACKEND``.

    Raises:
        TableError: the kept table cannot be read.
    """
    file = folder / TABLES / f"{report.table}.json"
    return not report.origin and os.path.lexists(file) and bool(read_report(file).origin)


def _add_report(
    report: Report, setting: Setting, paper: PaperData, saved: Files, *, adds: bool
) -> None:
    """Add the files of a table, of its records and of its pictures to ``saved``."""
    # How far other runs have come is true of this machine and hour alone.
    report = replace(report, rows=tuple(replace(row, unfinished=()) for row in report.rows))
    if not adds:  # notes compare runs with the records that are replaced now
        report = replace(report, notes=())
    _add_records(report, setting, paper, saved, adds=adds)
    names = {run.results: _name(Path(run.results), setting) for run in report.origin}
    origin = [
        replace(run, results=names[run.results].as_posix(), record=record_of(run))
        for run in report.origin
    ]
    tree, root = to_json(replace(report, origin=tuple(origin))), str(setting.folder)
    saved[Path(TABLES, f"{report.table}.json")] = json_text(scrub(tree, root))
    saved[Path(TABLES, f"{report.table}.md")] = scrub(as_markdown(report), root)
    saved |= picture_files(report, names)


def _list_outdated(folder: Path, records: Collection[Path], *, adds: bool) -> list[Path]:
    """Return the files that are kept of the same experiments and are not saved now.

    They are those of other seeds, which stay where runs are added, and those under a former name.
    """
    files = []
    for experiment in {name.parent.as_posix() for name in records}:
        for kept in (experiment, *former_experiments(experiment)):
            for file in (folder / kept).glob("*seed*.*"):
                seed = f"{file.stem.rpartition('_')[2]}.json"
                replaces = not adds or Path(experiment, seed) in records
                if replaces and Path(kept, seed) not in records:
                    files.append(file)
    return files


def _refuse_replacement(records: Mapping[Path, str], setting: Setting, paper: PaperData) -> None:
    """Raise TableError where a run that is added would take the place of another one's kept record.

    Args:
        records: the names of the records that are saved, to what tells their runs from any other.
        setting: that they were made with.
        paper: all experiments.
    """
    for name, run in records.items():
        experiment, seed = _split_name(name)
        if (
            experiment not in paper.experiments
        ):  # a kept record of Detectron2's weights stands for no run
            continue
        stage = plan([experiment], [seed], setting, paper.experiments).stages[-1]
        kept = kept_record(stage)
        if kept and kept.kept != run:
            raise TableError(
                f"--save-records: {kept.path} keeps another run of {stage.title} than {stage.folder} holds, and with --kept "
                "what is kept stays; nothing was saved. Move that folder away, and the kept record stands for it; without "
                "--kept, runs take the place of what is kept."
            )


def _refuse_lost_records(
    saving: Sequence[Report],
    folder: Path,
    records: Mapping[Path, str],
    outdated: Iterable[Path],
    *,
    adds: bool,
) -> None:
    """Raise TableError where a kept table that is not saved now would lose a record that it was made from.

    Args:
        saving: the reports that are saved.
        folder: ``LEVEL/BACKEND``.
        records: the names of the records that are saved, to what tells their runs from any other.
        outdated: the files that go.
        adds: whether runs are added to what is kept.
    """
    removed = {file.relative_to(folder) for file in outdated}
    lost: dict[str, str] = {}
    others = KeptReports(folder).others({report.table for report in saving})
    for table, report in others.items():
        for run in report.origin:
            name = Path(run.results)
            if name in removed or records.get(name, run.record) != run.record:
                fate = "would go" if name in removed else "would become another run's"
                lost.setdefault(table, f"{run.results}, which {fate}")
    if lost:
        table, text = next(iter(lost.items()))
        last = max(run.seed for report in saving for run in report.origin)
        options = ("--kept", "--seeds", str(last)) if adds else ()
        every = [*saving, *(others[name] for name in lost)]
        command = table_command(every, *options, "--report", "--save-records")
        raise TableError(
            f"--save-records: table {table}, which is kept, was made from {text}; nothing was saved. "
            f"Save these tables together: {command}."
        )


def _write_files(saved: Files, folder: Path) -> None:
    # A record that is there has its curves and draws, and a table its records, whenever this is stopped.
    order = sorted(saved, key=lambda name: (name.parts[0] == TABLES, name.stem.startswith("seed")))
    for name in order:
        content = saved[name]
        with replaced(folder / name) as beside:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)


def _add_records(
    report: Report, setting: Setting, paper: PaperData, saved: Files, *, adds: bool
) -> None:
    """Add each run's record, what is kept beside it, and the records of the trainings that it was made from.

    Args:
        report: the table; the kept records that it rests on stay as they are.
        setting: that it was made with.
        paper: all experiments.
        saved: gets the files.
        adds: whether the runs are added to kept records; those of trainings that both were made from stay, too.
    """
    for path in (Path(run.results) for run in report.origin if not is_kept(Path(run.results))):
        name = _name(path, setting)
        saved[name] = _record_text(path, setting, paper)
        saved |= beside_files(path, name)
        for stage in _find_earlier(name, setting, paper):
            other = _name(stage.results, stage.setting)
            stays = other in saved or (adds and kept_record(stage))
            if not stays and stage.status().state is State.DONE:
                saved[other] = _record_text(stage.results, stage.setting, paper)


def _find_earlier(name: Path, setting: Setting, paper: PaperData) -> list[Stage]:
    """Return the trainings before the one whose record has this name."""
    experiment, seed = _split_name(name)
    if experiment not in paper.experiments:  # weights of Detectron2's
        return []
    stages = plan([experiment], [seed], setting, paper.experiments).stages[:-1]
    return [stage for stage in stages if not isinstance(stage, StoreStage)]


def _split_name(name: Path) -> tuple[str, int]:
    """Return experiment and seed of the name of a kept record."""
    return name.parent.as_posix(), int(name.stem.removeprefix("seed"))


def _name(results: Path, setting: Setting) -> Path:
    """Return where the record of a run is kept, in ``LEVEL/BACKEND``; of a kept record where it is."""
    if is_kept(results):
        return results.relative_to(_location.RESULTS / setting.label / BACKEND.name)
    folder = run_folder(results).relative_to(setting.folder)
    return Path(current_experiment(folder.parent.as_posix()), f"{folder.name}.json")


def _record_text(results: Path, setting: Setting, paper: PaperData) -> str:
    name = _name(results, setting)
    experiment = name.parent.as_posix()
    shared = [stage for stage in _find_earlier(name, setting, paper) if stage.experiment.is_shared]
    started = {
        stage.key: digest_of_run(stage.results) for stage in shared if stage.results.is_file()
    }
    trains = experiment in paper.experiments and not paper.experiments[experiment].evaluates
    head = {
        "experiment": experiment,
        "kind": "training" if trains else "evaluation",
        "level": setting.label,
        "overrides": list(setting.overrides),
        "overlays": [file.name for file in setting.overlays],
        "record": identity(results),
        "inputs": (read_note(run_folder(results)) or {}).get("inputs", {}),
        "shared_weights_sha256": {key: digest for key, digest in started.items() if digest},
    }
    return json_text(scrub({**head, **record_tree(results)}, str(setting.folder)))
