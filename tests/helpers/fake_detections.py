"""Detections of known quality on a dozen images with one object each, in the folders of fake runs."""

import json
from pathlib import Path

from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.tables.report import gather, matching
from maskrcnn_repro.tables.runs.plan import plan

from tests.helpers.fake_runs import write_run

IMAGES = 12
DIGEST = "0" * 64
# Pixels by which a box of 20 x 20 is off -> its IoU, and what AP all images with such boxes have.
EXACT, NEAR, FAR = 0, 2, 6
"""IoU 1: AP 100. IoU 18/22: seven of ten thresholds, AP 70, AP75 100. IoU 14/26: one threshold, AP 10, AP75 0."""
MISSED = None


def write_truth(folder):
    """Write the annotations; return their file."""
    data = {
        "images": [
            {"id": i, "width": 64, "height": 64, "file_name": f"{i}.png"} for i in range(IMAGES)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "area": 400, "iscrowd": 0} | shape(0)
            for i in range(IMAGES)
        ],
    }
    file = Path(folder) / "truth.json"
    file.write_text(json.dumps(data))
    return file


def use_truth(monkeypatch, file, digest=DIGEST):
    """Let every data set have these annotations."""
    origin = {"json": None if file is None else str(file), "sha256": digest}
    for module in (gather, matching):
        monkeypatch.setattr(module, "data_origin", lambda name: origin)


def detect(fake, truth, name, seed, offsets, metrics=None, **changed):
    """Write a finished run whose detections are off by so many pixels; return its folder.

    Args:
        fake: the fake experiments.
        truth: as :func:`write_truth` returned it.
        name: experiment.
        seed: of training.
        offsets: one number or MISSED for all images, or a list of them.
        metrics: of the record; by default those that the detections have.
        changed: more of the record.
    """
    every = offsets if isinstance(offsets, list) else [offsets] * IMAGES
    stage = plan([name], [seed], fake.setting, fake.experiments).stages[-1]
    detections = [
        {"image_id": i, "category_id": 1, "score": 0.9 - 0.01 * i} | shape(offset)
        for i, offset in enumerate(every)
        if offset is not MISSED
    ]
    file = stage.results.parent / "inference/mini_coco_val/coco_instances_results.json"
    if stage.results.parent.name == "inference":
        file = stage.results.parent / "mini_coco_val/coco_instances_results.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(detections))
    own = {task: match(truth, file, task).average_precision() for task in ("bbox", "segm")}
    stage.write_note()
    write_run(stage, metrics=metrics or own, **changed)
    return stage.folder


def shape(offset):
    x, y = 10 + offset, 10
    corners = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
    return {"bbox": [x, y, 20, 20], "segmentation": [corners]}
