"""Detectors of torchvision with random weights whose scores spread, and what they say before masks are pasted."""

from dataclasses import dataclass

import torch
import torchvision
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

SPREAD = {
    "rpn.head.cls_logits": 1.0,
    "rpn.head.bbox_pred": 0.2,
    "roi_heads.box_predictor.bbox_pred": 0.5,
    "roi_heads.mask_predictor.mask_fcn_logits": 1.5,
    "roi_heads.keypoint_predictor.kps_score_lowres": 1.5,
}
"""Last layers, and the deviation that their outputs are brought to: as large weights leave them, a sigmoid is 0 or 1."""
BEST, HUNDREDTH = 0.9, 0.2
"""Scores of the best detection of all images, and of about the hundredth of each; NMS leaves about half of them."""
CALIBRATION = 160
"""Pixels of the shorter side of the image on which that is done."""
BOXES, SCORES, MASKS = 1e-2, 1e-4, 1e-3
"""How far detections may be apart: pixels, and probabilities twice."""


@dataclass
class Detections:
    """Detections of an image: boxes (R, 4) in its pixels, probabilities (R, m, m) of the masks.

    Keypoints (R, K, 2 or more) and RoIs (R, 4) are in pixels of the network's input, heatmaps (R, K, m, m) are logits.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None
    keypoints: torch.Tensor | None = None
    rois: torch.Tensor | None = None
    heatmaps: torch.Tensor | None = None


def narrow(outputs):
    """Return a Mask R-CNN on a ResNet-18, with narrow heads, for images of 64 pixels."""
    return MaskRCNN(
        resnet_fpn_backbone(backbone_name="resnet18", weights=None),
        min_size=64,
        max_size=96,
        box_head=TwoMLPHead(256 * 49, 32),
        box_predictor=FastRCNNPredictor(32, outputs),
        mask_head=MaskRCNNHeads(256, (16,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(16, 16, outputs),
    )


def build(name, seed, images, **options):
    """Return torchvision's model of a name in evaluation mode, its own initialisation spread on images."""
    torch.manual_seed(seed)
    model = getattr(detection, name)(weights=None, weights_backbone=None, **options).eval()
    size, model.transform.min_size = model.transform.min_size, (CALIBRATION,)
    spread(model, images[0])
    model.transform.min_size = size
    spread_scores(model, images)
    return model


def spread(model, image):
    """Scale a model's last layers as SPREAD says."""
    for layer_name, deviation in SPREAD.items():
        layer = dict(model.named_modules()).get(layer_name)
        if layer is not None:
            output = _output(model, layer, image)
            with torch.no_grad():
                layer.weight *= deviation / output.std()
        if layer_name == "rpn.head.bbox_pred":
            # Without detections there are no masks, whose layer comes next.
            spread_scores(model, [image])


def spread_scores(model, images):
    """Scale and shift each class of the box head, so that none wins everywhere, to BEST and HUNDREDTH."""
    layer = model.roi_heads.box_predictor.cls_score
    logits = torch.stack([_output(model, layer, image) for image in images])
    mean, deviation = logits.mean(dim=(0, 1)), logits.flatten(0, 1).std(dim=0)
    logits = (logits - mean) / deviation
    background = torch.eye(len(mean))[0]

    def ranked(scale, shift):
        scores = (logits * scale + background * shift).softmax(dim=2)[..., 1:]
        return scores.flatten(1).topk(200).values

    def scale_at(shift):
        return _bisected(lambda scale: ranked(scale, shift).max() > BEST)

    shift = _bisected(lambda shift: ranked(scale_at(shift), shift).min() < HUNDREDTH)
    scale = scale_at(shift)
    with torch.no_grad():
        layer.weight *= scale / deviation[:, None]
        layer.bias.copy_((layer.bias - mean) * scale / deviation + background * shift)


def _bisected(is_above, low=0.0, high=20.0):
    """Return the number from which on ``is_above`` holds."""
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return high


def _output(model, layer, image):
    """Return all numbers that a layer says of an image; those of one call keep their shape."""
    outputs = []
    handle = layer.register_forward_hook(lambda *parts: outputs.append(parts[2]))
    with torch.no_grad():
        model([image])
    handle.remove()
    return outputs[0] if len(outputs) == 1 else torch.cat([output.flatten() for output in outputs])


def detect(model, image):
    """Return the detections of an RGB image (3, H, W) in [0, 1]."""
    raw, heatmaps = {}, []

    def keep(results, sizes, originals):
        raw.update(results[0], rois=results[0]["boxes"])
        scaled = torchvision.models.detection.transform.resize_boxes
        raw["boxes"] = scaled(raw["boxes"], sizes[0], originals[0])
        return results

    model.transform.postprocess, before = keep, model.transform.postprocess
    if model.roi_heads.has_keypoint():
        heatmaps.append(_output(model, model.roi_heads.keypoint_predictor, image))
    else:
        with torch.no_grad():
            model([image])
    model.transform.postprocess = before
    masks = raw["masks"][:, 0] if "masks" in raw else None
    return Detections(
        raw["boxes"],
        raw["scores"],
        raw["labels"],
        masks,
        raw.get("keypoints"),
        raw["rois"],
        *heatmaps,
    )


def ours(model, mapper, file_name, image, labels):
    """Return the same of a converted model: its classes as torchvision's labels."""
    record = mapper(
        {"file_name": file_name, "image_id": 0, "height": image.shape[1], "width": image.shape[2]}
    )
    with torch.no_grad():
        (instances,) = model.inference([record], do_postprocess=False)
    height, width = instances.image_size
    rois = instances.pred_boxes.tensor
    boxes = rois * torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
    masks = instances.pred_masks[:, 0] if instances.has("pred_masks") else None
    points = instances.pred_keypoints if instances.has("pred_keypoints") else None
    return Detections(
        boxes, instances.scores, torch.tensor(labels)[instances.pred_classes], masks, points, rois
    )


def pairs(theirs, own):
    """Return for each of torchvision's detections the place of ours, or -1: same label, box and score."""
    places = []
    for box, score, label in zip(theirs.boxes, theirs.scores, theirs.labels, strict=True):
        near = (own.boxes - box).abs().amax(dim=1) <= BOXES
        near &= ((own.scores - score).abs() <= SCORES) & (own.labels == label)
        near[[place for place in places if place >= 0]] = False
        places.append(int(near.int().argmax()) if near.any() else -1)
    return torch.tensor(places)


def apart(a, b):
    """Tell which keypoints of (R, K, 2) pixels are not the same."""
    return (a - b).abs().amax(dim=2) > BOXES


def largest_differences(theirs, own):
    """Return how many detections are matched, of how many, and the largest differences by name."""
    places = pairs(theirs, own)
    hit = places >= 0
    figures = {"matched": int(hit.sum()), "theirs": len(hit), "ours": len(own.scores)}
    for name in ("boxes", "scores", "masks", "keypoints"):
        a, b = getattr(theirs, name), getattr(own, name)
        if a is not None and hit.any():
            a, b = a[hit], b[places[hit]]
            if name == "keypoints":
                # Those further apart are ties or errors, which tests.helpers.ties tells.
                a, b = a[..., :2], b[..., :2]
                b = torch.where(apart(a, b)[..., None], a, b)
            figures[name] = float((a - b).abs().max())
    return figures
