"""Whole models of a few thousand random weights, one for each kind of the paper's."""

from maskrcnn_repro.config import get_config

import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

SIZE = (64, 80)  # height, width of an input, pixels
KINDS = ("mask", "keypoint", "both", "box", "c4")


def tiny_config(kind="mask", **keys):
    """Return the config of a tiny ``MaskRCNN``; ``keys`` are those with underscores for dots, as lists."""
    cfg = get_config(keys.get("PLUGINS"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskRCNN"
    cfg.MODEL.MASK_ON = kind in ("mask", "both", "c4")
    cfg.MODEL.KEYPOINT_ON = kind in ("keypoint", "both")
    cfg.MODEL.PIXEL_STD = [58.0, 57.0, 57.0]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    resnet = cfg.MODEL.RESNETS
    resnet.NORM, resnet.STEM_OUT_CHANNELS = "BN", 4
    resnet.WIDTH_PER_GROUP, resnet.RES2_OUT_CHANNELS = 2, 4
    heads = cfg.MODEL.ROI_HEADS
    heads.NAME, heads.NUM_CLASSES, heads.SCORE_THRESH_TEST = "PaperRes5ROIHeads", 3, 0.0
    cfg.MODEL.ROI_OP.NAME = "RoIAlignAve"
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_KEYPOINT_HEAD):
        head.POOLER_RESOLUTION = 4
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = "FCNMaskHead", 4
    points = cfg.MODEL.ROI_KEYPOINT_HEAD
    points.NAME, points.CONV_DIMS, points.NUM_KEYPOINTS = "FCNKeypointHead", [4], 3
    if kind != "c4":
        _with_fpn(cfg)
    cfg.merge_from_list([word for pair in keys.items() for word in pair])
    return cfg


def _with_fpn(cfg):
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = ["res4", "res5"], 4
    cfg.MODEL.RPN.IN_FEATURES = ["p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    cfg.MODEL.ROI_HEADS.NAME = "PaperStandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4", "p5"]
    box = cfg.MODEL.ROI_BOX_HEAD
    box.NAME, box.NUM_FC, box.FC_DIM = "FastRCNNConvFCHead", 1, 8


def tiny_model(kind="mask", **keys):
    """Build the model, in evaluation mode, always with the same weights."""
    torch.manual_seed(3)
    model = build_model(tiny_config(kind, **keys)).eval()
    # An untrained head says 0.5 everywhere: larger weights make shapes of it.
    for name, weight in model.named_parameters():
        if name.endswith(
            ("mask_predictor.weight", "mask_head.predictor.weight", "point_head.predictor.weight")
        ):
            torch.nn.init.normal_(weight)
    return model


def picture(size=SIZE, **more):
    """Return a model input with a random image, the same one for the same size."""
    generator = torch.Generator().manual_seed(size[0] * size[1])
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": image, **more}


def given_proposals(size=SIZE, count=6):
    """Return ``count`` proposals within an image of that size."""
    height, width = size
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.5
    sides = (0.2 + 0.3 * torch.rand(count, 2, generator=generator)) * torch.tensor([width, height])
    proposals = Instances(size, proposal_boxes=Boxes(torch.cat([corner, corner + sides], dim=1)))
    proposals.objectness_logits = torch.arange(count, 0, -1).float()
    return proposals


def assert_same(instances, expected):
    """Assert that two ``Instances`` are equal to the last bit, field by field."""
    assert instances.image_size == expected.image_size
    ours, theirs = instances.get_fields(), expected.get_fields()
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        pair = (value, theirs[name])
        if isinstance(value, Boxes):
            pair = (value.tensor, theirs[name].tensor)
        assert pair[0].dtype == pair[1].dtype, name
        assert torch.equal(*pair), name
