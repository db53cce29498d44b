"""From the network's input size back to the size that the user asked for.

Letters: R detections, M mask side, J keypoints per instance, K classes. All coordinates in pixels.
"""

import torch
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.structures import Instances, ROIMasks


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scale boxes, masks and keypoints of one image to another image size.

    Args:
        results: in pixels of ``results.image_size``, with ``pred_boxes`` or ``proposal_boxes``;
            ``pred_masks`` (R, 1, M, M) are probabilities inside the box, ``pred_keypoints``
            (R, J, 3) are x, y, score. Left as it is.
        output_height: pixels.
        output_width: pixels.
        mask_threshold: a pixel with at least this probability belongs to the object.

    Returns:
        Detections of that size without those whose box is empty after clipping; ``pred_masks``
        are (R, output_height, output_width) bool.

    Raises:
        ValueError: ``results`` has no boxes.
    """
    height, width = results.image_size
    scale_x, scale_y = output_width / width, output_height / height
    scaled = Instances((output_height, output_width), **results.get_fields())
    kind = next((name for name in ("pred_boxes", "proposal_boxes") if scaled.has(name)), None)
    if kind is None:
        raise ValueError(f"No pred_boxes and no proposal_boxes in {list(results.get_fields())}")

    boxes = scaled.get(kind).clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip(scaled.image_size)
    scaled.set(kind, boxes)
    scaled = scaled[boxes.nonempty()]

    if scaled.has("pred_masks"):
        masks = scaled.pred_masks
        if not isinstance(masks, ROIMasks):
            masks = ROIMasks(masks[:, 0])
        bitmasks = masks.to_bitmasks(scaled.get(kind), output_height, output_width, mask_threshold)
        scaled.pred_masks = bitmasks.tensor
    if scaled.has("pred_keypoints"):
        points = scaled.pred_keypoints
        scaled.pred_keypoints = points * points.new_tensor([scale_x, scale_y, 1])
    return scaled


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """Cut the padding off a (K, H, W) score map and resize it, giving (K, height, width).

    Args:
        result: scores of the padded network input.
        img_size: height and width of the image in it.
        output_height: pixels.
        output_width: pixels.
    """
    height, width = img_size
    inner = result[None, :, :height, :width]
    return F.interpolate(inner, (output_height, output_width), mode="bilinear")[0]


__getattr__ = module_getattr(__name__)
