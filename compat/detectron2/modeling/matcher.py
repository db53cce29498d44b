"""Which ground truth each prediction belongs to.

Shapes: M ground-truth elements, N predictions (anchors or proposals).
"""

import itertools

import torch

from detectron2._absent import module_getattr


class Matcher:
    """Gives every prediction its best ground truth, and a label by how good that match is.

    ``Matcher([0.3, 0.7], [0, -1, 1])`` labels 0 (negative) a quality below 0.3, -1 (ignored) one
    from 0.3 to below 0.7, and 1 (positive) one from 0.7 on.

    Args:
        thresholds: positive and ascending.
        labels: of the intervals between them, so one more; each -1, 0 or 1.
        allow_low_quality_matches: label 1 also the best predictions (all in a tie) of each ground
            truth, whatever their quality: case (i) of Sec. 3.1.2 in Faster R-CNN (arXiv
            1506.01497).

    Raises:
        ValueError: thresholds or labels break these rules.
    """

    def __init__(
        self, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool = False
    ):
        ascending = all(low <= high for low, high in itertools.pairwise([0, *thresholds]))
        if not thresholds or thresholds[0] <= 0 or not ascending:
            raise ValueError(f"matcher thresholds {thresholds} are not positive and ascending")
        if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
            needed = len(thresholds) + 1
            raise ValueError(f"matcher labels {labels} are not {needed} values out of -1, 0, 1")
        self.thresholds = list(thresholds)
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Match every prediction.

        Args:
            match_quality_matrix: (M, N), not negative, for example IoU.

        Returns:
            Index of the best ground truth (N,) int64, and label (N,) int8. Without ground truth the
            index is 0, which stands for nothing, and the label that of the lowest quality.
        """
        num_gt, num_predictions = match_quality_matrix.shape
        if num_gt == 0 or num_predictions == 0:
            matches = match_quality_matrix.new_zeros(num_predictions, dtype=torch.int64)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        assert (match_quality_matrix >= 0).all(), "a match quality is negative or NaN"
        quality, matches = match_quality_matrix.max(dim=0)
        interval = torch.bucketize(quality, quality.new_tensor(self.thresholds), right=True)
        labels = interval.new_tensor(self.labels, dtype=torch.int8)[interval]
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, match_quality_matrix)
        return matches, labels

    def set_low_quality_matches_(
        self, match_labels: torch.Tensor, match_quality_matrix: torch.Tensor
    ) -> None:
        """Set to 1, in place, the labels (N,) of the best predictions of every ground truth.

        The index of such a prediction stays that of its own best ground truth, which may be another
        one.
        """
        best = match_quality_matrix.amax(dim=1, keepdim=True)
        match_labels[(match_quality_matrix == best).any(dim=0)] = 1


__getattr__ = module_getattr(__name__)
