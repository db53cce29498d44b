"""The check of every set that a config trains or tests on, before the first iteration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.judge import any_defect, by_severity, depends_on_use, judge
from maskrcnn_repro.data.check.keypoints import check_flip_pairs_sides
from maskrcnn_repro.data.check.pairs import check_pair
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.check.sizes import check_sizes
from maskrcnn_repro.data.check.table import EVERY_IMAGE
from maskrcnn_repro.data.custom import SCANS
from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.errors import DataError

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm


def check_sets(cfg: CfgNode, *, training: bool = True) -> None:
    """Check the COCO files of ``DATASETS.TRAIN`` and ``DATASETS.TEST``, each for what it is used for; log warnings.

    Generated sets are as they must be, and sets without a COCO file are left alone.

    Args:
        cfg: its sets are registered.
        training: False for an evaluation alone, for which ``DATASETS.TRAIN`` is not looked at.

    Raises:
        DataError: training or evaluation would fail, or learn and measure something else.
    """
    for name, uses in _uses(cfg, training=training).items():
        if (scan := _scan_of(name)) is None:
            continue
        own = MetadataCatalog.get(name).get("is_custom")
        # The others were said when the set was registered.
        judge(scan.findings, uses, features_of(cfg), depends_on_use if own else any_defect)
        if scan.mended and not own:
            raise DataError(
                f"{scan.file} lacks 'iscrowd' or has categories twice, and data set {name!r} was not registered "
                "by DATASETS.CUSTOM, which mends that; `maskrcnn check --fix OUT` writes a mended copy."
            )
        for findings in _for_config(cfg, scan, uses):
            judge(findings, uses)


def notes_of(cfg: CfgNode, *, training: bool = True) -> list[str]:
    """Return one sentence for each fact that limits AP; arguments as of :func:`check_sets`."""
    notes: dict[str, None] = {}
    for name, uses in _uses(cfg, training=training).items():
        if (scan := _scan_of(name)) is not None:
            for findings in (scan.findings, *_for_config(cfg, scan, uses)):
                for row in by_severity(findings, uses, features_of(cfg))["note"]:
                    notes[findings.sentence(row.code)] = None
    return list(notes)


def features_of(cfg: CfgNode) -> frozenset[str]:
    """Return those of :data:`maskrcnn_repro.data.check.table.FEATURES` that a config has."""
    features = {
        "masks": cfg.MODEL.MASK_ON,
        "keypoints": cfg.MODEL.KEYPOINT_ON,
        "no pixel range": not cfg.INPUT.PIXEL_RANGE,
        EVERY_IMAGE: not cfg.DATALOADER.SKIP_BROKEN,
    }
    return frozenset(feature for feature, present in features.items() if present)


def _uses(cfg: CfgNode, *, training: bool = True) -> dict[str, list[str]]:
    sets = {"train": cfg.DATASETS.TRAIN if training else (), "test": cfg.DATASETS.TEST}
    names = dict.fromkeys(name for used in sets.values() for name in used)
    return {name: [use for use, used in sets.items() if name in used] for name in names}


def _scan_of(name: str) -> Scan | None:
    metadata = MetadataCatalog.get(name)
    file = metadata.get("given_json_file", metadata.get("json_file"))
    generated = is_generated(name)
    if generated or not file or not Path(file).is_file():
        return None
    if name not in SCANS or str(SCANS[name].file) != file:
        root = Path(metadata.get("image_root", ""))
        SCANS[name] = scan_coco(Path(file), root, headers=comm.is_main_process())
        SCANS[name].tree = None
    return SCANS[name]


def _for_config(cfg: CfgNode, scan: Scan, uses: list[str]) -> Iterator[Findings]:
    """Yield what the values of the config, or another of its sets, make of a set."""
    for use in uses:
        findings = Findings(scan.file)
        check_sizes(scan, cfg, use, findings)
        if use == "train":
            if cfg.MODEL.KEYPOINT_ON:
                pairs = cfg.INPUT.KEYPOINT_FLIP_PAIRS
                check_flip_pairs_sides(pairs, scan.keypoint_names, findings)
            for other in filter(None, map(_scan_of, cfg.DATASETS.TEST)):
                check_pair(scan, other, findings)
        yield findings
