"""Region proposal network (Faster R-CNN, arXiv 1506.01497, Sec. 3.1; FPN, arXiv 1612.03144).

Shapes: N images, L feature maps, C channels, Hi x Wi cells and Ri = Hi * Wi * A anchors of the i-th
map, A anchors per cell, B = 4 numbers per box, R anchors of all maps. Boxes are xyxy in pixels of
the network's input. Labels of anchors: 1 object, 0 background, -1 not used.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry

from ..anchor_generator import build_anchor_generator
from ..box_regression import Box2BoxTransform, _dense_box_regression_loss
from ..matcher import Matcher
from ..sampling import subsample_labels
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import find_top_rpn_proposals

# Called with the config and the ShapeSpec of each feature map.
RPN_HEAD_REGISTRY = Registry("RPN_HEAD")


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build what ``MODEL.RPN.HEAD_NAME`` names, for these feature maps."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then one 1x1 convolution for scores and one for deltas; shared by all maps.

    Args:
        in_channels: C of every feature map.
        num_anchors: A.
        box_dim: B.
        conv_dims: output channels of each 3x3 convolution, -1 for as many as its input has.

    Raises:
        ValueError: channels that are neither positive nor -1.
    """

    @configurable
    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: list[int] = (-1,)
    ):
        super().__init__()
        hidden, width = {}, in_channels
        for i, dim in enumerate(conv_dims):
            if dim <= 0 and dim != -1:
                raise ValueError(f"MODEL.RPN.CONV_DIMS has {dim}; choose a positive number or -1")
            before, width = width, width if dim == -1 else dim
            hidden[f"conv{i}"] = Conv2d(before, width, 3, padding=1, activation=nn.ReLU())
        # Model-zoo checkpoints call an only convolution `conv`, without an index.
        self.conv = hidden["conv0"] if len(hidden) == 1 else nn.Sequential(OrderedDict(hidden))
        self.objectness_logits = nn.Conv2d(width, num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(width, num_anchors * box_dim, kernel_size=1)
        for conv in (*hidden.values(), self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Read ``MODEL.RPN.CONV_DIMS``; A and B come from the anchor generator."""
        generator = build_anchor_generator(cfg, input_shape)
        return {
            "in_channels": _only_value("channels", [shape.channels for shape in input_shape]),
            "num_anchors": _only_value("anchors per cell", generator.num_anchors),
            "box_dim": generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[torch.Tensor]):
        """Predict from L feature maps (N, C, Hi, Wi).

        Returns:
            L times logits (N, A, Hi, Wi), and L times deltas (N, A * B, Hi, Wi).
        """
        hidden = [self.conv(feature) for feature in features]
        return [self.objectness_logits(h) for h in hidden], [self.anchor_deltas(h) for h in hidden]


def _only_value(what: str, values: list[int]) -> int:
    if len(set(values)) != 1:
        raise ValueError(f"all feature maps share the RPN head, but their {what} are {values}")
    return values[0]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores and refines anchors, and proposes the best of them as objects.

    Args:
        in_features: names of the L feature maps.
        anchor_generator: from L feature maps to L Boxes.
        head: from L feature maps to logits and deltas, see :class:`StandardRPNHead`.
        box2box_transform: what the deltas mean.
        pre_nms_topk: boxes per feature map before NMS, in training and in testing.
        post_nms_topk: boxes per image after NMS, in training and in testing.
        nms_thresh: IoU above which the lower score is dropped.
        min_box_size: sides of proposals must be longer, in pixels.
        anchor_matcher: labels anchors by their IoU with the ground truth.
        batch_size_per_image: anchors that the losses look at, per image.
        positive_fraction: largest share of objects among them.
        anchor_boundary_thresh: anchors further outside their image, in pixels, are not trained;
            below 0 none is left out.
        loss_weight: factor of both losses, or of each by its name.
        box_reg_loss_type: ``smooth_l1``, ``giou``, ``diou`` or ``ciou``.
        smooth_l1_beta: where smooth L1 turns from square to linear; 0 for plain L1.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        anchor_generator: nn.Module,
        head: nn.Module,
        box2box_transform: Box2BoxTransform,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_matcher: Matcher,
        batch_size_per_image: int,
        positive_fraction: float,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ):
        super().__init__()
        self.in_features, self.anchor_generator, self.rpn_head = in_features, anchor_generator, head
        # What is proposed; pairs by `self.training`.
        self.pre_nms_topk = dict(zip((True, False), pre_nms_topk, strict=True))
        self.post_nms_topk = dict(zip((True, False), post_nms_topk, strict=True))
        self.nms_thresh, self.min_box_size = nms_thresh, float(min_box_size)
        # What is learned.
        self.anchor_matcher, self.box2box_transform = anchor_matcher, box2box_transform
        self.anchor_boundary_thresh = anchor_boundary_thresh
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        if not isinstance(loss_weight, dict):
            loss_weight = dict.fromkeys(("loss_rpn_cls", "loss_rpn_loc"), loss_weight)
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.RPN`` and ``MODEL.PROPOSAL_GENERATOR.MIN_SIZE``."""
        keys = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in keys.IN_FEATURES]
        loc_weight = keys.LOSS_WEIGHT * keys.BBOX_REG_LOSS_WEIGHT
        parts = {
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "head": build_rpn_head(cfg, shapes),
            "anchor_matcher": Matcher(keys.IOU_THRESHOLDS, keys.IOU_LABELS, True),
            "box2box_transform": Box2BoxTransform(weights=keys.BBOX_REG_WEIGHTS),
            "pre_nms_topk": (keys.PRE_NMS_TOPK_TRAIN, keys.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (keys.POST_NMS_TOPK_TRAIN, keys.POST_NMS_TOPK_TEST),
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": keys.BOUNDARY_THRESH,
            "loss_weight": {"loss_rpn_cls": keys.LOSS_WEIGHT, "loss_rpn_loc": loc_weight},
            "box_reg_loss_type": keys.BBOX_REG_LOSS_TYPE,
        }
        # And what is called like its key.
        same = ("in_features", "batch_size_per_image", "positive_fraction")
        return parts | {k: keys[k.upper()] for k in (*same, "nms_thresh", "smooth_l1_beta")}

    def forward(self, images: ImageList, features: dict[str, torch.Tensor], gt_instances=None):
        """Propose boxes, and in training compare the predictions with the ground truth.

        Args:
            images: N images; only their sizes are used.
            features: name -> (N, C, Hi, Wi).
            gt_instances: N times ``gt_boxes``; needed in training.

        Returns:
            Proposals as of :meth:`predict_proposals`, and losses as of :meth:`losses` (none in
            testing).

        Raises:
            ValueError: training without ground truth.
        """
        used = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(used)
        logits, deltas = self.rpn_head(used)
        # (N, A, Hi, Wi) -> (N, Ri), and (N, A * B, Hi, Wi) -> (N, Ri, B): the order of the anchors.
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
        box_dim = self.anchor_generator.box_dim
        deltas = [x.permute(0, 2, 3, 1).unflatten(3, (-1, box_dim)).flatten(1, 3) for x in deltas]
        losses = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("the RPN needs gt_instances in training")
            labels, boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, labels, deltas, boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]):
        """Decide what each anchor should learn.

        Args:
            anchors: L times Ri boxes.
            gt_instances: N times ``gt_boxes``.

        Returns:
            N times labels (R,) with at most ``batch_size_per_image`` that are not -1, and N times
            the box (R, 4) that each anchor should become; it means something for label 1 only.
        """
        all_anchors = Boxes.cat(anchors)
        all_labels, all_boxes = [], []
        for instances in gt_instances:
            boxes = instances.gt_boxes
            iou = retry_if_cuda_oom(pairwise_iou)(boxes, all_anchors)
            matched = retry_if_cuda_oom(self.anchor_matcher)(iou)
            # The retry may have ended on the CPU.
            matches, labels = (part.to(boxes.device) for part in matched)
            margin = self.anchor_boundary_thresh
            if margin >= 0:
                labels[~all_anchors.inside_box(instances.image_size, margin)] = -1
            counts = self.batch_size_per_image, self.positive_fraction
            positive, negative = subsample_labels(labels, *counts, bg_label=0)
            labels.fill_(-1)
            labels[positive], labels[negative] = 1, 0
            all_labels.append(labels)
            nothing = torch.zeros_like(all_anchors.tensor)
            all_boxes.append(boxes.tensor[matches] if len(boxes) else nothing)
        return all_labels, all_boxes

    def losses(self, anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes):
        """Compute both losses, each divided by N * ``batch_size_per_image``.

        Args:
            anchors: L times Ri boxes.
            pred_objectness_logits: L times (N, Ri).
            gt_labels: N times (R,), of :meth:`label_and_sample_anchors`.
            pred_anchor_deltas: L times (N, Ri, 4).
            gt_boxes: N times (R, 4), of :meth:`label_and_sample_anchors`.

        Returns:
            ``loss_rpn_cls`` (cross entropy of objectness) and ``loss_rpn_loc`` (boxes of label 1).
        """
        labels = torch.stack(gt_labels)
        positive, sampled = labels == 1, labels >= 0
        for sign, chosen in (("pos", positive), ("neg", labels == 0)):
            mean = chosen.sum().item() / len(labels)
            get_event_storage().put_scalar(f"rpn/num_{sign}_anchors", mean)
        kind = self.box_reg_loss_type, self.smooth_l1_beta
        box_loss = _dense_box_regression_loss(
            anchors, self.box2box_transform, pred_anchor_deltas, gt_boxes, positive, *kind
        )
        score_loss = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1)[sampled], labels[sampled].float(), reduction="sum"
        )
        # One divisor for both, where the paper has the number of cells for boxes (Sec. 3.1.2).
        divisor = self.batch_size_per_image * len(labels)
        losses = {"loss_rpn_cls": score_loss / divisor, "loss_rpn_loc": box_loss / divisor}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    @torch.no_grad()
    def predict_proposals(self, anchors, pred_objectness_logits, pred_anchor_deltas, image_sizes):
        """Turn predictions into proposals; no gradient flows through their boxes.

        Args:
            anchors: L times Ri boxes.
            pred_objectness_logits: L times (N, Ri).
            pred_anchor_deltas: L times (N, Ri, 4).
            image_sizes: (height, width) of the N images without their padding.

        Returns:
            N times ``proposal_boxes`` and ``objectness_logits``, best first.
        """
        boxes = self._decode_proposals(anchors, pred_anchor_deltas)
        counts = self.pre_nms_topk[self.training], self.post_nms_topk[self.training]
        limits = (self.nms_thresh, *counts, self.min_box_size, self.training)
        return find_top_rpn_proposals(boxes, pred_objectness_logits, image_sizes, *limits)

    def _decode_proposals(self, anchors: list[Boxes], pred_anchor_deltas: list[torch.Tensor]):
        """Apply the deltas to the anchors; L times (N, Ri, B)."""
        proposals = []
        for boxes, deltas in zip(anchors, pred_anchor_deltas, strict=True):
            sources = boxes.tensor.repeat(len(deltas), 1)
            decoded = self.box2box_transform.apply_deltas(deltas.flatten(0, 1), sources)
            proposals.append(decoded.view_as(deltas))
        return proposals


__getattr__ = module_getattr(__name__)
