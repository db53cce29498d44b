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
            (
                *("MODEL.ROI_MASK_HEAD.LOSS", "softmax"),
                *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
            ),
            "LOSS 'softmax' would be ignored:.*FCNMaskHead, MLPMaskHead",
        ),
    ],
)
def test_messages(opts, message):
    with pytest.raises(ConfigError, match=message):
        check(*opts)
