"""Test-time augmentation (Appendix B): one image seen at several scales and mirrored, one result.

Each view is searched for objects, all boxes are brought back to the image and merged by non-maximum
suppression. Each box that is left is laid into all views; its masks and its keypoint heatmaps there are
averaged. The paper says no more than the scales and the flips; that boxes are searched and suppressed in each
view before they are merged is Detectron2's way.

Shape legend: H, W height and width that results are wanted in, h, w those of a view, all in pixels; A boxes
of all views, R boxes after merging, m side of a mask and S of a heatmap in cells, K keypoints. Boxes are xyxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.keypoint_head import predict_keypoints
from maskrcnn_repro.modeling.meta_arch import MaskRCNN, in_float32

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.layers import batched_nms
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

BRANCHES = ("mask_on", "keypoint_on")
"""Public attributes of Detectron2's RoI heads that say whether a branch is run."""


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Args:
        min_size: pixels of the shorter side; 0 leaves the image as it is.
        max_size: pixels that the longer side may have at most.
        flip: mirrored left to right.
    """

    min_size: int
    max_size: int
    flip: bool = False

    def of(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a model input for this view.

        Args:
            given: a model input: ``image``, (C, height, width) uint8, and perhaps ``proposals``.
        """
        picture = given["image"].permute(1, 2, 0).cpu().numpy()
        resize = T.ResizeShortestEdge(self.min_size, self.max_size, "choice").get_transform(picture)
        picture, steps = resize.apply_image(picture), [resize]
        if self.flip:
            steps.append(T.HFlipTransform(picture.shape[1]))
            picture = steps[-1].apply_image(picture)
        seen = {"image": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))}
        if "proposals" in given:
            moves = T.TransformList(steps)
            seen["proposals"] = _moved(given["proposals"], moves, picture.shape[:2])
        return seen


@dataclass
class Seen:
    """What a model makes of one view."""

    size: tuple[int, int]
    """h, w."""
    flip: bool
    features: dict[str, torch.Tensor]
    found: Instances
    """``pred_boxes``, ``scores`` and ``pred_classes`` in the view, float32."""

    def mirrored(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return boxes of the view as of the view without flip, or the other way round; (R, 4)."""
        if not self.flip:
            return boxes.clone()
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        return torch.stack([self.size[1] - x2, y1, self.size[1] - x1, y2], dim=1)

    def brought_back(self, number: int, size: tuple[int, int]) -> Instances:
        """Return the boxes in the image, of ``size`` H, W; also the view's ``number`` and their ``row`` there."""
        found = Instances(self.size, pred_boxes=Boxes(self.mirrored(self.found.pred_boxes.tensor)))
        found.scores, found.pred_classes = self.found.scores, self.found.pred_classes
        found.row = torch.arange(len(found), device=found.scores.device)
        found.view = torch.full_like(found.row, number)
        return detector_postprocess(found, *size)

    def laid_in(self, number: int, merged: Instances) -> Instances:
        """Return boxes of the image in this view, those that were found here as they were found."""
        (height, width), (rows, columns) = merged.image_size, self.size
        boxes = merged.pred_boxes.tensor
        scale = boxes.new_tensor([columns / width, rows / height] * 2)
        placed = self.mirrored(boxes * scale)
        own = merged.view == number
        placed[own] = self.found.pred_boxes.tensor[merged.row[own]]
        return Instances(self.size, pred_boxes=Boxes(placed), pred_classes=merged.pred_classes)


class TestTimeAugmentation(nn.Module):
    """A model that looks at each image several times; called as the model itself, for inference alone.

    One view gives what the model gives of it, bit for bit. The features of all views of an image are
    kept until its masks are done: at 400 to 1,200 pixels, mirrored too, 2 GB for an FPN.

    Args:
        model: its weights and its settings are used as they are.
        min_sizes: pixels of the image's shorter side, one view each; 0 leaves the image as it is.
        max_size: pixels that the longer side may have at most.
        flip: each view also mirrored.
        nms_threshold: of two boxes of a class with a higher IoU (a fraction) the less certain one goes.
        max_detections: boxes kept of an image.
        flip_indices: for each keypoint the one whose place it takes in a mirror; needed for keypoints
            with ``flip``.

    Raises:
        ConfigError: no view, a size that cannot be, a model of another architecture, or keypoints of
            which nobody knows what a mirror does to them.
    """

    __test__ = False  # no test, whatever pytest thinks of the name

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        min_sizes: Sequence[int],
        max_size: int,
        flip: bool,
        nms_threshold: float,
        max_detections: int,
        flip_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_views(min_sizes, max_size)
        if not isinstance(model, MaskRCNN):
            raise ConfigError(
                "TEST.AUG.ENABLED True needs MODEL.META_ARCHITECTURE 'MaskRCNN', not "
                f"{type(model).__name__!r}; weights fit both."
            )
        if flip and flip_indices is None and getattr(model.roi_heads, "keypoint_on", False):
            raise ConfigError(
                "TEST.AUG.FLIP True needs to know which keypoints change places in a mirror; give the "
                "data names and flip pairs (INPUT.KEYPOINT_FLIP_PAIRS), or set TEST.AUG.FLIP False."
            )
        self.model = model
        self.views = [
            View(size, max_size, mirror)
            for size in min_sizes
            for mirror in ((False, True) if flip else (False,))
        ]
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.flip_indices = None if flip_indices is None else list(flip_indices)
        self.train(model.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module, dataset: str) -> dict[str, Any]:
        """Read ``TEST.AUG`` and what merges boxes; ``dataset`` knows its keypoints."""
        aug = cfg.TEST.AUG
        return {
            "model": model,
            "min_sizes": aug.MIN_SIZES,
            "max_size": aug.MAX_SIZE,
            "flip": aug.FLIP,
            "nms_threshold": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "flip_indices": flip_indices_of(dataset) if cfg.MODEL.KEYPOINT_ON else None,
        }

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect objects.

        Args:
            batched_inputs: one dict per image: ``image``, (C, height, width) uint8 at the size of its file;
                ``height`` and ``width``, H and W, if results are wanted in another; ``proposals`` where the
                model has no proposal generator.

        Returns:
            As the model: for each image ``{"instances": Instances}``.
        """
        return [self._detect(given) for given in batched_inputs]

    def _detect(self, given: dict[str, Any]) -> dict[str, Any]:
        height, width = given["image"].shape[1:]
        size = given.get("height", height), given.get("width", width)
        seen = [self._look(view, given) for view in self.views]
        merged = self._merge([one.brought_back(i, size) for i, one in enumerate(seen)])
        laid = [one.laid_in(i, merged) for i, one in enumerate(seen)]
        outputs = [self._branches(one, boxes) for one, boxes in zip(seen, laid, strict=True)]

        found = Instances(size, pred_boxes=merged.pred_boxes, scores=merged.scores)
        found.pred_classes = merged.pred_classes
        if outputs[0].has("pred_masks"):
            found.pred_masks = self._mean("pred_masks", seen, outputs)
        if outputs[0].has("pred_keypoint_heatmaps"):
            heatmaps = self._mean("pred_keypoint_heatmaps", seen, outputs)
            found.pred_keypoints = self._keypoints(heatmaps, seen, laid, size)
            found.pred_keypoint_heatmaps = heatmaps
        return self.model.postprocess(found, given)

    def _look(self, view: View, given: dict[str, Any]) -> Seen:
        """Search one view for boxes."""
        model = self.model
        inputs = view.of(given)
        with model.autocast(), boxes_only(model.roi_heads):
            images = model.preprocess_image([inputs])
            features = model.backbone(images.tensor)
            if model.proposal_generator is None:
                proposals = [inputs["proposals"].to(model.device)]
            else:
                proposals, _ = model.proposal_generator(images, features, None)
            [found], _ = model.roi_heads(images, features, proposals, None)
        return Seen(images.image_sizes[0], view.flip, features, in_float32(found))

    def _merge(self, found: list[Instances]) -> Instances:
        """Join the boxes of all views and suppress those that say the same; best first."""
        if len(found) == 1:
            return found[0]
        merged = Instances.cat(found)
        kept = batched_nms(
            merged.pred_boxes.tensor, merged.scores, merged.pred_classes, self.nms_threshold
        )
        return merged[kept[: self.max_detections]]

    def _branches(self, seen: Seen, boxes: Instances) -> Instances:
        """Add masks and keypoints of one view to given boxes."""
        with self.model.autocast():
            [output] = self.model.roi_heads.forward_with_given_boxes(seen.features, [boxes])
        return in_float32(output)

    def _mean(self, name: str, seen: list[Seen], outputs: list[Instances]) -> torch.Tensor:
        """Average a field over the views, all as if not mirrored.

        Args:
            name: ``pred_masks``, (R, 1, m, m), or ``pred_keypoint_heatmaps``, (R, K, S, S).
            seen: the views.
            outputs: of each view.
        """
        maps = []
        for one, output in zip(seen, outputs, strict=True):
            value = output.get(name)
            if one.flip:
                value = value.flip(dims=[3])
                if name == "pred_keypoint_heatmaps":
                    value = value[:, self.flip_indices]
            maps.append(value)
        # Not stacked: the memory layout, on which the last bit of a keypoint's score depends, stays.
        return sum(maps[1:], maps[0]) / len(maps)

    def _keypoints(
        self, heatmaps: torch.Tensor, seen: list[Seen], laid: list[Instances], size: tuple[int, int]
    ) -> torch.Tensor:
        """Read keypoints off mean heatmaps where pixels are finest: in the largest view that is not mirrored.

        Returns:
            (R, K, 3): x, y in pixels of the image of ``size`` H, W; score.
        """
        upright = [i for i, one in enumerate(seen) if not one.flip]
        largest = max(upright, key=lambda i: seen[i].size)
        height, width = seen[largest].size
        points = predict_keypoints(heatmaps, laid[largest].pred_boxes.tensor)
        return points * points.new_tensor([size[1] / width, size[0] / height, 1.0])


def check_views(min_sizes: Sequence[int], max_size: int) -> None:
    """Raise ConfigError unless ``TEST.AUG.MIN_SIZES`` and ``TEST.AUG.MAX_SIZE`` make views."""
    if not min_sizes:
        raise ConfigError("TEST.AUG.MIN_SIZES names no size; give at least one, as (800,).")
    wrong = [size for size in min_sizes if size < 0]
    if wrong:
        raise ConfigError(
            f"TEST.AUG.MIN_SIZES has {wrong[0]}; a size in pixels is above 0, or 0 for the image's own."
        )
    if max_size < 1:
        raise ConfigError(f"TEST.AUG.MAX_SIZE is {max_size}; a size in pixels is above 0.")


def flip_indices_of(dataset: str) -> list[int] | None:
    """Return for each keypoint of a data set the one whose place it takes in a mirror; None if unknown."""
    try:
        return [int(index) for index in create_keypoint_hflip_indices(dataset)]
    except AttributeError:
        return None


@contextmanager
def boxes_only(roi_heads: nn.Module) -> Iterator[None]:
    """Run no branch for masks or keypoints meanwhile."""
    before = {name: getattr(roi_heads, name) for name in BRANCHES if hasattr(roi_heads, name)}
    try:
        for name in before:
            setattr(roi_heads, name, False)
        yield
    finally:
        for name, value in before.items():
            setattr(roi_heads, name, value)


def _moved(proposals: Instances, moves: T.TransformList, size: tuple[int, int]) -> Instances:
    """Return proposals as Detectron2's mapper makes them for an image moved like this, now of ``size``."""
    boxes = Boxes(torch.from_numpy(moves.apply_box(proposals.proposal_boxes.tensor.cpu().numpy())))
    boxes.clip(size)
    moved = Instances(size, **proposals.get_fields())
    moved.proposal_boxes = boxes
    return moved[boxes.nonempty()]
