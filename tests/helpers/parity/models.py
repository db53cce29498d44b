"""One training step and one inference of a whole model, as plain numbers."""

from maskrcnn_repro.benchmark import models, scenes

import numpy as np
import pycocotools.mask
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.helpers.parity.store import rounded

# Sampling takes every candidate, because both counts are at least twice what there is: no random choice
# is left, whatever generator the backend draws from.
SMALL = {
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16384,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "TEST.DETECTIONS_PER_IMAGE": 30,
}
EXTRA = {
    # One class leaves few detections to the usual NMS.
    "keypoints-R50-FPN": {
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 4,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 40,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.8,
    },
    # The full width has 103 million weights in one layer.
    "R50-DC5": {"MODEL.ROI_BOX_HEAD.FC_DIM": 128},
}
IMAGE_SIZES = ((128, 160), (144, 112))
# Ground-truth masks come as polygons or as bitmaps; both are covered.
MASK_FORMATS = {"R50-C4": "bitmask", "keypoints-R50-FPN": ""}

MIN_DETECTIONS = 50
MAX_LOSS = 20.0


def shapes(name):
    """Return name -> shape of everything that a full-size model's checkpoint holds."""
    with torch.device("meta"):
        model = build_model(models.config(name, {"MODEL.DEVICE": "meta"}))
    return {key: list(tensor.shape) for key, tensor in sorted(model.state_dict().items())}


def build(name, seed):
    """Return the model with the recipe's weights at sizes that keep a test at a few seconds."""
    return models.build(models.config(name, SMALL | EXTRA.get(name, {})), seed)


def measure(model, name, batch=None):
    """Return losses, gradient norms, proposals and detections of ``model``, by default on the batch of ``name``."""
    batch = batch or batch_of(model, name)
    losses = _train(model, batch)
    proposals, detections = _infer(model, batch)
    return {
        "losses": losses,
        "gradients": _gradient_norms(model),
        "proposals": proposals,
        "detections": detections,
    }


def check_substance(measured):
    """Refuse weights with which the comparison would say little."""
    count = sum(len(image["boxes"]) for image in measured["detections"])
    assert count >= MIN_DETECTIONS, f"only {count} detections"
    assert max(measured["losses"].values()) < MAX_LOSS, measured["losses"]
    covered = [
        decode(rle, detections["size"]).mean()
        for detections in measured["detections"]
        for rle in detections.get("masks", [])
    ]
    assert not covered or np.count_nonzero(covered) >= count / 2, "half of the masks are empty"


def encode(mask):
    return pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def decode(rle, size):
    return pycocotools.mask.decode({"counts": rle.encode(), "size": size}).astype(bool)


def batch_of(model, name):
    return [
        scenes.model_input(
            scenes.scene(index, height, width, objects=4),
            num_classes=model.roi_heads.num_classes,
            mask_format=MASK_FORMATS.get(name, "polygon"),
            keypoints=name.startswith("keypoints"),
            output_scale=1.5,
        )
        for index, (height, width) in enumerate(IMAGE_SIZES)
    ]


def _train(model, batch):
    model.train()
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return {name: float(f"{loss.item():.7g}") for name, loss in sorted(losses.items())}


def _gradient_norms(model):
    """Return the norm of the gradient of each group: stage, FPN level, or layer of a head."""
    squares = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = ".".join(name.split(".")[:3])
            squares[group] = squares.get(group, 0.0) + parameter.grad.double().square().sum().item()
    return {group: float(f"{square**0.5:.6g}") for group, square in sorted(squares.items())}


@torch.no_grad()
def _infer(model, batch):
    model.eval()
    seen = []
    hook = model.proposal_generator.register_forward_hook(lambda *args: seen.append(args[-1][0]))
    outputs = [output["instances"] for output in model(batch)]
    hook.remove()
    proposals = [
        {
            "boxes": rounded(per_image.proposal_boxes.tensor, 4),
            "logits": rounded(per_image.objectness_logits, 6),
        }
        for per_image in seen[0]
    ]
    return proposals, [_detections(instances) for instances in outputs]


def _detections(instances):
    numbers = {
        "size": list(instances.image_size),
        "boxes": rounded(instances.pred_boxes.tensor, 4),
        "scores": rounded(instances.scores, 6),
        "classes": instances.pred_classes.tolist(),
    }
    if instances.has("pred_masks"):
        masks = np.asfortranarray(instances.pred_masks.numpy().transpose(1, 2, 0).astype(np.uint8))
        numbers["masks"] = [rle["counts"].decode() for rle in pycocotools.mask.encode(masks)]
    if instances.has("pred_keypoints"):
        numbers["keypoints"] = rounded(instances.pred_keypoints, 4)
    return numbers
