"""The tensors of torchvision's Faster, Mask and Keypoint R-CNN on FPN under Detectron2's names, and back.

Letters: K classes of the model, C = K + 1 + U outputs of the class layer: torchvision's label 0 is the background, U
labels are unused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from maskrcnn_repro.errors import CheckpointError, listing

import torch
from detectron2.data import MetadataCatalog
from torch import Tensor

Weights = Mapping[str, Tensor]
COCO = 91
"""Outputs of the class layer of torchvision's models of COCO: one for each category id up to 90, some of them unused."""
_PARTS = (
    ("rpn.head.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
    ("rpn.head.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
    ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.cls_score"),
    ("roi_heads.box_predictor.bbox_pred", "roi_heads.box_predictor.bbox_pred"),
    ("roi_heads.mask_predictor.conv5_mask", "roi_heads.mask_head.deconv"),
    ("roi_heads.mask_predictor.mask_fcn_logits", "roi_heads.mask_head.predictor"),
    ("roi_heads.keypoint_predictor.kps_score_lowres", "roi_heads.keypoint_head.score_lowres"),
)
_SCORES = "roi_heads.box_predictor.cls_score."
_ROWS = {"roi_heads.box_predictor.bbox_pred.": 4, "roi_heads.mask_head.predictor.": 1}
"""Layers without a background in Detectron2, by the beginnings of their tensors' names: rows for each class."""


@dataclass(frozen=True)
class Classes:
    """Which of torchvision's labels are classes of the model, in the model's order, and which are unused."""

    labels: Sequence[int]
    unused: Sequence[int] = ()

    @classmethod
    def of(cls, outputs: int, *, named: bool) -> Classes:
        """Return the classes of a class layer with C ``outputs``, in COCO's order if it has COCO's number.

        Args:
            outputs: C.
            named: whether every label but the background's has a name of its own.
        """
        if outputs != COCO or named:
            return cls(range(1, outputs))
        ids = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id
        return cls(sorted(ids, key=ids.__getitem__), [i for i in range(1, COCO) if i not in ids])

    @property
    def all_labels(self) -> list[int]:
        """C labels in the order of the model's class layer: classes, background, unused ones."""
        return [*self.labels, 0, *self.unused]


def to_detectron2(
    weights: Weights, classes: Classes
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a detector's tensors under Detectron2's names, and the rows of its last layers that have no place there.

    Args:
        weights: a ``state_dict`` of torchvision, of today or of the spelling before version 0.13.
        classes: of the model.

    Raises:
        CheckpointError: a tensor has a name that torchvision's R-CNNs on FPN of a ResNet do not have.
    """
    deep = "roi_heads.box_head.5.weight" in weights
    names = dict(_pairs(deep=deep)) | dict(_old_pairs())
    renamed, rest = {}, {}
    for name, new in _rename(weights, names).items():
        tensor = weights[name]
        if new.startswith(_SCORES):
            tensor = tensor[classes.all_labels]
        for begin, rows in _ROWS.items():
            if new.startswith(begin):
                by_label = tensor.unflatten(0, (-1, rows))
                rest[new] = by_label[[0, *classes.unused]].flatten(0, 1)
                tensor = by_label[list(classes.labels)].flatten(0, 1)
        renamed[new] = tensor
    return renamed, rest


def to_torchvision(weights: Weights, classes: Classes, rest: Weights) -> dict[str, Tensor]:
    """Return the inverse of :func:`to_detectron2`; rows that ``rest`` lacks, which no detection shows, are zero.

    Raises:
        CheckpointError: a tensor has a name that torchvision has no place for.
    """
    deep = "roi_heads.box_head.conv1.weight" in weights
    names = {ours: theirs for theirs, ours in _pairs(deep=deep)}
    back = {}
    for name, old in _rename(weights, names).items():
        tensor = weights[name]
        if name.startswith(_SCORES):
            tensor = _placed(tensor, classes.all_labels)
        for begin, rows in _ROWS.items():
            if name.startswith(begin):
                by_class = tensor.unflatten(0, (-1, rows))
                others = [0, *classes.unused]
                lacking = by_class.new_zeros(len(others), *by_class.shape[1:])
                more = rest[name].view_as(lacking) if name in rest else lacking
                order = [*classes.labels, *others]
                tensor = _placed(torch.cat((by_class, more)), order).flatten(0, 1)
        back[old] = tensor
    return back


def _placed(rows: Tensor, places: Sequence[int]) -> Tensor:
    placed = torch.empty_like(rows)
    placed[list(places)] = rows
    return placed


def _rename(weights: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the new name of each tensor, by its old one."""
    renamed, unknown = {}, []
    for name in weights:
        module, _, leaf = name.rpartition(".")
        if module in names:
            renamed[name] = f"{names[module]}.{leaf}"
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} of {len(unknown) + len(renamed)} tensors belong to no Faster, Mask or Keypoint R-CNN on FPN "
            f"of a ResNet: {listing(unknown, 3)}."
        )
    return renamed


def _pairs(*, deep: bool) -> Iterator[tuple[str, str]]:
    """Yield the names of each layer, torchvision's and Detectron2's.

    Args:
        deep: of version 2, whose heads have more convolutions, with batch norm.
    """
    yield from _PARTS
    yield from _resnet_pairs("backbone.body.", "backbone.bottom_up.")
    heads = [(f"roi_heads.mask_head.{i}", f"roi_heads.mask_head.mask_fcn{i + 1}") for i in range(4)]
    for level in range(4):
        heads += [
            (f"backbone.fpn.inner_blocks.{level}", f"backbone.fpn_lateral{level + 2}"),
            (f"backbone.fpn.layer_blocks.{level}", f"backbone.fpn_output{level + 2}"),
        ]
    if deep:
        heads += [(f"roi_heads.box_head.{i}", f"roi_heads.box_head.conv{i + 1}") for i in range(4)]
        yield "roi_heads.box_head.5", "roi_heads.box_head.fc1"
        for i in range(2):
            yield f"rpn.head.conv.{i}.0", f"proposal_generator.rpn_head.conv.conv{i}"
    else:
        for i in (1, 2):
            yield f"roi_heads.box_head.fc{i + 5}", f"roi_heads.box_head.fc{i}"
        yield "rpn.head.conv.0.0", "proposal_generator.rpn_head.conv"
    for theirs, ours in heads:
        yield f"{theirs}.0", ours
        yield f"{theirs}.1", f"{ours}.norm"
    for i in range(8):
        yield f"roi_heads.keypoint_head.{2 * i}", f"roi_heads.keypoint_head.conv_fcn{i + 1}"


def _resnet_pairs(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    """Yield the names of each layer of a ResNet of up to 152 layers, behind two prefixes."""
    yield f"{theirs}conv1", f"{ours}stem.conv1"
    yield f"{theirs}bn1", f"{ours}stem.conv1.norm"
    for stage in range(1, 5):
        for block in range(36):
            before, after = f"{theirs}layer{stage}.{block}.", f"{ours}res{stage + 1}.{block}."
            for conv in (1, 2, 3):
                yield f"{before}conv{conv}", f"{after}conv{conv}"
                yield f"{before}bn{conv}", f"{after}conv{conv}.norm"
            yield f"{before}downsample.0", f"{after}shortcut"
            yield f"{before}downsample.1", f"{after}shortcut.norm"


def _old_pairs() -> Iterator[tuple[str, str]]:
    """Yield the names of layers in files of torchvision before 0.13, and Detectron2's."""
    for level in range(4):
        yield f"backbone.fpn.inner_blocks.{level}", f"backbone.fpn_lateral{level + 2}"
        yield f"backbone.fpn.layer_blocks.{level}", f"backbone.fpn_output{level + 2}"
    for i in range(1, 5):
        yield f"roi_heads.mask_head.mask_fcn{i}", f"roi_heads.mask_head.mask_fcn{i}"
    yield "rpn.head.conv", "proposal_generator.rpn_head.conv"
