"""Classes and boxes of RoIs: the two output layers, their losses, detections from their output.

Letters: N images, R RoIs of the batch, K foreground classes (class K is the background), B = K
boxes per RoI, or 1 when box regression is class-agnostic. Boxes are xyxy in pixels of the network's
input; deltas are (dx, dy, dw, dh) as in ``Box2BoxTransform``.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from detectron2._absent import hint, module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, batched_nms, cross_entropy
from detectron2.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

_Predictions = tuple[torch.Tensor, torch.Tensor]


def fast_rcnn_inference(
    boxes, scores, image_shapes, score_thresh: float, nms_thresh: float, topk_per_image: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Apply :func:`fast_rcnn_inference_single_image` to every image.

    Returns:
        The detections of each image, and for each detection the RoI that it comes from.
    """
    limits = (score_thresh, nms_thresh, topk_per_image)
    images = zip(boxes, scores, image_shapes, strict=True)
    results = [fast_rcnn_inference_single_image(*image, *limits) for image in images]
    return [detections for detections, _ in results], [rows for _, rows in results]


def fast_rcnn_inference_single_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """Turn class scores and boxes into detections: threshold, NMS per class, best k.

    Args:
        boxes: (R, B * 4).
        scores: (R, K + 1) probabilities, background last. An RoI with any box or score that is
            not finite is left out.
        image_shape: height and width; boxes are clipped to it.
        score_thresh: a detection's score must be above it.
        nms_thresh: of two boxes of a class with a higher IoU the one with the lower score goes.
        topk_per_image: detections to keep, best first; negative for all.

    Returns:
        ``Instances`` with ``pred_boxes``, ``scores`` and ``pred_classes``, by falling score; and
        the row of ``boxes`` that each comes from.
    """
    finite = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    rows, classes = torch.where((scores[:, :-1] > score_thresh) & finite[:, None])
    candidates = Boxes(_box_of_class(boxes, classes, rows))
    candidates.clip(image_shape)
    detections = Instances(image_shape, pred_boxes=candidates, scores=scores[rows, classes])
    detections.pred_classes = classes
    best = batched_nms(candidates.tensor, detections.scores, classes, nms_thresh)
    best = best[: topk_per_image if topk_per_image >= 0 else None]
    return detections[best], rows[best]


def _box_of_class(boxes: torch.Tensor, classes: torch.Tensor, rows=None) -> torch.Tensor:
    """Return of each row of (R, B * 4), or of ``rows``, its class's box; if B = 1 the only one."""
    per_class = boxes.unflatten(1, (-1, 4))
    if rows is None:
        rows = torch.arange(len(boxes), device=boxes.device)
    return per_class[rows, classes.clamp(0, per_class.size(1) - 1)]


def _log_classification_stats(
    pred_logits: torch.Tensor, gt_classes: torch.Tensor, prefix: str = "fast_rcnn"
) -> None:
    total = len(gt_classes)
    if total == 0:
        return
    background = pred_logits.size(1) - 1
    predicted = pred_logits.argmax(dim=1)
    correct = predicted == gt_classes
    is_object = (gt_classes >= 0) & (gt_classes < background)
    missed = is_object & (predicted == background)
    counts = [correct.sum(), is_object.sum(), (correct & is_object).sum(), missed.sum()]
    # One transfer from the GPU instead of four.
    num_correct, num_objects, num_found, num_missed = torch.stack(counts).tolist()
    put = get_event_storage().put_scalar
    put(f"{prefix}/cls_accuracy", num_correct / total)
    if num_objects > 0:
        put(f"{prefix}/fg_cls_accuracy", num_found / num_objects)
        put(f"{prefix}/false_negative", num_missed / num_objects)


class FastRCNNOutputLayers(nn.Module):
    """One linear layer for the K + 1 class scores, one for the box deltas.

    Args:
        input_shape: of an RoI's features; a number is taken for the channels.
        box2box_transform: proposal and deltas to box, and back.
        num_classes: K.
        cls_agnostic_bbox_reg: one box per RoI instead of one per class.
        box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
        smooth_l1_beta: where "smooth_l1" turns from square to linear; 0 is plain L1.
        use_sigmoid_ce: K independent binary classifiers instead of a softmax with background.
        use_fed_loss: not in the subset.
        loss_weight: factor of both losses, or a dict of factors for "loss_cls", "loss_box_reg".
        test_topk_per_image: see :func:`fast_rcnn_inference_single_image`.
        test_score_thresh: see there.
        test_nms_thresh: see there.

    Raises:
        NotImplementedError: the federated loss is asked for.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        cls_agnostic_bbox_reg: bool = False,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        use_sigmoid_ce: bool = False,
        use_fed_loss: bool = False,
        loss_weight: float | dict[str, float] = 1.0,
        test_topk_per_image: int = 100,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
    ):
        super().__init__()
        if use_fed_loss:
            raise NotImplementedError(hint("The federated loss (MODEL.ROI_BOX_HEAD.USE_FED_LOSS)"))
        width = input_shape
        if isinstance(input_shape, ShapeSpec):
            width = input_shape.channels * (input_shape.height or 1) * (input_shape.width or 1)
        num_boxes = 1 if cls_agnostic_bbox_reg else num_classes
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, num_boxes * len(box2box_transform.weights))
        # Both layers exist before the first is filled: all draw from the same random numbers.
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

        if not isinstance(loss_weight, dict):
            loss_weight = dict.fromkeys(("loss_cls", "loss_box_reg"), loss_weight)
        self.loss_weight = loss_weight
        self.num_classes, self.box2box_transform = num_classes, box2box_transform
        self.use_sigmoid_ce = use_sigmoid_ce
        self.box_reg_loss_type, self.smooth_l1_beta = box_reg_loss_type, smooth_l1_beta
        self.test_score_thresh, self.test_nms_thresh = test_score_thresh, test_nms_thresh
        self.test_topk_per_image = test_topk_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        common, head = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        # What is called like its key.
        same = ("cls_agnostic_bbox_reg", "smooth_l1_beta", "use_fed_loss", "use_sigmoid_ce")
        return {name: head[name.upper()] for name in same} | {
            "num_classes": common.NUM_CLASSES,
            "test_score_thresh": common.SCORE_THRESH_TEST,
            "test_nms_thresh": common.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "input_shape": input_shape,
        }

    def forward(self, x: torch.Tensor) -> _Predictions:
        """Map RoI features (R, ...) to class logits (R, K + 1) and deltas (R, B * 4)."""
        flat = x.flatten(start_dim=1)
        return self.cls_score(flat), self.bbox_pred(flat)

    def losses(self, predictions: _Predictions, proposals: list[Instances]) -> dict:
        """Return the weighted ``loss_cls`` and ``loss_box_reg``.

        Args:
            predictions: what :meth:`forward` returned.
            proposals: per image, in the order of the predictions, with ``proposal_boxes``,
                ``gt_classes`` and, where the image has ground truth, ``gt_boxes``.
        """
        logits, deltas = predictions
        classes = [p.gt_classes for p in proposals]
        gt_classes = torch.cat(classes) if classes else deltas.new_zeros(0, dtype=torch.long)
        # Without ground truth all RoIs are background, whose boxes do not count.
        matched = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in proposals]
        gt_boxes = Boxes.cat(matched).to(deltas.device).tensor
        proposal_boxes = self._boxes_of(proposals, deltas.device)
        _log_classification_stats(logits, gt_classes)

        classify = self.sigmoid_cross_entropy_loss if self.use_sigmoid_ce else cross_entropy
        losses = {
            "loss_cls": classify(logits, gt_classes),
            "loss_box_reg": self.box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def sigmoid_cross_entropy_loss(self, pred_class_logits, gt_classes) -> torch.Tensor:
        """Binary cross-entropy of each foreground class, summed over classes, averaged over RoIs.

        Args:
            pred_class_logits: (R, K + 1); the background column has no part in it.
            gt_classes: (R,) in [0, K].
        """
        logits_RK = pred_class_logits[:, :-1]
        target_RK = F.one_hot(gt_classes, pred_class_logits.size(1))[:, :-1].to(logits_RK.dtype)
        total = F.binary_cross_entropy_with_logits(logits_RK, target_RK, reduction="sum")
        return total / max(len(gt_classes), 1)

    def box_reg_loss(self, proposal_boxes, gt_boxes, pred_deltas, gt_classes) -> torch.Tensor:
        """Regression loss of the foreground RoIs, divided by the number of all RoIs.

        Args:
            proposal_boxes: (R, 4).
            gt_boxes: (R, 4), the ground truth each RoI is matched with.
            pred_deltas: (R, B * 4).
            gt_classes: (R,); [0, K) is foreground.
        """
        foreground = torch.where((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        deltas = _box_of_class(pred_deltas, gt_classes[foreground], foreground)
        sources, targets = [proposal_boxes[foreground]], [gt_boxes[foreground]]
        kind = (self.box_reg_loss_type, self.smooth_l1_beta)
        total = _dense_box_regression_loss(
            sources, self.box2box_transform, [deltas[None]], targets, ..., *kind
        )
        # Not by the number of foreground RoIs: each foreground RoI has the same weight, whether
        # its batch has one or a hundred of them.
        return total / max(len(gt_classes), 1)

    def inference(self, predictions: _Predictions, proposals: list[Instances]):
        """Return detections and their RoIs, see :func:`fast_rcnn_inference`."""
        scored = [f(predictions, proposals) for f in (self.predict_boxes, self.predict_probs)]
        sizes = [p.image_size for p in proposals]
        limits = (self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image)
        return fast_rcnn_inference(*scored, sizes, *limits)

    def predict_boxes(self, predictions: _Predictions, proposals: list[Instances]):
        """Return the predicted boxes of each image, (R of the image, B * 4)."""
        deltas = predictions[1]
        sources = self._boxes_of(proposals, deltas.device)
        boxes = self.box2box_transform.apply_deltas(deltas, sources)
        return boxes.split([len(p) for p in proposals])

    def predict_boxes_for_gt_classes(self, predictions: _Predictions, proposals: list[Instances]):
        """Return of each RoI the predicted box of its true class, per image (R of the image, 4).

        A background RoI gets the box of some class.
        """
        boxes = self.predict_boxes(predictions, proposals)
        return tuple(map(_box_of_class, boxes, [p.gt_classes for p in proposals]))

    def predict_probs(self, predictions: _Predictions, proposals: list[Instances]):
        """Return the class probabilities of each image, (R of the image, K + 1)."""
        logits = predictions[0]
        probs = logits.sigmoid() if self.use_sigmoid_ce else logits.softmax(dim=-1)
        return probs.split([len(p) for p in proposals])

    @staticmethod
    def _boxes_of(proposals: list[Instances], device: torch.device) -> torch.Tensor:
        # `to`: of no image at all, the empty tensor would lie on the CPU.
        return Boxes.cat([p.proposal_boxes for p in proposals]).to(device).tensor


__getattr__ = module_getattr(__name__)
