"""Mistakes in a config's heads are found before anything is built."""

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.checks import check_config
from maskrcnn_repro.errors import ConfigError

import pytest


def check(*opts):
    check_config(
        load_config("mini/mask_rcnn_fpn.yaml", ["MODEL.DEVICE", "cpu", *opts]), 1, training=True
    )


def test_the_project_s_own_config_is_right():
    check()


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.ROI_OP.NAME", "", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
        ("MODEL.ROI_BOX_HEAD.NAME", "", "MODEL.META_ARCHITECTURE", "ProposalNetwork"),
        ("INPUT.FORMAT", "L"),
        ("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[127.5]", "MODEL.PIXEL_STD", "[64.0]"),
    ],
)
def test_detectron2_s_own_parts_and_grey_images_are_right(opts):
    check(*opts)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ("MODEL.ROI_MASK_HEAD.NAME", "FCNMaskhead"),
            "NAME 'FCNMaskhead' does not exist. Did you mean 'FCNMaskHead'.*MLPMaskHead",
        ),
        (("MODEL.ROI_MASK_HEAD.LOSS", "bce"), "LOSS 'bce' does not exist. .*sigmoid, softmax"),
        (
            (
                "MODEL.ROI_MASK_HEAD.LOSS",
                "softmax",
                "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
                "True",
            ),
            "LOSS 'softmax'.*CLS_AGNOSTIC_MASK True",
        ),
        (
            ("MODEL.ROI_OP.NAME", "RoIPool", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            "'RoIPool' would be ignored: .* 'StandardROIHeads'.*PaperRes5ROIHeads, PaperStandardROI",
        ),
        (
            ("MODEL.ROI_MASK_HEAD.ROI_OP", "RoIPol"),
            "ROI_MASK_HEAD.ROI_OP 'RoIPol' does not exist. Did you mean 'RoIPool'",
        ),
        (
            (
                *("MODEL.ROI_OP.NAME", "", "MODEL.ROI_BOX_HEAD.ROI_OP", "RoIPool"),
                *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            ),
            "ROI_BOX_HEAD.ROI_OP 'RoIPool' would be ignored: .* 'StandardROIHeads'",
        ),
        (
            (
                *("MODEL.ROI_MASK_HEAD.LOSS", "softmax"),
                *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
            ),
            "LOSS 'softmax' would be ignored:.*FCNMaskHead, MLPMaskHead",
        ),
        (
            ("MODEL.ROI_OP.NAME", "RoiAlign"),
            "ROI_OP.NAME 'RoiAlign' does not exist. Did you mean .*It may be '', RoIAlignAve, .*RoIPool",
        ),
        (
            ("INPUT.FORMAT", "BRG"),
            "FORMAT 'BRG' does not exist. Did you mean 'RGB' or 'BGR'.*BGR, L, RGB",
        ),
        (
            ("MODEL.PIXEL_MEAN", "[127.5]", "MODEL.PIXEL_STD", "[64.0]"),
            r"PIXEL_MEAN \[127.5\] .* must have 3 values each: INPUT.FORMAT is 'BGR'",
        ),
        (("MODEL.PIXEL_STD", "[64.0]"), r"PIXEL_STD \[64.0\] must have 3 values each"),
        (("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[1.0, 2.0]"), "must have 1 or 3 values each"),
        (("MODEL.ROI_OP.SAMPLES", "0"), "MODEL.ROI_OP.SAMPLES 0 must be at least 1"),
        (("MODEL.ROI_MASK_HEAD.FC_DIM", "0"), "FC_DIM 0 must be at least 1"),
        (("MODEL.ROI_HEADS.RES5_STRIDE", "3"), "RES5_STRIDE 3 does not exist. It may be 1, 2"),
        (("MODEL.ROI_HEADS.RES5_BLOCKS", "0"), "RES5_BLOCKS 0 does not exist. It may be 1, 2, 3"),
        (
            (
                *("MODEL.ROI_HEADS.RES5_BLOCKS", "1", "MODEL.ROI_OP.NAME", ""),
                *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            ),
            "RES5_BLOCKS 1 would be ignored: .* 'StandardROIHeads'.*PaperRes5ROIHeads",
        ),
        (
            ("MODEL.ROI_MASK_HEAD.SOFTMAX_INFERENCE", "arg_max"),
            "Did you mean 'argmax'. It may be argmax, probability",
        ),
        (
            ("MODEL.INFERENCE.PRECISION", "float61"),
            "Did you mean 'float16'.*It may be auto, bfloat16, float16, float32",
        ),
        (
            ("MODEL.INFERENCE.MASK_OUTPUT", "polygon"),
            "'polygon' does not exist. It may be bitmap, rle",
        ),
        (
            (
                *("MODEL.INFERENCE.PRECISION", "bfloat16"),
                *("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
            ),
            "PRECISION 'bfloat16' would be ignored:.*Choose one of MaskRCNN",
        ),
        (
            ("MODEL.ROI_HEADS.NAME", "PaperRes5ROIHeads", "MODEL.KEYPOINT_ON", "True"),
            "KEYPOINT_ON True, but .* 'PaperRes5ROIHeads' has no keypoint branch",
        ),
        (
            ("MODEL.ROI_HEADS.NAME", "PaperRes5ROIHeads"),
            "IN_FEATURES .*'p2', 'p3', 'p4'.* must be one feature map for 'PaperRes5ROIHeads'",
        ),
    ],
)
def test_messages(opts, message):
    with pytest.raises(ConfigError, match=message):
        check(*opts)
