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

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.old_names import current_experiment, former_experiments
from maskrcnn_repro.tables.report.exchange.files import keep
from maskrcnn_repro.tables.report.kept_reading import CLAIMS, TABLES, KeptReports
from maskrcnn_repro.tables.report.kept_run import Files, beside_files, picture_files, record_tree
from maskrcnn_repro.tables.report.model import Report, verdicts_in
from maskrcnn_repro.tables.report.places import is_kept, record_of
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
    reports: Sequence[Report], setting: Setting, paper: PaperData, place: Path
) -> Path:
    """Save the records of reports, the tables and their claims; a table with neither is left out.

    What an earlier report saved of the same experiments is replaced: other seeds of them go. Where kept records stand
    beside runs in the reports, the runs are added to what is kept, and nothing of it goes.

    Args:
        reports: the reports, whole.
        setting: that they were made with.
        paper: all experiments and claims.
        place: the folder ``results``.

    Returns:
        Where they are.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = place / setting.label / BACKEND.name
    saved: Files = {}
    root = str(setting.folder)
    adds = any(is_kept(Path(run.results)) for report in reports for run in report.origin)
    for report in reports:
        if not report.origin and not report.claims:
            continue
        # How far other runs have come is true of this machine and hour alone.
        report = replace(report, rows=tuple(replace(row, unfinished=()) for row in report.rows))
        if not adds:  # notes compare runs with the records that are replaced now
            report = replace(report, notes=())
        _add_records(report, setting, paper, saved, adds=adds)
        origin = [
            replace(
                run, results=_name(Path(run.results), setting).as_posix(), record=record_of(run)
            )
            for run in report.origin
        ]
        tree = to_json(replace(report, origin=tuple(origin)))
        saved[Path(TABLES, f"{report.table}.json")] = json_text(scrub(tree, root))
        saved[Path(TABLES, f"{report.table}.md")] = scrub(as_markdown(report), root)
        saved |= picture_files(
            report, {run.results: _name(Path(run.results), setting) for run in report.origin}
        )
        keep(report, folder, adds=adds)
    # A record that is there has its curves and draws, and a table its records, whenever this is stopped.
    order = sorted(saved, key=lambda name: (name.parts[0] == TABLES, name.stem.startswith("seed")))
    for name in order:
        content = saved[name]
        with replaced(folder / name) as beside:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
    if not adds:
        _remove_other_seeds(folder, {name for name in saved if name.stem.startswith("seed")})
    verdicts = verdicts_in(KeptReports(folder).tables.values(), paper.claims)
    write_text(folder / CLAIMS, json_text({"claims": to_json(verdicts)}))
    return folder


def _remove_other_seeds(folder: Path, records: Collection[Path]) -> None:
    """Remove what is kept of seeds of the same experiments that were not saved now."""
    current = {name.parent.as_posix() for name in records}
    for experiment in {*current, *(old for name in current for old in former_experiments(name))}:
        for file in (folder / experiment).glob("*seed*.*"):
            seed = file.stem.rpartition("_")[2]
            if file.with_name(f"{seed}.json").relative_to(folder) not in records:
                file.unlink()


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
    experiment, seed = name.parent.as_posix(), int(name.stem.removeprefix("seed"))
    if experiment not in paper.experiments:  # weights of Detectron2's
        return []
    stages = plan([experiment], [seed], setting, paper.experiments).stages[:-1]
    return [stage for stage in stages if not isinstance(stage, StoreStage)]


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
