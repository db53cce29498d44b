"""The config keys of the DensePose head, with the names and values of Detectron2's DensePose project."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    head = cfg.MODEL.ROI_DENSEPOSE_HEAD = CfgNode()
    # Charts of the surface, and classes of the coarse segmentation, with the background.
    head.NUM_PATCHES = 24
    head.NUM_COARSE_SEGM_CHANNELS = 2
    # Convolutions, their width and kernel; kernel of the deconvolution; factor of the enlargement behind it.
    head.NUM_STACKED_CONVS = 8
    head.CONV_HEAD_DIM = 512
    head.CONV_HEAD_KERNEL = 3
    head.DECONV_KERNEL = 4
    head.UP_SCALE = 2
    # Side of a pooled RoI, samples of a cell on each axis, and Detectron2's name of the operation.
    head.POOLER_RESOLUTION = 28
    head.POOLER_SAMPLING_RATIO = 2
    head.POOLER_TYPE = "ROIAlign"
    # Proposals that are trained on overlap their person more.
    head.FG_IOU_THRESHOLD = 0.7
    # Factors of the losses of coarse segmentation, charts and coordinates.
    head.INDEX_WEIGHTS = 5.0
    head.PART_WEIGHTS = 1.0
    head.POINT_REGRESSION_WEIGHTS = 0.01
    # Levels are summed to one map before RoIs are pooled; its channels, and those on the way.
    head.DECODER_ON = True
    head.DECODER_NUM_CLASSES = 256
    head.DECODER_CONV_DIMS = 256
    head.DECODER_NORM = ""
    head.DECODER_COMMON_STRIDE = 4
    # Coordinates of detections: those predicted, or the middle of the predicted chart, which shows what charts alone give.
    cfg.TEST.DENSEPOSE_COORDINATES = "predicted"
