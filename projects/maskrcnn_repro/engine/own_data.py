"""``maskrcnn train --data``: data sets from two files, and config values that suit them, chosen once for each run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import set_value
from maskrcnn_repro.data.check.judge import judge
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.data.custom import SCANS, register_custom
from maskrcnn_repro.data.held_out import HELD_OUT, hold_out
from maskrcnn_repro.data.statistics import Statistics
from maskrcnn_repro.engine.budget import evaluations_of, iterations_within
from maskrcnn_repro.engine.launch import run_agreed
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.suggest import Suggestion, suggestions
from maskrcnn_repro.errors import DataError, OutputError, counted
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.hashes import sha256_of

import numpy as np
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

RECORD = "suggested.yaml"
Place = tuple[str, str]
"""A COCO file and the folder of its images."""


@dataclass(frozen=True)
class OwnData:
    """What a command line asks for.

    Attributes:
        train: what is trained on.
        val: what is evaluated on; None: a share of ``train``.
        minutes: budget of the training; None: the number of images decides.
        given: keys whose values the user gave.
    """

    train: Place
    val: Place | None = None
    minutes: int | None = None
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chosen:
    """Data sets and values of a run, as its folder keeps them in ``suggested.yaml``.

    Attributes:
        names: of the set that is trained on, and of that evaluated on.
        entries: of DATASETS.CUSTOM.
        suggestions: values of config keys.
        figures: sentence about the data.
    """

    names: tuple[str, str]
    entries: tuple[tuple[str, str, str], ...]
    suggestions: tuple[Suggestion, ...]
    figures: str

    def apply(self, cfg: CfgNode, given: frozenset[str]) -> CfgNode:
        """Return a copy of ``cfg`` with the data sets and the values, apart from those ``given``."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.CUSTOM = (*cfg.DATASETS.CUSTOM, *self.entries)
        sets = {"DATASETS.TRAIN": self.names[:1], "DATASETS.TEST": self.names[1:]}
        values = {**sets, **{s.key: s.value for s in self.suggestions}}
        for key, value in values.items():
            if key not in given:
                set_value(cfg, key, value, RECORD)
        return cfg


def name_of(own: OwnData) -> str:
    """Return the name of a run: that of its JSON file."""
    return Path(own.train[0]).stem or "own_data"


def fit_config(
    cfg: CfgNode, own: OwnData, *, fresh: bool, training: bool
) -> tuple[CfgNode, list[str]]:
    """Return the resolved config of a run on own data, and what was chosen in two lines; called in every process.

    Args:
        cfg: the base with the user's values; its ``OUTPUT_DIR`` is the main process's.
        own: the data.
        fresh: whether a new training begins.
        training: False for an evaluation alone.

    Raises:
        UserError: see :func:`choose` and :func:`maskrcnn_repro.engine.resolve.resolve_config`.
    """
    chosen = choose(cfg, own, fresh=fresh, training=training)
    resolved = _resolve(cfg, own, chosen, training=training)
    record = Path(cfg.OUTPUT_DIR) / RECORD
    if fresh or not record.is_file():
        if own.minutes and "SOLVER.MAX_ITER" not in own.given:
            chosen = _choose_within(cfg, own, chosen, resolved, own.minutes)
            resolved = _resolve(cfg, own, chosen, training=training)
        run_agreed(lambda: write_record(cfg, own, chosen) if comm.is_main_process() else None)
    return resolved, lines_of(resolved, chosen)


def _resolve(cfg: CfgNode, own: OwnData, chosen: Chosen, *, training: bool) -> CfgNode:
    return run_agreed(lambda: resolve_config(chosen.apply(cfg, own.given), training=training))


def choose(cfg: CfgNode, own: OwnData, *, fresh: bool, training: bool) -> Chosen:
    """Return what suits the data, or with a run that goes on what it was begun with; called in every process.

    Args:
        cfg: the base with the user's values; ``OUTPUT_DIR`` is the main process's, and gets the split.
        own: the data.
        fresh: whether a new training begins.
        training: False for an evaluation alone, which needs a run's choice.

    Raises:
        DataError: the data is wrong, holds no object, or is not that of the run.
        OutputError: the folder holds no such run, or its record is damaged.
    """
    record = Path(cfg.OUTPUT_DIR) / RECORD
    if not fresh and (record.is_file() or not training):
        return run_agreed(lambda: _read(record, own))
    names, entries = _entries(cfg, own)
    run_agreed(lambda: register_custom(entries))
    train, test = (Statistics.of(SCANS[name]) for name in names)
    if not len(train.sides):
        raise DataError(
            f"{own.train[0]} has no object to train on (crowds do not count); annotate some, images alone teach no "
            "class."
        )
    based = Chosen(names, entries, (), "").apply(cfg, own.given)
    values = tuple(suggestions(based, train, test, own.given))
    same = SCANS[names[0]].image_ids == SCANS[names[1]].image_ids
    return Chosen(names, entries, values, _figures(train, test, own, cfg, same=same))


def _choose_within(
    cfg: CfgNode, own: OwnData, chosen: Chosen, resolved: CfgNode, minutes: int
) -> Chosen:
    """Return the choice with as many iterations as fit into the time, and what follows from their number."""
    train, test = (Statistics.of(SCANS[name]) for name in chosen.names)

    def choose_again(iterations: int) -> Chosen:
        reason = f"what fits into {minutes} minutes here"
        limit = Suggestion("SOLVER.MAX_ITER", iterations, reason)
        based = replace(chosen, suggestions=(limit,)).apply(cfg, own.given)
        rest = suggestions(based, train, test, own.given | {limit.key})
        return replace(chosen, suggestions=(limit, *rest))

    def evaluations(iterations: int) -> int:
        return evaluations_of(choose_again(iterations).apply(cfg, own.given))

    images = len(SCANS[chosen.names[1]].image_ids)
    return choose_again(iterations_within(resolved, minutes, images, evaluations))


def write_record(cfg: CfgNode, own: OwnData, chosen: Chosen) -> None:
    """Keep a choice in the run's folder; in the main process."""
    content = {
        "data": {
            "train": _origin(own.train),
            "val": _origin(own.val) if own.val else f"{HELD_OUT:.0%} of train",
        },
        "names": list(chosen.names),
        "entries": [list(entry) for entry in chosen.entries],
        "figures": chosen.figures,
        "values": {
            s.key: {"value": _plain(s.value), "reason": s.reason} for s in chosen.suggestions
        },
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(Path(cfg.OUTPUT_DIR) / RECORD, text)


def lines_of(cfg: CfgNode, chosen: Chosen) -> list[str]:
    """Return a line with the figures of the data, and one with the values of the resolved config."""
    anchors = [size for sizes in cfg.MODEL.ANCHOR_GENERATOR.SIZES for size in sizes]
    shorter = "-".join(str(side) for side in sorted(set(cfg.INPUT.MIN_SIZE_TRAIN)))
    every = f"every {cfg.TEST.EVAL_PERIOD}" if cfg.TEST.EVAL_PERIOD else "at the end"
    best = f" by {cfg.TEST.BEST_METRIC}" if cfg.TEST.BEST_METRIC else ""
    parts = [
        f"shorter side {shorter} px",
        f"anchors {min(anchors):g}-{max(anchors):g} px",
        f"{cfg.SOLVER.MAX_ITER} iterations of {cfg.SOLVER.IMS_PER_BATCH} images",
        f"evaluated {every}{best}",
        f"{cfg.TEST.DETECTIONS_PER_IMAGE} detections",
    ]
    record = Path(cfg.OUTPUT_DIR) / RECORD
    return [f"Data: {chosen.figures}", f"Chosen: {', '.join(parts)}; reasons in {record}"]


def _entries(
    cfg: CfgNode, own: OwnData
) -> tuple[tuple[str, str], tuple[tuple[str, str, str], ...]]:
    """Return the names of both sets and their entries of DATASETS.CUSTOM; without ``own.val`` write the split."""
    train, val = own.train, own.val
    if val is None:
        train, val = _split(cfg, own.train)
    first = _free_name(Path(train[0]).stem, train)
    second = _free_name(Path(val[0]).stem, val, taken=first)
    return (first, second), ((first, *train), (second, *val))


def _split(cfg: CfgNode, place: Place) -> tuple[Place, Place]:
    file = Path(place[0]).expanduser()
    folder = Path(cfg.OUTPUT_DIR) / "split"
    paths = [folder / f"{file.stem}_{part}.json" for part in ("train", "val")]

    def write() -> None:
        if not comm.is_main_process():
            return
        root = Path(place[1]).expanduser()
        scan = scan_coco(file, root, headers=False)
        if not root.is_dir():
            # Before the parts are written, whose names the user has not seen.
            scan.findings.add("folder-absent", str(root), folder=str(root))
        judge(scan.findings, only=lambda row: row.same_everywhere)
        assert scan.tree is not None
        for path, tree in zip(paths, hold_out(scan.tree, max(0, cfg.SEED)), strict=True):
            write_text(path, json.dumps(tree))

    run_agreed(write)
    return (str(paths[0]), place[1]), (str(paths[1]), place[1])


def _free_name(stem: str, place: Place, taken: str = "") -> str:
    """Return a name for a data set: its file's, with a number where another set has it."""
    entry = tuple(str(Path(part).expanduser().absolute()) for part in place)
    stem = stem.encode()[:100].decode(errors="ignore")
    number, name = 1, stem
    while name == taken or (name in DatasetCatalog and not _is(name, entry)):
        number += 1
        name = f"{stem}-{number}"
    return name


def _is(name: str, entry: tuple[str, ...]) -> bool:
    scan = SCANS.get(name)
    return scan is not None and (str(scan.file), str(scan.root)) == entry


def _figures(train: Statistics, test: Statistics, own: OwnData, cfg: CfgNode, *, same: bool) -> str:
    low, high = np.percentile(np.sqrt(train.sides.prod(axis=1)), (10, 90))
    width, height = np.median(train.sizes, axis=0)
    about = "" if (train.sizes == train.sizes[0]).all() else "about "
    empty = f" ({train.empty} without objects)" if train.empty else ""
    held = "" if own.val else f", held out with seed {max(0, cfg.SEED)}"
    if held and same:
        held = ", the same, as no other has objects"
    extents = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}-{high:.0f}"
    return (
        f"{counted(len(train.sizes), 'image')}{empty} of {about}{width:.0f} x {height:.0f} px, "
        f"{counted(len(train.sides), 'object')} of {counted(train.classes, 'class', 'classes')}, most of "
        f"{extents} px, up to {train.counts.max()} in an image; evaluated on "
        f"{counted(len(test.sizes), 'image')}{held}"
    )


def _origin(place: Place) -> dict[str, str]:
    return {"file": str(place[0]), "sha256": sha256_of(Path(place[0]).expanduser())}


def _read(record: Path, own: OwnData) -> Chosen:
    """Return what :func:`write_record` wrote.

    Raises:
        DataError: it is of other data.
        OutputError: there is none, or it is damaged.
    """
    if not record.is_file():
        raise OutputError(
            f"{record.parent} holds no training with --data; begin one without --eval-only."
        )
    try:
        content = yaml.safe_load(record.read_text(encoding="utf-8"))
        chosen = Chosen(
            tuple(content["names"]),
            tuple(tuple(entry) for entry in content["entries"]),
            tuple(Suggestion(k, v["value"], v["reason"]) for k, v in content["values"].items()),
            content["figures"],
        )
        data = content["data"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise OutputError(
            f"{record} is damaged ({error!r:.100}); begin anew in another OUTPUT_DIR."
        ) from None
    _check_same(record, data, own)
    return chosen


def _check_same(record: Path, data: dict[str, Any], own: OwnData) -> None:
    for part, place in (("train", own.train), ("val", own.val)):
        before = data[part]
        if place is None and isinstance(before, str):
            continue
        option = "--data" if part == "train" else "--val"
        if place is None or isinstance(before, str) or before["sha256"] != _origin(place)["sha256"]:
            was = before if isinstance(before, str) else before["file"]
            raise DataError(
                f"{record.parent} was begun with other data for {option} ({was}); give the same, or another "
                "OUTPUT_DIR."
            )


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
