"""What an exported file says of itself: all that is needed to use it without this package."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.checkpoint.model_source import ModelSource
from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.utils.provenance import config_hash

import torch
import torchvision

_SIDES = (
    "the shorter side to min_size, but the longer side at most max_size: scale = min(min_size / shorter, max_size / "
    "longer), sides"
)
RESIZE = {
    "pillow": f"bilinear (Pillow's, antialiased), {_SIDES} floor(side * scale + 0.5)",
    "torch": f"bilinear (torch's of uint8, antialiased), {_SIDES} floor(side * scale + 0.5)",
    "torchvision": f"bilinear in float32 between pixel centres, not antialiased, {_SIDES} max(floor(side * scale), 1)",
}
"""``INPUT.RESIZE`` -> how an image is resized for the file."""


@dataclass(frozen=True)
class Target:
    """What is exported.

    Attributes:
        format: ``onnx``, ``openvino``, ``pt2`` or ``torchscript``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        threshold: detections have a higher score.
        pasted: masks also at the resolution of the image.
        opset: of ONNX.
    """

    format: str = "onnx"
    precision: str = "fp32"
    threshold: float = 0.05
    pasted: bool = False
    opset: int = 17


def metadata(
    source: ModelSource, target: Target, graph: ExportGraph, libraries: Sequence[str]
) -> dict[str, str]:
    """Return the metadata of a file by name; ``config`` is YAML, all others JSON.

    Args:
        source: the model.
        target: of the export.
        graph: that is exported.
        libraries: names of the packages that write the format.
    """
    cfg = source.cfg
    pixels = str(graph.pixels).removeprefix("torch.")
    versions = {"maskrcnn_repro": __version__, "torch": torch.__version__}
    versions["torchvision"] = torchvision.__version__
    # The graph itself flips, normalises and pads.
    facts: dict[str, Any] = {
        "format": target.format,
        "precision": target.precision,
        "threshold": target.threshold,
        "input": f"image (h, w, 3) {pixels} RGB, resized; size (2,) int64, height and width that results are in",
        "outputs": graph.outputs,
        "resize": RESIZE[cfg.INPUT.RESIZE],
        "pixels": pixels,
        "min_size": int(cfg.INPUT.MIN_SIZE_TEST),
        "max_size": int(cfg.INPUT.MAX_SIZE_TEST),
        "mean": list(cfg.MODEL.PIXEL_MEAN),
        "std": list(cfg.MODEL.PIXEL_STD),
        "channels": str(cfg.INPUT.FORMAT),
        "nms_threshold": float(cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST),
        "detections_per_image": int(cfg.TEST.DETECTIONS_PER_IMAGE),
        "config_hash": config_hash(cfg),
        **{name: fact for branch in graph.further for name, fact in branch.facts(cfg).items()},
        "versions": versions | {name: importlib.metadata.version(name) for name in libraries},
    }
    if target.format in ("onnx", "openvino"):
        facts["opset"] = target.opset
    if target.format == "pt2":
        # torch.export takes a map of one cell for another case than all others.
        facts["least_side"] = max(graph.rpn.strides) + 1
    texts = {name: json.dumps(value) for name, value in source.labels.facts().items()}
    texts |= {"origin": json.dumps(dict(source.origin), default=str), "export": json.dumps(facts)}
    return {"config": cfg.dump(), **texts}
