"""Three tiny C4 models with random weights as the runs of table 2c, on four small images."""

from dataclasses import replace

from maskrcnn_repro.pooler_keys import HEADS
from maskrcnn_repro.tables.report.model import Cell, ReportRow

import torch
from detectron2.checkpoint import DetectionCheckpointer

from tests.helpers.html_runs import DATASET, report_of, write_detections, write_record
from tests.helpers.tiny_models import tiny_config, tiny_model

RUNS = (
    ("T2c.pool", "r50_c4_roipool", "RoIPool"),
    ("T2c.warpave", "r50_c4_roiwarp_ave", "RoIWarpAve"),
    ("T2c.alignave", "r50_c4", "RoIAlignAve"),
)


def tiny_keys(operation):
    """Return the keys in which a tiny model differs from that of ``tiny_config("c4")``."""
    return {
        "MODEL.ROI_OP.NAME": operation,
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "DATASETS.TRAIN": (),
        "DATASETS.TEST": (DATASET,),
        "INPUT.MIN_SIZE_TEST": 64,
        "INPUT.FORMAT": "RGB",
    }


def operation_report(folder, truth, count=2, level="mini"):
    """Write the runs below ``folder``; return the report of table 2c that has their records.

    Args:
        folder: the one that ``register_tiny`` was given.
        truth: what it returned.
        count: of the two objects of each image, so many are detected.
        level: of the report.
    """
    file, pictures = folder / "tiny/instances.json", folder / "tiny/images"
    rows, origin = [], []
    for row, experiment, operation in RUNS:
        run = folder / "output" / level / experiment / "seed1"
        keys = tiny_keys(operation)
        origin.append(write_record(run, 1, 30.0, 35.0, experiment=experiment))
        write_detections(run, truth, count, shift=1.3)
        cfg = tiny_config("c4", **keys)
        cfg.DATASETS.CUSTOM = [[DATASET, str(file), str(pictures)]]
        for head in HEADS:
            cfg.MODEL[head].POOLER_TYPE = ""
        (run / "config.yaml").write_text(cfg.dump())
        model = tiny_model("c4", **keys)
        torch.manual_seed(len(rows))
        torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight)
        DetectionCheckpointer(model, str(run)).save("model_final")
        rows.append(ReportRow(row, operation, experiment, cells={"AP": Cell(), "bbAP": Cell()}))
    report = report_of(*rows, table="2c", level=level, baseline_row="T2c.pool")
    return replace(report, origin=tuple(origin))
