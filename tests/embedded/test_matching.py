"""Matching of boxes with ground truth, and sampling of the matches, worked out by hand."""

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.sampling import subsample_labels


def test_matcher_truth_table():
    quality = torch.tensor(
        # below, at and above each threshold, and one prediction that overlaps nothing
        [[0.29, 0.3, 0.69, 0.0, 0.1, 0.2], [0.1, 0.1, 0.1, 0.7, 0.71, 0.2]]
    )
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1])(quality)
    assert matches.tolist()[:5] == [0, 0, 0, 1, 1]
    assert labels.tolist() == [0, -1, -1, 1, 1, 0]
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_low_quality_matches_include_ties_and_keep_the_better_index():
    # The first ground truth is best covered by predictions 0 and 2, in a tie; 2 covers the second better.
    quality = torch.tensor([[0.4, 0.1, 0.4], [0.0, 0.9, 0.5]])
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(quality)
    assert labels.tolist() == [1, 1, 1]
    assert matches.tolist() == [0, 1, 1]


@pytest.mark.parametrize("low_quality", [False, True])
def test_matcher_without_ground_truth(low_quality):
    matcher = Matcher([0.5], [-1, 1], allow_low_quality_matches=low_quality)
    matches, labels = matcher(torch.zeros(0, 3))
    assert matches.tolist() == [0, 0, 0]
    assert labels.tolist() == [-1, -1, -1]
    assert [len(x) for x in matcher(torch.zeros(2, 0))] == [0, 0]


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("thresholds", "labels", "message"),
    [
        ([0.7, 0.3], [0, -1, 1], r"\[0.7, 0.3\] are not positive and ascending"),
        ([0.0], [0, 1], "not positive"),
        ([0.5], [0, -1, 1], "are not 2 values out of -1, 0, 1"),
        ([0.5], [0, 2], "are not 2 values"),
    ],
)
def test_wrong_matcher(thresholds, labels, message):
    with pytest.raises(ValueError, match=message):
        Matcher(thresholds, labels)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (100, 100, (4, 12)),  # a quarter of 16, then filled up
        (2, 100, (2, 14)),  # few positives: more negatives
        (100, 3, (4, 3)),  # few negatives: not more positives
        (0, 0, (0, 0)),
    ],
)
def test_sample_counts(positives, negatives, expected):
    labels = torch.tensor([2] * positives + [9] * negatives + [-1] * 50)
    labels = labels[torch.randperm(len(labels))]
    positive, negative = subsample_labels(labels, 16, 0.25, bg_label=9)
    assert (len(positive), len(negative)) == expected
    assert (labels[positive] == 2).all()
    assert (labels[negative] == 9).all()
    assert len(set(positive.tolist())) == len(positive)


def test_sampling_is_uniform():
    counts = torch.zeros(8)
    for _ in range(400):
        counts[subsample_labels(torch.ones(8), 2, 1.0, bg_label=0)[0]] += 1
    # 100 expected for each, standard deviation 8.7.
    assert (counts - 100).abs().max() < 45
