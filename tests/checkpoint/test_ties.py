"""What explains a detection without partner: constructed ties, and differences that are none."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.ties import keypoint_gaps, unmatched
from tests.helpers.torchvision_models import Detections


def detections(*rows):
    """Detections of (x of a box of 100 x 100 pixels, score, label)."""
    boxes = torch.tensor([[x, 0.0, x + 100, 100.0] for x, _, _ in rows]).view(-1, 4)
    scores = torch.tensor([float(score) for _, score, _ in rows])
    return Detections(boxes, scores, torch.tensor([label for _, _, label in rows]))


def apart(iou):
    """How far two boxes of 100 pixels lie apart at an IoU: (100 - d) / (100 + d)."""
    return 100 * (1 - iou) / (1 + iou)


@pytest.mark.parametrize("rounding", [-5e-5, 5e-5])
def test_an_iou_at_the_threshold_is_a_tie(rounding):
    kept, other = (0, 0.9, 1), (apart(0.5 + rounding), 0.8, 1)
    assert unmatched(detections(kept, other), detections(kept)) == {1: "IoU"}
    assert unmatched(detections(kept), detections(kept, other)) == {}


def test_an_iou_beyond_the_rounding_is_none():
    kept = (0, 0.9, 1)
    for iou in (0.5 + 2e-4, 0.5 - 2e-4):
        both = detections(kept, (apart(iou), 0.8, 1))
        assert unmatched(both, detections(kept)) == {1: ""}


def test_nms_of_another_label_or_of_a_lower_score_explains_nothing():
    missing = (apart(0.5), 0.8, 1)
    for rival in ((0, 0.9, 2), (0, 0.7, 1)):
        assert unmatched(detections(rival, missing), detections(rival)) == {1: ""}


def test_equal_scores_may_swap_their_order_in_nms():
    first, second = (0, 0.8, 1), (20, 0.8 + 2e-6, 1)
    assert unmatched(detections(first), detections(second)) == {0: "order"}
    assert unmatched(detections(first), detections((20, 0.81, 1))) == {0: ""}


@pytest.mark.parametrize("changed", [(0.5, 0.8, 1), (0, 0.801, 1)])
def test_a_detection_that_differs_is_no_tie_whatever_lies_near(changed):
    rival = (apart(0.5), 0.9, 1)
    assert unmatched(detections(rival, (0, 0.8, 1)), detections(rival, changed)) == {1: ""}


def test_the_last_places_and_the_threshold_of_scores():
    full = [(300 * i, 0.9 - 0.1 * i, 1) for i in range(3)]
    last = (9000, 0.7 + 4e-6, 1)
    assert unmatched(detections(*full[:2], last), detections(*full), limit=3) == {2: "border"}
    assert unmatched(detections(*full[:2], last), detections(*full)) == {2: ""}
    lower = (9000, 0.71, 1)
    assert unmatched(detections(*full[:2], lower), detections(*full), limit=3) == {2: ""}
    assert unmatched(detections((0, 0.05 + 4e-6, 1)), detections()) == {0: "score threshold"}
    assert unmatched(detections((0, 0.0501, 1)), detections()) == {0: ""}


def test_a_keypoint_elsewhere_costs_what_its_heatmap_is_lower_there():
    theirs = detections((0, 0.9, 1), (300, 0.8, 1))
    # A cell has a pixel, so that resizing changes nothing.
    theirs.rois = torch.tensor([[0.0, 0, 4, 4], [300, 0, 304, 4]])
    theirs.heatmaps = torch.zeros(2, 1, 4, 4)
    theirs.heatmaps[:, 0, 1, 0], theirs.heatmaps[:, 0, 2, 3] = 2.0, torch.tensor([2.0, 1.5])
    theirs.keypoints = torch.tensor([[[0.5, 1.5]], [[300.5, 1.5]]])
    own = replace(theirs)
    assert keypoint_gaps(theirs, own) == []
    own.keypoints = torch.tensor([[[3.5, 2.5]], [[303.5, 2.5]]])
    assert keypoint_gaps(theirs, own) == [0.0, 0.5]
