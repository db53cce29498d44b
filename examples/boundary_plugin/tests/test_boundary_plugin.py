"""The plug-in's parts by themselves, and its config as a whole."""

from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.plugins import load_plugins
from maskrcnn_repro.roi_ops import build_roi_op

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from boundary_plugin.head import DilatedMaskHead
from boundary_plugin.loss import boundary_loss, outline

CONFIG = Path(__file__).resolve().parents[1] / "boundary.yaml"


def config(*opts):
    return load_config(CONFIG, ["MODEL.DEVICE", "cpu", *opts])


def square(side, first, last):
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[first:last, first:last] = True
    return mask


def test_the_outline_is_two_cells_wide():
    assert torch.equal(outline(square(9, 1, 6)[None])[0], square(9, 0, 7) & ~square(9, 2, 5))
    assert not outline(torch.ones(1, 9, 9, dtype=torch.bool)).any()


def test_the_loss_worked_out_by_hand():
    logits = torch.zeros(1, 2, 3, 3)
    truth = square(3, 0, 2)[None]
    value = boundary_loss(logits, truth, torch.tensor([1]), outline_weight=3.0)
    # Every cell has probability 1/2: entropy log 2 whatever the weights; Dice (2 * 2 + 1) / (4.5 + 4 + 1).
    assert value.item() == pytest.approx(0.6931472 + 1 - 5 / 9.5)


def test_a_mistake_on_the_outline_costs_more():
    truth = square(7, 1, 6)[None]
    right = (truth.float() * 2 - 1)[:, None] * 4
    wrong_inside, wrong_outline = right.clone(), right.clone()
    wrong_inside[0, 0, 3, 3] *= -1
    wrong_outline[0, 0, 1, 3] *= -1
    classes = torch.tensor([0])
    losses = [
        boundary_loss(logits, truth, classes, outline_weight=3.0)
        for logits in (right, wrong_inside, wrong_outline)
    ]
    assert losses == sorted(losses)


def test_a_dilation_of_one_is_the_paper_s_head():
    cfg, shape = config(), ShapeSpec(channels=8, height=14, width=14)
    cfg.MODEL.ROI_MASK_HEAD.DILATION = 1
    paper, dilated = FCNMaskHead(cfg, shape), DilatedMaskHead(cfg, shape)
    dilated.load_state_dict(paper.state_dict())
    pooled = torch.randn(2, 8, 14, 14)
    assert torch.equal(dilated.layers(pooled), paper.layers(pooled))
    cfg.MODEL.ROI_MASK_HEAD.DILATION = 2
    assert DilatedMaskHead(cfg, shape).layers(pooled).shape == paper.layers(pooled).shape


def test_the_operation_is_the_mean_of_two():
    load_plugins(["boundary_plugin"])
    features, rois = torch.randn(1, 4, 12, 12), torch.tensor([[0, 10.0, 20.0, 90.0, 70.0]])
    average, maximum, mixed = (
        build_roi_op(name, (7, 7), 1 / 8)(features, rois)
        for name in ("RoIAlignAve", "RoIAlignMax", "RoIAlignMixed")
    )
    assert torch.allclose(mixed, (average + maximum) / 2)


def test_the_config_trains_and_predicts():
    model = build_model(config())
    truth = Instances(
        (64, 64),
        gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])),
        gt_classes=torch.tensor([0]),
        gt_masks=BitMasks(square(64, 8, 40)[None]),
    )
    image = {"image": torch.randint(0, 255, (3, 64, 64)).float(), "instances": truth}
    with EventStorage():
        losses = model([image])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.roi_heads.parameters())
    with torch.no_grad():
        assert len(model.eval()([image])) == 1
