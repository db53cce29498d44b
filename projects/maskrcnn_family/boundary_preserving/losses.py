"""What the boundary branch is trained to predict, and its loss (Boundary-preserving Mask R-CNN, Sec. 3).

Letters: R RoIs of the batch, m side of a mask in cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def boundary_targets(masks: Tensor) -> Tensor:
    """Return the cells of an object that touch what is not the object, or the edge of the RoI.

    They are where the Laplacian of a mask, -1 at the 8 neighbours and 8 in the middle, is positive.

    Args:
        masks: (R, m, m) bool.

    Returns:
        (R, m, m) bool.
    """
    outside = F.pad((~masks).float(), (1, 1, 1, 1), value=1.0)
    return masks & F.max_pool2d(outside, kernel_size=3, stride=1).bool()


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over RoIs of one minus the Dice coefficient, with 1 added above and below.

    Args:
        probabilities: (R, m, m) in [0, 1].
        targets: (R, m, m), 0 or 1.
    """
    common = (probabilities * targets).sum(dim=(1, 2))
    total = (probabilities + targets).sum(dim=(1, 2))
    return (1 - (2 * common + 1) / (total + 1)).mean()


def boundary_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the binary cross-entropy of boundaries plus their Dice loss, both with weight 1.

    Args:
        logits: (R, m, m) of the boundaries; R is at least 1.
        masks: (R, m, m) bool, of the objects.
    """
    targets = boundary_targets(masks).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, targets)
    return entropy + dice_loss(torch.sigmoid(logits), targets)
