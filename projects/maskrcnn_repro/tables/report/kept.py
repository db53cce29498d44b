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

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.old_names import current_experiment, former_experiments
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.numbers import metrics, tables
from maskrcnn_repro.tables.report.exchange.files import keep
from maskrcnn_repro.tables.report.kept_run import Files, beside_files, picture_files, record_tree
from maskrcnn_repro.tables.report.model import (
    Report,
    Verdict,
    from_json,
    json_text,
    to_json,
    verdicts_in,
)
from maskrcnn_repro.tables.report.places import is_kept, record_of, run_folder
from maskrcnn_repro.tables.report.report import PaperData, table_columns
from maskrcnn_repro.tables.report.text import as_markdown
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import State, identity, read_note
from maskrcnn_repro.tables.runs.retrained import digest_of_run, kept_record
from maskrcnn_repro.tables.runs.stage import Setting, Stage, StoreStage
from maskrcnn_repro.utils.files import replaced, write_text

TABLES = "tables"
CLAIMS = "claims.json"
# A path from the root of the disk, not part of an address or of a relative path.
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.@%+~-]+/)*([\w.@%+~-]+)")


@dataclass(frozen=True)
class KeptReports:
    """What is kept of one level on one backend.

    Attributes:
        folder: ``results/LEVEL/BACKEND``.
    """

    folder: Path

    @cached_property
    def tables(self) -> Mapping[str, Report]:
        """Tables by id.

        Raises:
            TableError: a file cannot be read, or is of another table or level.
        """
        files = sorted((self.folder / TABLES).glob("*.json"))
        return {file.stem: _report_of(file) for file in files}

    @cached_property
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """Records by name, such as ``r50_c4/seed1.json``.

        Raises:
            TableError: a file cannot be read.
        """
        files = sorted(self.folder.rglob("seed*.json"))
        return {file.relative_to(self.folder).as_posix(): read_json(file) for file in files}

    def records_of(self, table: str) -> list[Mapping[str, Any]]:
        """Return the records that a table was made from.

        Raises:
            TableError: one is not there, or another run has taken its place.
        """
        if lost := self._lost(table):
            raise TableError(
                f"{lost[0]}; save it again: maskrcnn table {table} --report --save-records."
            )
        return [self.records[origin.results] for origin in self.tables[table].origin]

    def _lost(self, table: str) -> list[str]:
        """Return which records of a table are gone or another run's, a text each."""
        texts = []
        for origin in self.tables[table].origin:
            file = self.folder / origin.results
            try:
                if read_json(file).get("record") != origin.record:
                    texts.append(
                        f"{self.folder / TABLES / table}.json was made from another run than {file} holds"
                    )
            except TableError as error:
                reason = str(error).rstrip(".")
                texts.append(
                    f"{self.folder / TABLES / table}.json was made from a lost record: {reason}"
                )
        return texts

    @cached_property
    def verdicts(self) -> Sequence[Verdict]:
        """The claims in their order.

        Raises:
            TableError: they cannot be read, or are not those of the tables, as after a kill between the two.
        """
        file = self.folder / CLAIMS
        tree = read_json(file)
        try:
            verdicts = [from_json(Verdict, claim) for claim in tree["claims"]]
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"{file} holds no claims.") from error
        judged = [claim for report in self.tables.values() for claim in report.claims]
        if sorted(map(str, verdicts)) != sorted(map(str, judged)):
            raise TableError(
                f"{file} is not of the tables beside it; save these again: maskrcnn table {' '.join(self.tables)} "
                "--report --save-records."
            )
        return verdicts

    def damage(self, table: str) -> list[str]:
        """Return what is wrong with the files beside a table, which itself can be read, a sentence each."""
        sentences = [f"{text}." for text in self._lost(table)]
        try:
            _ = self.verdicts
        except TableError as error:
            sentences.append(str(error))
        return sentences


def kept_report(table: str, level: str, results: Path) -> tuple[Report, Path] | None:
    """Return a kept table and its folder: of this backend, else of another one; None if there is none.

    Its records are given by their places in full, and its notes say what is wrong with the files beside it.

    Args:
        table: id.
        level: with the names of overlays, such as ``mini-nucleus``.
        results: the folder ``results``.

    Raises:
        TableError: a file cannot be read, or is of another table or level.
    """
    others = sorted(path for path in (results / level).glob("*") if path.name != BACKEND.name)
    for folder in (results / level / BACKEND.name, *others):
        file = folder / TABLES / f"{table}.json"
        if file.is_file():
            report = _report_of(file)
            runs = [replace(run, results=str(folder / run.results)) for run in report.origin]
            notes = (*report.notes, *KeptReports(folder).damage(table))
            return replace(report, origin=tuple(runs), notes=notes), folder
    return None


def read_report(file: Path) -> Report:
    """Return the report in a JSON; one of an earlier version is completed from the paper's tables.

    Raises:
        TableError: it cannot be read.
    """
    tree = read_json(file)
    try:
        report = from_json(Report, tree)
    except (ValueError, TypeError) as error:
        raise TableError(f"{file} cannot be read: {error}.") from error
    report = _completed(report)
    for row in report.rows:
        if not {column.name for column in report.columns} <= row.cells.keys():
            raise TableError(f"{file} cannot be read: row {row.id!r} lacks cells of the columns.")
    return report


def _report_of(file: Path) -> Report:
    """Return the report in ``LEVEL/BACKEND/tables/TABLE.json``; raise TableError if it is of another level or table."""
    report, (level, *_) = read_report(file), file.parts[-4:]
    if (report.table, report.level) != (file.stem, level):
        raise TableError(
            f"{file} is of table {report.table!r:.80}, level {report.level!r:.80}, not of its place, which is for "
            f"table {file.stem!r}, level {level!r}."
        )
    return report


def _completed(report: Report) -> Report:
    table = tables().get(report.table)
    if report.columns or table is None:
        return report
    rows = [
        replace(row, gap_of=paper.gap_of, derived=paper.derived, note=paper.note)
        if (paper := table.rows.get(row.id))
        else row
        for row in report.rows
    ]
    origin = [replace(run, experiment=Path(run.results).parent.as_posix()) for run in report.origin]
    return replace(
        report,
        rows=tuple(rows),
        claims=tuple(map(_with_reason, report.claims)),
        origin=tuple(origin),
        columns=table_columns(table, metrics()),
    )


def _with_reason(verdict: Verdict) -> Verdict:
    """Return a verdict with the reason of its margin, which files of the first version lack."""
    claim = claims().get(verdict.id)
    return replace(verdict, margin_reason=claim.margin_reason) if claim else verdict


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
        saved[Path(TABLES, f"{report.table}.json")] = json_text(scrubbed(tree, root))
        saved[Path(TABLES, f"{report.table}.md")] = scrubbed(as_markdown(report), root)
        saved |= picture_files(
            report, {run.results: _name(Path(run.results), setting) for run in report.origin}
        )
        keep(report, folder)
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


def scrubbed(value: Any, root: str) -> Any:
    """Return plain values without folders of this machine.

    Args:
        value: texts, numbers, lists and dicts of them.
        root: the folder of all runs; what lies in it keeps its name from there on.
    """
    if isinstance(value, dict):
        return {key: scrubbed(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [scrubbed(item, root) for item in value]
    if not isinstance(value, str):
        return value
    return _ABSOLUTE.sub(r"\1", value.replace(f"{root}/", ""))


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
        for stage in _earlier(name, setting, paper):
            other = _name(stage.results, stage.setting)
            stays = other in saved or (adds and kept_record(stage))
            if not stays and stage.status().state is State.DONE:
                saved[other] = _record_text(stage.results, stage.setting, paper)


def _earlier(name: Path, setting: Setting, paper: PaperData) -> list[Stage]:
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
    shared = [stage for stage in _earlier(name, setting, paper) if stage.experiment.is_shared]
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
    return json_text(scrubbed({**head, **record_tree(results)}, str(setting.folder)))
