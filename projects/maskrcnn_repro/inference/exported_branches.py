"""Branches that plug-ins add to exported files, beside boxes, masks and keypoints.

Shape legend: R detections, h, w height and width of the network's input, H, W those that results are wanted in, in
pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]


class ExportedBranch(ABC):
    """What exporters record of a branch, what its outputs become, and how they are held against the model's.

    Attributes:
        outputs: names of the tensors that it puts out.
        of_image: whether they belong to the image; otherwise they have a row for each detection.
        limits: name of an output, or of a difference of the image -> the largest that a file in float32 may have.
    """

    outputs: tuple[str, ...]
    of_image = False
    limits: Mapping[str, float]

    @abstractmethod
    def build(self, model: Any) -> nn.Module | None:
        """Return what an exporter records of a trained model, or None of one without this branch.

        It takes maps of one image by their names, boxes (R, 4) in pixels of the input, (h, w), and H and W as (2,) int64,
        and returns a tensor for each of :attr:`outputs`.
        """

    @abstractmethod
    def add(
        self,
        result: dict[str, Any],
        outputs: Tensors,
        facts: Mapping[str, Any],
        threshold: float | None,
    ) -> None:
        """Add to the result of an image what the model itself would.

        Args:
            result: ``instances``, those of a file's detections that are kept.
            outputs: of the file, those of detections with a row for each that is kept.
            facts: of the export, with those of :meth:`facts`.
            threshold: of scores, as the user of the file asks for it; None if he does not.
        """

    def facts(self, cfg: CfgNode) -> dict[str, Any]:
        """Return what the metadata of a file say of this branch, fit for JSON."""
        return {}

    def expected(self, instances: Instances) -> Tensors:
        """Return the outputs as the model itself has them, of a branch of detections."""
        return {}

    def differences(
        self,
        expected: Mapping[str, Any],
        given: Mapping[str, Any],
        outputs: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """Return differences between the model's result of an image and the file's, which is made of its outputs."""
        return {}


FURTHER: dict[type, ExportedBranch] = {}
"""Class of a model, or of RoI heads -> its branch; a plug-in adds its own. Those that inherit from it have it, too."""


def branches_of_model(model: Any) -> list[ExportedBranch]:
    """Return the branches of the classes of a model and its RoI heads."""
    return _branches(type(model), type(model.roi_heads))


def branches_of_file(cfg: CfgNode, facts: Mapping[str, Any]) -> list[ExportedBranch]:
    """Return the branches of an exported file, given its config and the facts of its export."""
    names = (
        (META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE),
        (ROI_HEADS_REGISTRY, cfg.MODEL.ROI_HEADS.NAME),
    )
    branches = _branches(*(registry.get(name) for registry, name in names if name in registry))
    return [branch for branch in branches if {*branch.outputs} <= {*facts.get("outputs", ())}]


def _branches(*kinds: type) -> list[ExportedBranch]:
    nearest = (next((k for k in kind.__mro__ if k in FURTHER), None) for kind in kinds)
    return [FURTHER[kind] for kind in nearest if kind is not None]
