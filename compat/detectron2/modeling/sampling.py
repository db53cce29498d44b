"""Random choice of the positives and negatives that a loss looks at."""

import torch

from detectron2._absent import module_getattr


def subsample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw positives up to their share, then fill up with negatives.

    Args:
        labels: (N,) integers: ``bg_label`` is negative, -1 ignored, any other positive.
        num_samples: how many to draw in all; fewer if there are not enough.
        positive_fraction: largest share of positives in ``num_samples``.
        bg_label: label of the background.

    Returns:
        Indices of the positives and of the negatives drawn, int64, in random order.
    """
    negative = labels == bg_label
    positive = ~negative & (labels != -1)
    chosen_positive = _draw(positive, int(num_samples * positive_fraction))
    chosen_negative = _draw(negative, num_samples - len(chosen_positive))
    return chosen_positive, chosen_negative


def _draw(candidates: torch.Tensor, at_most: int) -> torch.Tensor:
    indices = candidates.nonzero().squeeze(1)
    # The whole permutation, though only its start is used: the random numbers of Detectron2.
    return indices[torch.randperm(len(indices), device=indices.device)[:at_most]]


__getattr__ = module_getattr(__name__)
