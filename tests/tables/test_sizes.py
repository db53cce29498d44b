"""Sizes of models, worked out by hand; every experiment builds at full size."""

import functools

from maskrcnn_repro.config import load_config
from maskrcnn_repro.modeling.sizes import build_on_meta, roi_counts, size_of
from maskrcnn_repro.tables.paper.experiments import experiment_config, experiments, find_experiment

import pytest

from tests.helpers.paths import ROOT


@functools.cache
def size(name):
    return size_of(experiment_config(find_experiment(name)))


@pytest.mark.parametrize(
    "name", [experiment.id for experiment in experiments().values() if not experiment.evaluates]
)
def test_every_experiment_builds_at_full_size(name):
    model = build_on_meta(experiment_config(find_experiment(name)))
    assert all(value.is_meta for value in model.parameters())
    assert not model.training


def test_the_mask_heads_parameters_by_hand():
    # Four 3x3 convolutions of 256, a 2x2 deconvolution, a 1x1 convolution to 80 classes.
    fcn = 4 * (256 * 256 * 9 + 256) + (256 * 256 * 4 + 256) + (256 * 80 + 80)
    assert size("r50_fpn").parameters["roi_heads.mask_head"] == fcn == 2_643_280
    # 14x14x256 to 1024, 1024 to 1024, 1024 to 80 masks of 28x28.
    mlp = (14 * 14 * 256 + 1) * 1024 + 1025 * 1024 + 1025 * 80 * 28 * 28
    assert size("r50_fpn_mlp2").parameters["roi_heads.mask_head"] == mlp == 116_718_848


def test_the_box_heads_multiply_adds_by_hand():
    # On 1000 RoIs: 7x7x256 to 1024, 1024 to 1024, then 81 scores and 80 boxes.
    by_hand = 1000 * (7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 320)
    assert size("r50_fpn").multiply_adds["boxes"] == by_hand


def test_what_depth_adds_to_the_multiply_adds_by_hand():
    blocks = size("r101_fpn").multiply_adds["backbone"] - size("r50_fpn").multiply_adds["backbone"]
    # 17 more blocks of res4 at 50x76 cells: 1024 to 256, 3x3 of 256, 256 to 1024.
    assert blocks == 17 * 50 * 76 * (1024 * 256 + 256 * 256 * 9 + 256 * 1024)


def test_a_detector_without_its_rpn_lacks_its_parameters_alone():
    joint, alone = (
        sum(value.numel() for value in build_on_meta(experiment_config(experiment)).parameters())
        for experiment in map(find_experiment, ("x101_fpn_e2e", "x101_fpn_180k"))
    )
    # 3x3 of 256, then 3 scores and 12 offsets.
    assert joint - alone == 256 * 256 * 9 + 256 + 3 * 257 + 12 * 257


def test_a_backbone_in_training_is_its_convolutions_and_a_classifier():
    own = size_of(load_config("backbone/r50.yaml"))
    assert own.parameters.keys() == {"backbone", "classifier"}
    assert own.multiply_adds.keys() == {"backbone"}
    assert own.multiply_adds["backbone"] > 0


def test_branches_see_the_test_numbers_of_rois():
    assert roi_counts(experiment_config(find_experiment("r50_c4"))) == {
        "boxes": (300, 7),
        "masks": (100, 7),
    }
    assert roi_counts(experiment_config(find_experiment("keypoints_r50_fpn_mask"))) == {
        "boxes": (1000, 7),
        "masks": (100, 14),
        "keypoints": (100, 14),
    }


@pytest.mark.slow
def test_the_semantic_branches_multiply_adds_by_hand():
    config = ROOT / "projects/maskrcnn_family/panoptic_fpn/config.yaml"
    panoptic = load_config(config, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54])
    # On maps of 16x24 to 2x3 cells: 3x3 of 256 to 128 on each, once more at each doubling between, then 54 classes.
    first = (16 * 24 + 8 * 12 + 4 * 6 + 2 * 3) * 256 * 128 * 9
    between = (8 * 12 + 8 * 12 + 4 * 6) * 128 * 128 * 9
    counts = size_of(panoptic, 64, 96).multiply_adds
    assert counts["semantic"] == first + between + 16 * 24 * 128 * 54
