"""What the authors' code of Mask Scoring R-CNN computes, and the same of ours.

``python -m tests.family.mask_scoring_parity CHECKOUT`` rewrites the stored numbers; CHECKOUT is a clone of
zjhuang22/maskscoring_rcnn, which need not be compiled.
"""

import json
import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

from maskrcnn_repro.modeling.mask_head.targets import mask_targets

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from maskrcnn_family.mask_scoring.targets import iou_targets, visible_fractions
from tests.helpers.paths import STORED

FILE = STORED / "family" / "mask_scoring.json"
SIZE = (96, 128)  # height, width
CLASSES = [2, 0, 1, 2, 0]
"""Of the RoIs, from 0; the authors' are one more."""
BOXES = [
    [10, 8, 50, 40],
    [20.4, 12.7, 60.2, 44.9],
    [40, 30, 90, 80],
    [8, 50, 30, 90],
    [60, 4, 120, 36],
]
POLYGONS = [
    [[10.0, 8, 50, 8, 50, 40, 10, 40]],
    [[14.5, 10.5, 66.0, 20.0, 40.0, 50.5]],
    # Beyond its RoI to all sides.
    [[30.0, 20, 100, 24, 96, 90, 28, 86]],
    # In two parts, of which the RoI shows one.
    [[10.0, 52, 28, 52, 28, 88, 10, 88], [40.0, 60, 60, 60, 60, 80]],
    [[70.0, 5, 75, 5, 75, 9, 70, 9]],
]


def numbers(*shape, start=0):
    """Return well mixed numbers in [-1, 1] that do not depend on a random generator."""
    places = torch.arange(int(np.prod(shape)), dtype=torch.float64) + start
    return (2 * (torch.sin(places * 12.9898) * 43758.5453 % 1) - 1).float().view(shape)


def fill(module):
    """Give a MaskIoU head weights by its parameters' names."""
    for name, parameter in module.named_parameters():
        start = sum(map(ord, name.rpartition("maskiou")[2]))
        scale = (6 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
        parameter.data = scale * numbers(*parameter.shape, start=start)


def case():
    """Return features of RoIs (5, 256, 14, 14), and mask logits (5, 3, 28, 28)."""
    # Blobs, so that masks have an inside.
    coarse = 3 * numbers(5, 3, 4, 4, start=7)
    logits = torch.nn.functional.interpolate(coarse, size=28, mode="bilinear")
    return numbers(5, 256, 14, 14), logits


def proposals():
    image = Instances(SIZE, proposal_boxes=Boxes(torch.tensor(BOXES)))
    image.gt_classes, image.gt_masks = torch.tensor(CLASSES), PolygonMasks(POLYGONS)
    return image


def summary(ious, targets, losses, features, logits, head):
    sum(losses).backward()
    weight = head.maskiou_fcn1.weight
    return {
        "ious": ious.tolist(),
        "targets": targets.tolist(),
        "losses": [loss.item() for loss in losses],
        "gradients": [part.grad.double().norm().item() for part in (features, logits, weight)],
    }


def measure(head):
    """Return what our head computes of the case; it has 256 channels and 3 classes."""
    features, logits = (part.requires_grad_() for part in case())
    image = proposals()
    truth = mask_targets([image], 28)
    with EventStorage():
        losses = tuple(head.losses(features, logits, truth, [image]).values())
    masks = head.loss.masks(logits, image.gt_classes)
    targets = iou_targets(masks > 0.5, truth, visible_fractions([image]))
    ious = head.mask_ious(features, masks, image.gt_classes)
    return summary(ious, targets, losses, features, logits, head.maskiou_head)


def measure_theirs(checkout):
    sys.path.insert(0, checkout)
    import maskrcnn_benchmark

    # Compiled operations, of which none is called.
    compiled = ModuleType("maskrcnn_benchmark._C")
    compiled.__getattr__ = lambda name: None
    sys.modules[compiled.__name__] = maskrcnn_benchmark._C = compiled
    from maskrcnn_benchmark.modeling.matcher import Matcher
    from maskrcnn_benchmark.modeling.roi_heads.mask_head import loss as mask_loss
    from maskrcnn_benchmark.modeling.roi_heads.maskiou_head import maskiou_head
    from maskrcnn_benchmark.structures.bounding_box import BoxList
    from maskrcnn_benchmark.structures.segmentation_mask import SegmentationMask

    box_head = SimpleNamespace(NUM_CLASSES=4)
    model = SimpleNamespace(ROI_BOX_HEAD=box_head, MASKIOU_LOSS_WEIGHT=1.0)
    cfg = SimpleNamespace(MODEL=model, clone=lambda: None)
    head = maskiou_head.ROIMaskIoUHead(cfg)
    fill_theirs(head)
    rois = BoxList(torch.tensor(BOXES), SIZE[::-1])
    truth = BoxList(torch.tensor(BOXES), SIZE[::-1])
    truth.add_field("labels", torch.tensor(CLASSES) + 1)
    truth.add_field("masks", SegmentationMask(POLYGONS, SIZE[::-1]))

    encode = mask_loss.mask_util.frPyObjects
    features, own = case()
    logits = own.requires_grad_()
    features.requires_grad_()
    # A channel for the background, which comes first.
    padded = torch.cat([torch.zeros_like(own[:, :1]), logits], dim=1)
    compute = mask_loss.MaskRCNNLossComputation(Matcher(0.5, 0.5), 28, True)
    with mock.patch.object(
        mask_loss.mask_util, "frPyObjects", lambda p, h, w: encode(p, int(h), int(w))
    ):
        first, masks, labels, targets = compute([rois], padded, [truth])
    ious = head.predictor(head.feature_extractor(features, masks))
    second = head.loss_evaluator(labels, ious, targets)
    own_ious = ious[torch.arange(5), labels]
    extractor = head.feature_extractor
    return summary(own_ious, targets, (first, second), features, logits, extractor)


def fill_theirs(head):
    fill(head.feature_extractor)
    last = head.predictor.maskiou
    ours = torch.nn.Linear(1024, 3)
    holder = torch.nn.ModuleDict({"maskiou": ours})
    fill(holder)
    last.weight.data[1:], last.bias.data[1:] = ours.weight.data, ours.bias.data


def stored():
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps(measure_theirs(sys.argv[1]), indent=1) + "\n")
