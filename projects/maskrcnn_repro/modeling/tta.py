"""Test-time augmentation over scales and horizontal flips (Appendix B).

The model detects boxes in each view; they are mapped to the image and merged by non-maximum suppression. The
merged boxes are mapped into every view, where the model predicts masks and keypoint heatmaps for them, which
are averaged. The paper gives only the scales and the flips; suppressing boxes in each view before they are
merged is Detectron2's method.

Shape legend: H, W height and width of the results, h, w those of a view, all in pixels; R boxes after
merging, m side of a mask and S of a heatmap in cells, K keypoints. Boxes are xyxy.
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

BRANCHES = ("mask_on", "keypoint_on", "densepose_on")
"""Attributes of RoI heads that switch their branches on, with Detectron2's names."""


@dataclass(frozen=True)
class View:
    """A resized and possibly mirrored version of an image.

    Args:
        min_size: pixels of the shorter side; 0 leaves the image as it is.
        max_size: limit of the longer side, pixels.
        flip: whether to mirror it left to right.
    """

    min_size: int
    max_size: int
    flip: bool = False

    def apply(self, model_input: dict[str, Any]) -> dict[str, Any]:
        """Return the model's input for this view of an image.

        Args:
            model_input: ``image``, (C, height, width) uint8, and ``proposals`` if the model takes stored ones.
        """
        picture = model_input["image"].permute(1, 2, 0).cpu().numpy()
        # With a size of 0 it leaves the picture as it is.
        resize = T.ResizeShortestEdge(self.min_size, self.max_size, "choice").get_transform(picture)
        picture, steps = resize.apply_image(picture), [resize]
        if self.flip:
            steps.append(T.HFlipTransform(picture.shape[1]))
            picture = steps[-1].apply_image(picture)
        # Contiguous: mirroring gives negative strides, which torch does not support.
        view = {"image": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))}
        if "proposals" in model_input:
            transforms = T.TransformList(steps)
            view["proposals"] = _transform_proposals(
                model_input["proposals"], transforms, picture.shape[:2]
            )
        return view


@dataclass
class ViewDetections:
    """Features of a view and the boxes detected in it."""

    size: tuple[int, int]
    """h, w."""
    flip: bool
    features: dict[str, torch.Tensor]
    instances: Instances
    """``pred_boxes``, ``scores`` and ``pred_classes`` in the view, float32."""

    def mirror(self, boxes: torch.Tensor) -> torch.Tensor:
        """Return boxes, (R, 4), mirrored left to right if this view is mirrored, else a copy."""
        if not self.flip:
            return boxes.clone()
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        return torch.stack([self.size[1] - x2, y1, self.size[1] - x1, y2], dim=1)

    def map_to_image(self, number: int, size: tuple[int, int]) -> Instances:
        """Return the detected boxes in pixels of the image of ``size`` H, W.

        The field ``view`` is this view's number, ``row`` the index of the box in this view.
        """
        boxes = Boxes(self.mirror(self.instances.pred_boxes.tensor))
        mapped = Instances(self.size, pred_boxes=boxes)
        mapped.scores, mapped.pred_classes = self.instances.scores, self.instances.pred_classes
        mapped.row = torch.arange(len(mapped), device=mapped.scores.device)
        mapped.view = torch.full_like(mapped.row, number)
        # Scales and clips the boxes, and drops empty ones.
        return detector_postprocess(mapped, *size)

    def map_to_view(self, number: int, merged: Instances) -> Instances:
        """Map merged boxes into this view; boxes detected in it keep their original coordinates."""
        (height, width), (rows, columns) = merged.image_size, self.size
        boxes = merged.pred_boxes.tensor
        scale = boxes.new_tensor([columns / width, rows / height] * 2)
        mapped = self.mirror(boxes * scale)
        # Scaling to the image and back would change the last bits.
        detected_here = merged.view == number
        mapped[detected_here] = self.instances.pred_boxes.tensor[merged.row[detected_here]]
        fields = {"scores": merged.scores, "pred_classes": merged.pred_classes}
        return Instances(self.size, pred_boxes=Boxes(mapped), **fields)


class TestTimeAugmentation(nn.Module):
    """A model with test-time augmentation: detects in several views of each image; for inference only.

    Called like the model. With one view the results are the model's own, bit for bit. The features of all
    views of an image stay in memory until its masks are predicted: with sides of 400 to 1,200 pixels and
    flips, 2 GB for an FPN.

    RoI heads with fields of their own have a method ``merge_views(outputs, flips)``: from the detections of each view, and
    whether it is mirrored, to the fields by name. A model with more results has ``add_views(result, views)``, which adds them to
    the result of an image, given each :class:`ViewDetections`.

    Args:
        model: with its weights and settings, which are not changed.
        min_sizes: pixels of the image's shorter side, one view each; 0 leaves the image as it is.
        max_size: limit of the longer side, pixels.
        flip: add a mirrored copy of each view.
        nms_threshold: IoU in [0, 1]; of two boxes of a class with a higher one, that of lower score goes.
        max_detections: limit of boxes per image.
        flip_indices: for each keypoint, the index of its mirror image (a left elbow's is the right elbow);
            needed for keypoints with ``flip``.

    Raises:
        ConfigError: no view, an impossible size, a model of another architecture, or flips of keypoints
            without ``flip_indices``.
    """

    __test__ = False  # the name begins with Test, but pytest must not collect it

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
        # A new module says that it trains, whatever its model does.
        self.train(model.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module, dataset: str) -> dict[str, Any]:
        """Read ``TEST.AUG`` and the thresholds of detection; ``dataset`` names the data set of the keypoints."""
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
        """Detect the objects of each image.

        Args:
            batched_inputs: one dict per image: ``image``, (C, height, width) uint8 at the size of its file;
                ``height`` and ``width``, H and W, if results shall have another size; ``proposals`` if the
                model has no proposal generator.

        Returns:
            ``{"instances": Instances}`` for each image, as from the model.
        """
        return [self._detect(model_input) for model_input in batched_inputs]

    def _detect(self, model_input: dict[str, Any]) -> dict[str, Any]:
        height, width = model_input["image"].shape[1:]
        size = model_input.get("height", height), model_input.get("width", width)
        views = [self._detect_boxes(view, model_input) for view in self.views]
        merged = self._merge([view.map_to_image(i, size) for i, view in enumerate(views)])
        boxes = [view.map_to_view(i, merged) for i, view in enumerate(views)]
        outputs = [self._run_branches(*pair) for pair in zip(views, boxes, strict=True)]

        instances = Instances(size, pred_boxes=merged.pred_boxes, scores=merged.scores)
        instances.pred_classes = merged.pred_classes
        for name in ("pred_masks", "mask_scores"):
            if outputs[0].has(name):
                instances.set(name, self._mean(name, views, outputs))
        if outputs[0].has("pred_keypoint_heatmaps"):
            heatmaps = self._mean("pred_keypoint_heatmaps", views, outputs)
            instances.pred_keypoints = self._keypoints(heatmaps, views, boxes, size)
            instances.pred_keypoint_heatmaps = heatmaps
        heads = self.model.roi_heads
        if hasattr(heads, "merge_views"):
            fields = heads.merge_views(outputs, [view.flip for view in views])
            for name, value in fields.items():
                instances.set(name, value)
        result = self.model.postprocess(instances, model_input)
        if hasattr(self.model, "add_views"):
            self.model.add_views(result, views)
        return result

    def _detect_boxes(self, view: View, model_input: dict[str, Any]) -> ViewDetections:
        model = self.model
        inputs = view.apply(model_input)
        # Masks and keypoints wait for the merged boxes: those of a view's own boxes would be thrown away.
        with model.autocast(), boxes_only(model.roi_heads):
            images = model.preprocess_image([inputs])
            features = model.backbone(images.tensor)
            if model.proposal_generator is None:
                proposals = [inputs["proposals"].to(model.device)]
            else:
                proposals, _ = model.proposal_generator(images, features, None)
            [instances], _ = model.roi_heads(images, features, proposals, None)
        return ViewDetections(images.image_sizes[0], view.flip, features, in_float32(instances))

    def _merge(self, detections: list[Instances]) -> Instances:
        """Merge the boxes of all views by non-maximum suppression, highest score first."""
        # The model has suppressed them already: with one view its results stay as they are.
        if len(detections) == 1:
            return detections[0]
        # The boxes of a view have had its own suppression; the released code pools all views before its only one. The
        # paper does not say (DEVIATIONS.md).
        merged = Instances.cat(detections)
        order = batched_nms(
            merged.pred_boxes.tensor, merged.scores, merged.pred_classes, self.nms_threshold
        )
        return merged[order[: self.max_detections]]

    def _run_branches(self, view: ViewDetections, boxes: Instances) -> Instances:
        """Predict masks, keypoint heatmaps and further fields in one view for the merged boxes."""
        with self.model.autocast():
            [output] = self.model.roi_heads.forward_with_given_boxes(view.features, [boxes])
        return in_float32(output)

    def _mean(
        self, name: str, views: list[ViewDetections], outputs: list[Instances]
    ) -> torch.Tensor:
        """Average a field over the views, after mirrored views are mirrored back.

        Args:
            name: ``pred_masks``, (R, 1, m, m), ``mask_scores``, (R,), or ``pred_keypoint_heatmaps``, (R, K, S, S).
            views: the views.
            outputs: of each view.
        """
        maps = []
        for view, output in zip(views, outputs, strict=True):
            value = output.get(name)
            if view.flip and name != "mask_scores":
                value = value.flip(dims=[3])
                if name == "pred_keypoint_heatmaps":
                    # What a mirror shows as the left elbow is the right one.
                    value = value[:, self.flip_indices]
            maps.append(value)
        # A sum of tensors keeps their memory layout, a mean of stacked ones does not, and the last bit of a
        # keypoint's score depends on it.
        return sum(maps[1:], maps[0]) / len(maps)

    def _keypoints(
        self,
        heatmaps: torch.Tensor,
        views: list[ViewDetections],
        boxes: list[Instances],
        size: tuple[int, int],
    ) -> torch.Tensor:
        """Decode keypoints from the mean heatmaps in the largest view that is not mirrored.

        Returns:
            (R, K, 3): x, y in pixels of the image of ``size`` H, W; score.
        """
        upright = [i for i, view in enumerate(views) if not view.flip]
        largest = max(upright, key=lambda i: views[i].size)
        height, width = views[largest].size
        points = predict_keypoints(heatmaps, boxes[largest].pred_boxes.tensor)
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
    """Return the index of each keypoint's mirror image, or None if the data set does not define them."""
    try:
        return [int(index) for index in create_keypoint_hflip_indices(dataset)]
    except AttributeError:  # from the metadata, which lack names or flip pairs
        return None


@contextmanager
def boxes_only(roi_heads: nn.Module) -> Iterator[None]:
    """Switch off the branches of RoI heads beside the boxes within the block."""
    before = {name: getattr(roi_heads, name) for name in BRANCHES if hasattr(roi_heads, name)}
    try:
        for name in before:
            setattr(roi_heads, name, False)
        yield
    finally:
        for name, value in before.items():
            setattr(roi_heads, name, value)


def _transform_proposals(
    proposals: Instances, transforms: T.TransformList, size: tuple[int, int]
) -> Instances:
    """Return proposals transformed, clipped to ``size``, without empty ones, as in Detectron2's mapper."""
    boxes = Boxes(
        torch.from_numpy(transforms.apply_box(proposals.proposal_boxes.tensor.cpu().numpy()))
    )
    boxes.clip(size)
    transformed = Instances(size, **proposals.get_fields())
    transformed.proposal_boxes = boxes
    return transformed[boxes.nonempty()]
