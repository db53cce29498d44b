"""What a server says of a prediction and of its model, as JSON; R detections, K keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.serving.limits import Limits

from pydantic import BaseModel, Field


class Rle(BaseModel):
    """COCO's compressed run-length encoding of a mask."""

    size: list[int] = Field(description="height and width of the upright image")
    counts: str


class Detection(BaseModel):
    """An object in an image."""

    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the upright image")
    score: float
    class_id: int = Field(description="place in the classes of /model")
    class_name: str
    category_id: int = Field(description="of the class in the COCO file of the training")
    mask: Rle | None = Field(None, description="of a model with masks, unless masks=none")
    mask_score: float | None = Field(
        None, description="of a model that scores masks apart from boxes"
    )
    keypoints: list[list[float]] | None = Field(
        None, description="K times x, y in pixels and a score, of a model with keypoints"
    )


class Answer(BaseModel):
    """The objects in an image, by falling score."""

    width: int = Field(description="of the image, turned upright as its EXIF asks")
    height: int
    seconds: float = Field(description="from the last byte of the image to the answer")
    detections: list[Detection]


class Error(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="one sentence")


def answer_of(prediction: Prediction, seconds: float, masks: bool) -> dict[str, Any]:
    """Return the fields of an :class:`Answer`; ``masks``: whether those are in it."""
    ids = prediction.category_ids or range(1, len(prediction.class_names) + 1)
    detections: list[dict[str, Any]] = [
        {
            "box": box.tolist(),
            "score": float(score),
            "class_id": int(index),
            "class_name": prediction.class_names[index],
            "category_id": int(ids[index]),
        }
        for box, score, index in zip(
            prediction.boxes, prediction.scores, prediction.class_ids, strict=True
        )
    ]
    for row, detection in enumerate(detections):
        if masks and prediction.rles is not None:
            detection["mask"] = dict(prediction.rles[row])
        if prediction.mask_scores is not None:
            detection["mask_score"] = float(prediction.mask_scores[row])
        if prediction.keypoints is not None:
            detection["keypoints"] = prediction.keypoints[row].tolist()
    return {
        "width": prediction.width,
        "height": prediction.height,
        "seconds": seconds,
        "detections": detections,
    }


def model_card(model: Predictor, name: str, limits: Limits) -> Mapping[str, Any]:
    """Return what ``/model`` tells: names, sizes, origin and limits.

    Args:
        model: that is served.
        name: for its users.
        limits: of the server.
    """
    cfg, labels = model.cfg, model.labels
    names = list(labels.class_names)
    return {
        "name": name,
        "classes": names,
        "category_ids": list(labels.category_ids) or list(range(1, len(names) + 1)),
        "masks": bool(cfg.MODEL.MASK_ON),
        "keypoints": list(labels.keypoint_names),
        "skeleton": [list(limb) for limb in labels.skeleton],
        "threshold": float(cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST),
        "max_detections": int(cfg.TEST.DETECTIONS_PER_IMAGE),
        "input": {
            "min_size": int(cfg.INPUT.MIN_SIZE_TEST),
            "max_size": int(cfg.INPUT.MAX_SIZE_TEST),
        },
        "device": str(cfg.MODEL.DEVICE),
        "format": str(model.facts.get("format", "checkpoint")),
        "precision": str(model.facts.get("precision", cfg.MODEL.INFERENCE.PRECISION)),
        "path": model.path,
        "origin": dict(model.origin),
        "limits": {
            "bytes": limits.max_bytes,
            "pixels": limits.max_pixels,
            "seconds": limits.seconds,
            "places": limits.places,
        },
        "version": __version__,
    }
