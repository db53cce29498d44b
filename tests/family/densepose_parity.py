"""What Detectron2's DensePose project computes, and the same of ours.

``python -m tests.family.densepose_parity`` with a Python that has Detectron2 and its ``projects/DensePose`` rewrites the
stored numbers: of the model, and of the evaluator on the cases of :mod:`tests.evaluation.densepose_cases`.
"""

import gzip
import json
import sys
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro.benchmark import models as settings
from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.config import add_config, add_keys
from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.plugins import load_plugins

import detectron2
import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.evaluation import densepose_cases
from tests.helpers.paths import STORED

FILE = STORED / "family" / "densepose.json.gz"
SHAPES = {f"p{k}": ShapeSpec(channels=16, stride=1 << k) for k in (2, 3, 4, 5)}
SMALL = {
    "MODEL.MASK_ON": False,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    # More than there are: nothing is drawn at random.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
}
HEAD = "MODEL.ROI_DENSEPOSE_HEAD"
NARROW = {
    "MODEL.DENSEPOSE_ON": True,
    f"{HEAD}.NUM_PATCHES": 5,
    f"{HEAD}.NUM_STACKED_CONVS": 2,
    f"{HEAD}.POOLER_RESOLUTION": 14,
    f"{HEAD}.HEATMAP_SIZE": 56,
    f"{HEAD}.CONV_HEAD_DIM": 24,
    f"{HEAD}.FG_IOU_THRESHOLD": 0.55,
    # As in the configs of the project; its code has another default.
    f"{HEAD}.POOLER_TYPE": "ROIAlign",
}
VARIANTS = {
    "decoder": {f"{HEAD}.DECODER_CONV_DIMS": 12, f"{HEAD}.DECODER_NUM_CLASSES": 16},
    # The widths of the paper's own code.
    "levels": {
        f"{HEAD}.DECODER_ON": False,
        f"{HEAD}.NUM_COARSE_SEGM_CHANNELS": 15,
        f"{HEAD}.INDEX_WEIGHTS": 2.0,
        f"{HEAD}.PART_WEIGHTS": 0.3,
        f"{HEAD}.POINT_REGRESSION_WEIGHTS": 0.1,
    },
}
POINTS = 12


def build(variant, *, ours):
    """Return RoI heads on a narrow pyramid, with the recipe's weights."""
    cfg = settings.config("R50-FPN")
    changes = SMALL | NARROW | VARIANTS[variant]
    if ours:
        (plugin,) = load_plugins(["maskrcnn_family.densepose"])[-1:]
        add_config(cfg)
        add_keys(cfg, plugin.keys_file)
        # Ours has the side that follows from the others.
        changes.pop(f"{HEAD}.HEATMAP_SIZE", None)
        changes["MODEL.ROI_HEADS.NAME"] = "FamilyDensePoseROIHeads"
    else:
        from densepose import add_densepose_config

        add_densepose_config(cfg)
        changes["MODEL.ROI_HEADS.NAME"] = "DensePoseROIHeads"
        changes[f"{HEAD}.NAME"] = "DensePoseV1ConvXHead"
    cfg.merge_from_list([word for pair in changes.items() for word in pair])
    heads = build_roi_heads(cfg, SHAPES)
    recipe.fill(heads, {"densepose_predictor": 0.5})
    return heads


def annotation(number):
    """Return the DensePose fields of an object, each fourth of which has none."""
    if number % 4 == 3:
        return {}
    values = (recipe.uniform(f"surface {number}", 4 * POINTS).reshape(4, POINTS) + 1) / 2
    charts = (np.arange(POINTS) + number) % 6
    points = np.stack([values[0] * SIDE, values[1] * SIDE, charts, values[2], values[3]], axis=1)
    cells = np.arange(SIDE) // 32
    parts = (cells[:, None] + 2 * cells + number) % 7
    return SurfacePoints(points, parts.astype(np.uint8)).fields()


def inputs(*, ours):
    """Return maps, proposals around the people of two images, and these people; the second image has one fewer."""
    maps = {
        name: torch.from_numpy(
            recipe.values(name, (2, s.channels, 160 // s.stride, 128 // s.stride))
        )
        for name, s in SHAPES.items()
    }
    proposals, truth = [], []
    for image, count in enumerate((4, 3)):
        corner = torch.from_numpy(recipe.uniform(f"corners {image}", 2 * count)).reshape(count, 2)
        size = torch.from_numpy(recipe.uniform(f"sizes {image}", 2 * count)).reshape(count, 2)
        start = 30 + 25 * corner
        boxes = torch.cat([start, start + 55 + 25 * size], dim=1)
        shifts = torch.from_numpy(recipe.uniform(f"shifts {image}", 6 * 4)).reshape(6, 1, 4)
        people = Instances((160, 128), gt_boxes=Boxes(boxes))
        people.gt_classes = torch.zeros(count, dtype=torch.long)
        people.gt_densepose = _surfaces(
            [annotation(4 * image + k) for k in range(count)], people, ours
        )
        truth.append(people)
        around = (boxes + 12 * shifts).reshape(-1, 4)
        scores = torch.zeros(len(around))
        proposals.append(
            Instances((160, 128), proposal_boxes=Boxes(around), objectness_logits=scores)
        )
    return maps, proposals, truth


def _surfaces(fields, people, ours):
    if ours:
        return SurfaceTargets.of([SurfacePoints.read(a) for a in fields])
    from densepose.structures import DensePoseDataRelative, DensePoseList

    data = [DensePoseDataRelative(a) if a else None for a in fields]
    return DensePoseList(data, people.gt_boxes, people.image_size)


def surfaces(instances):
    """Return charts and coordinates of a grid of each detection's pixels."""
    grids = []
    for k, box in enumerate(instances.pred_boxes):
        if hasattr(instances.pred_densepose, "surfaces"):
            (surface,) = instances.pred_densepose[k].surfaces(box[None])
        else:
            from densepose.converters import ToChartResultConverter
            from densepose.structures.chart_result import quantize_densepose_chart_result

            result = ToChartResultConverter.convert(instances.pred_densepose[k], Boxes(box[None]))
            surface = quantize_densepose_chart_result(result).labels_uv_uint8
        grids.append(surface[:, ::7, ::7].tolist())
    return grids


def measure(variant, *, ours):
    heads = build(variant, ours=ours)
    maps, proposals, truth = inputs(ours=ours)
    heads.train()
    with EventStorage():
        _, losses = heads(None, maps, proposals, truth)
    sum(losses.values()).backward()
    norms = {
        name: parameter.grad.norm().item()
        for name, parameter in heads.named_parameters()
        if not name.startswith("box_")
    }
    heads.eval()
    detections = [
        Instances(people.image_size, pred_boxes=people.gt_boxes, pred_classes=people.gt_classes)
        for people in truth
    ]
    with torch.no_grad():
        predicted = heads.forward_with_given_boxes(maps, detections)
    return {
        "state": sorted(heads.state_dict()),
        "losses": {name: float(f"{loss.item():.7g}") for name, loss in losses.items()},
        "gradients": {name: float(f"{norm:.6g}") for name, norm in sorted(norms.items())},
        "surfaces": [surfaces(image) for image in predicted],
    }


def stored():
    return json.loads(gzip.decompress(FILE.read_bytes()))


if __name__ == "__main__":
    if maskrcnn_repro.BACKEND.name != "installed":
        sys.exit("Only an installed Detectron2 may be recorded.")
    sys.path.insert(0, str(Path(detectron2.__file__).parents[1] / "projects" / "DensePose"))
    torch.set_num_threads(1)
    numbers = {variant: measure(variant, ours=False) for variant in VARIANTS}
    numbers["evaluator"] = densepose_cases.reference()
    FILE.write_bytes(gzip.compress(json.dumps(numbers).encode(), mtime=0))
