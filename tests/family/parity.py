"""What Detectron2's own counterpart of a head of the family computes, and the same of ours.

``python -m tests.family.parity [HEAD ...]`` with a Python that has Detectron2 rewrites the stored numbers, of all heads or
of those named.
"""

import gzip
import importlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings
from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.config import add_config, add_keys
from maskrcnn_repro.plugins import load_plugins

import detectron2
import torch
from detectron2.modeling import build_model

from tests.helpers.parity import models
from tests.helpers.paths import STORED

FILE = STORED / "family" / "parity.json.gz"
GAINS = {"cls_score": 1.0, "bbox_pred": 0.5}


@dataclass(frozen=True)
class Head:
    """A head of the family and its counterpart: differences of each from the R50-FPN of tests/helpers/parity."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    both: dict[str, Any]
    project: str = ""
    """Folder of a checkout of Detectron2 with the authors' code, which adds its config keys."""
    gains: dict[str, float] = field(default_factory=dict)
    masks: str = "polygon"


HEADS = {
    "cascade": Head(
        ours={"MODEL.ROI_HEADS.NAME": "FamilyCascadeROIHeads"},
        theirs={"MODEL.ROI_HEADS.NAME": "CascadeROIHeads"},
        both={
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
            "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128,
        },
        gains={f"box_predictor.{k}.{part}": gain for k in range(3) for part, gain in GAINS.items()},
    ),
    "point_rend": Head(
        ours={"MODEL.ROI_MASK_HEAD.NAME": "FamilyPointRendMaskHead"},
        theirs={
            "MODEL.ROI_MASK_HEAD.NAME": "PointRendMaskHead",
            "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True,
        },
        both={
            "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
            "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
            "MODEL.ROI_MASK_HEAD.FC_DIM": 64,
            "INPUT.MASK_FORMAT": "bitmask",
        },
        project="projects/PointRend",
        gains={"point_head.predictor": 1.0, "coarse_head.prediction": 1.0},
        masks="bitmask",
    ),
    "panoptic_fpn": Head(
        ours={
            "MODEL.META_ARCHITECTURE": "FamilyPanopticFPN",
            "MODEL.SEM_SEG_HEAD.NAME": "FamilySemSegFPNHead",
            "DATASETS.WITH_SEM_SEG": True,
        },
        theirs={"MODEL.META_ARCHITECTURE": "PanopticFPN"},
        both={
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 6,
            "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.5,
            "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 500,
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.2,
        },
    ),
}


def build(name, *, ours, seed=0):
    """Return R50-FPN with one of the heads and the recipe's weights."""
    head = HEADS[name]
    cfg = settings.config("R50-FPN")
    if ours:
        (plugin,) = load_plugins([f"maskrcnn_family.{name}"])[-1:]
        add_config(cfg)
        if plugin.keys_file:
            add_keys(cfg, plugin.keys_file)
    elif head.project:
        sys.path.insert(0, str(Path(detectron2.__file__).parents[1] / head.project))
        importlib.import_module("point_rend").add_pointrend_config(cfg)
    changes = models.SMALL | head.both | (head.ours if ours else head.theirs)
    cfg.merge_from_list([word for pair in changes.items() for word in pair])
    model = build_model(cfg)
    gains = settings.choose_gains(cfg)
    if name == "cascade":
        # A stage's number stands within these names.
        for part in GAINS:
            gains.pop(f"box_predictor.{part}")
    recipe.fill(model, gains | head.gains, seed)
    if name == "panoptic_fpn":
        # Features are positive: otherwise one class would have all pixels.
        weight = model.sem_seg_head.predictor.weight.data
        weight -= weight.mean(dim=1, keepdim=True)
    return model


def even_numbers(*shape, device=None):
    """Return what stands for ``torch.rand``: the same well spread points for each RoI, in whatever order they come."""
    *_, count, axes = shape
    steps = torch.tensor([0.7548776662, 0.5698402910])[:axes]
    points = (0.5 + steps * torch.arange(1, count + 1)[:, None]) % 1
    return points.expand(*shape).clone().to(device)


def measure(name, *, ours):
    model = build(name, ours=ours)
    # The name decides how ground truth comes: C4's as bitmaps.
    kind = "R50-C4" if HEADS[name].masks == "bitmask" else "R50-FPN"
    batch, outputs = models.batch_of(model, kind), []
    if name == "panoptic_fpn":
        add_labels(batch)
        model.register_forward_hook(lambda *args: outputs.append(args[-1]))
    with mock.patch("torch.rand", even_numbers):
        measured = models.measure(model, kind, batch)
    if outputs:
        measured["panoptic"] = [_panoptic(*image["panoptic_seg"]) for image in outputs[-1]]
        # The maps are made of them.
        for image in measured["detections"]:
            del image["masks"]
    return {"state": sorted(model.state_dict()), **measured}


def add_labels(batch):
    """Give images semantic labels in blocks of 16 pixels, one in seven of them void."""
    for sample in batch:
        height, width = sample["image"].shape[1:]
        rows, columns = torch.arange(height)[:, None] // 16, torch.arange(width) // 16
        labels = (3 * rows + 5 * columns) % 7
        sample["sem_seg"] = torch.where(labels == 6, 255, labels)


def _panoptic(ids, segments):
    shown = ("category_id", "isthing", "score")
    infos = [
        {key: segment[key] for key in shown if key in segment}
        | {"rle": models.encode(ids.numpy() == segment["id"])}
        for segment in segments
    ]
    return {"size": list(ids.shape), "segments": infos}


def stored(name):
    return json.loads(gzip.decompress(FILE.read_bytes()))[name]


if __name__ == "__main__":
    if maskrcnn_repro.BACKEND.name != "installed":
        sys.exit("Only an installed Detectron2 may be recorded.")
    torch.set_num_threads(1)
    measured = {name: measure(name, ours=False) for name in sys.argv[1:] or HEADS}
    for numbers in measured.values():
        models.check_substance(numbers)
    FILE.parent.mkdir(exist_ok=True)
    if sys.argv[1:]:
        measured = json.loads(gzip.decompress(FILE.read_bytes())) | measured
    FILE.write_bytes(gzip.compress(json.dumps(measured).encode(), mtime=0))
