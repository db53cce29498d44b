"""Mask heads: targets and losses by hand, agreement with Detectron2's head, sizes, empty batches."""

import math
from dataclasses import replace

from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.mask_head import FCNMaskHead, MaskHead, MLPMaskHead, build_mask_loss

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_mask_head
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch.testing import assert_close

from tests.helpers.roi_cases import LOG2, latest


def config(name="FCNMaskHead", classes=3, **keys):
    cfg = get_config()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    mask = cfg.MODEL.ROI_MASK_HEAD
    mask.NAME, mask.CONV_DIM, mask.FC_DIM, mask.MLP_RESOLUTION = name, 6, 8, 4
    for key, value in keys.items():
        mask[key] = value
    return cfg


def head(name="FCNMaskHead", side=2, **keys):
    return build_mask_head(config(name, **keys), ShapeSpec(channels=4, height=side, width=side))


def left_half(polygons):
    """The left half of a 4 x 4 image."""
    if polygons:
        return PolygonMasks([[np.array([0.0, 0, 2, 0, 2, 4, 0, 4])]])
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    return BitMasks(mask)


def proposal(box=(0.0, 0.0, 4.0, 4.0), gt_class=1, polygons=False):
    return Instances(
        (4, 4),
        proposal_boxes=Boxes(torch.tensor([box])),
        gt_classes=torch.tensor([gt_class]),
        gt_masks=left_half(polygons),
    )


def without_truth():
    """An image without ground truth: its instances have no masks at all."""
    boxes, classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.long)
    return Instances((4, 4), proposal_boxes=boxes, gt_classes=classes)


class Given(MaskHead):
    """Answers with the logits that it is given."""

    def layers(self, x):
        return x


@pytest.mark.parametrize("polygons", [False, True])
def test_the_target_is_what_the_roi_shows_of_the_mask(storage, polygons):
    # Of a RoI over the image's middle half, the left two of four columns lie on the object.
    logits = torch.full((1, 3, 4, 4), -100.0)
    logits[0, 1, :, :2] = 100.0
    given = Given(loss=build_mask_loss(config()))
    batch = [without_truth(), proposal((1.0, 0.0, 3.0, 4.0), polygons=polygons)]
    assert given(logits, batch)["loss_mask"] < 1e-6
    assert latest(storage) == {
        "mask_rcnn/accuracy": 1.0,
        "mask_rcnn/false_positive": 0.0,
        "mask_rcnn/false_negative": 0.0,
    }


def test_loss_and_shares_of_wrong_cells_by_hand(storage):
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1] = torch.tensor([[0.0, 0.0], [2.0, -2.0]])
    given = Given(loss=build_mask_loss(config()), loss_weight=2.0)
    loss = given(logits, [proposal()])["loss_mask"]
    assert_close(loss, torch.tensor((2 * LOG2 + 2 * math.log1p(math.exp(-2))) / 2))
    # Truth 1 0 / 1 0, read as 0 0 / 1 0.
    assert latest(storage) == pytest.approx(
        {"mask_rcnn/accuracy": 0.75, "mask_rcnn/false_positive": 0, "mask_rcnn/false_negative": 0.5}
    )


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"loss": lambda *_: None}, "MaskLoss.loss returns None; .* of one number"),
        ({"loss": lambda *_: {"a": 1.0}}, "MaskLoss.loss returns {'a': 1.0}; "),
        (
            {"loss": lambda logits, *_: logits[:, 0]},
            r"MaskLoss.loss returns a tensor \(1, 2, 2\); ",
        ),
        ({"masks": lambda *_: None}, r"MaskLoss.masks returns None; .* a tensor \(1, 2, 2\) here"),
        ({"masks": lambda logits, _: logits}, r"MaskLoss.masks returns a tensor \(1, 3, 2, 2\); "),
    ],
)
def test_a_loss_that_answers_wrongly_is_named(storage, answers, message):
    given = Given(loss=replace(build_mask_loss(config()), **answers))
    with pytest.raises(ConfigError, match=message):
        given(torch.zeros(1, 3, 2, 2), [proposal()])


def test_half_precision_logits_give_float32_losses_and_masks(storage):
    given = Given(loss=build_mask_loss(config()))
    logits = torch.randn(1, 3, 2, 2).bfloat16()
    assert given(logits, [proposal()])["loss_mask"].dtype == torch.float32
    detections = Instances((4, 4), pred_classes=torch.tensor([2]))
    assert given.eval()(logits, [detections])[0].pred_masks.dtype == torch.float32


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("num_conv", [0, 2])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_fcn_is_detectron2s_head(storage, num_conv, agnostic, norm):
    shape = ShapeSpec(channels=4, height=7, width=7)
    width = {"GN": 32, "": 6}[norm]
    built = {}
    for name in ("MaskRCNNConvUpsampleHead", "FCNMaskHead"):
        torch.manual_seed(3)
        cfg = config(name, NUM_CONV=num_conv, CLS_AGNOSTIC_MASK=agnostic, NORM=norm, CONV_DIM=width)
        built[name] = build_mask_head(cfg, shape)
    theirs, ours = built.values()
    # One seed gives the same names and initial weights.
    assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)
    with torch.no_grad():
        ours.predictor.weight.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 7, 7)
    batch = [proposal(gt_class=2), without_truth(), proposal(), proposal((1.0, 1.0, 3.5, 4.0))]
    losses, logged = [], []
    for mask_head in (theirs, ours):
        losses.append(mask_head.train()(x, batch)["loss_mask"])
        logged.append(latest(storage))
    assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert logged[0] == logged[1]
    detections = [Instances((4, 4), pred_classes=torch.tensor(c)) for c in ([1, 2], [0])]
    masks = [
        torch.cat([image.pred_masks for image in mask_head.eval()(x, detections)])
        for mask_head in (theirs, ours)
    ]
    assert masks[0].shape == (3, 1, 14, 14)
    assert_close(masks[0], masks[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("keys", "channels"), [({}, 3), ({"CLS_AGNOSTIC_MASK": True}, 1), ({"LOSS": "softmax"}, 4)]
)
@pytest.mark.parametrize("name", ["FCNMaskHead", "MLPMaskHead"])
def test_output_has_the_channels_of_the_loss(name, keys, channels):
    assert head(name, **keys).layers(torch.ones(2, 4, 2, 2)).shape == (2, channels, 4, 4)


def test_mlp_is_a_chain_of_matrix_products():
    mlp = head("MLPMaskHead", NUM_FC=2)
    x = torch.randn(5, 4, 2, 2)
    first, _, second, _ = mlp.hidden
    expected = x.flatten(1)
    for layer in (first, second):
        expected = (expected @ layer.weight.T + layer.bias).clamp(min=0)
    expected = expected @ mlp.predictor.weight.T + mlp.predictor.bias
    assert_close(mlp.layers(x), expected.view(5, 3, 4, 4))


def test_first_weights_of_the_mlp():
    """Hidden layers uniform within sqrt(3 / inputs), the output normal of 0.001; no biases."""
    mlp = head("MLPMaskHead", NUM_FC=2, FC_DIM=300)
    for layer, inputs in ((mlp.hidden[0], 4 * 2 * 2), (mlp.hidden[2], 300)):
        bound = math.sqrt(3 / inputs)
        assert 0.97 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() == 0
    assert mlp.predictor.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert mlp.predictor.bias.abs().max() == 0


@pytest.mark.parametrize("hidden", [2, 3])
def test_mlp_of_the_paper_has_62720_outputs(hidden):
    cfg = config("MLPMaskHead", classes=80, NUM_FC=hidden, FC_DIM=1024, MLP_RESOLUTION=28)
    with torch.device("meta"):
        mlp = build_mask_head(cfg, ShapeSpec(channels=256, height=14, width=14))
    assert mlp.predictor.out_features == 80 * 28 * 28 == 62720
    assert mlp.predictor.weight.numel() == pytest.approx(64.2e6, rel=1e-3)
    widths = [layer.in_features for layer in mlp.hidden if hasattr(layer, "in_features")]
    assert widths == [256 * 14 * 14, *[1024] * (hidden - 1)]


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", ["FCNMaskHead", "MLPMaskHead"])
def test_without_positive_rois_the_loss_is_zero_and_all_weights_have_gradients(storage, name, loss):
    empty = head(name, LOSS=loss, NUM_CONV=1)
    value = empty(torch.zeros(0, 4, 2, 2), [without_truth(), proposal()[[]]])["loss_mask"]
    assert value == 0
    value.backward()
    assert all(parameter.grad is not None for parameter in empty.parameters())


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", ["FCNMaskHead", "MLPMaskHead"])
def test_each_image_gets_the_masks_of_its_detections(name, loss):
    ours = head(name, LOSS=loss).eval()
    torch.nn.init.normal_(ours.predictor.weight)
    x = torch.randn(3, 4, 2, 2)
    detections = [Instances((9, 9)) for _ in range(3)]
    for instances, classes in zip(detections, ([0, 1], [], [1]), strict=True):
        instances.pred_classes = torch.tensor(classes, dtype=torch.long)
    assert [instances.pred_masks.shape for instances in ours(x, detections)] == [
        (2, 1, 4, 4),
        (0, 1, 4, 4),
        (1, 1, 4, 4),
    ]
    logits = ours.layers(x)
    read = logits.sigmoid() if loss == "sigmoid" else logits.softmax(1)
    assert_close(detections[0].pred_masks[1, 0], read[1, 1])
    assert_close(detections[2].pred_masks[0, 0], read[2, 1])


def test_no_detections_at_all():
    detections = Instances((9, 9), pred_classes=torch.zeros(0, dtype=torch.long))
    for name in ("FCNMaskHead", "MLPMaskHead"):
        (detections,) = head(name).eval()(torch.zeros(0, 4, 2, 2), [detections])
        assert detections.pred_masks.shape == (0, 1, 4, 4)


def test_heads_are_built_without_a_config():
    loss = build_mask_loss(config())
    shape = ShapeSpec(channels=4, height=2, width=2)
    fcn = FCNMaskHead(shape, num_conv=1, conv_dim=5, loss=loss)
    mlp = MLPMaskHead(shape, num_fc=1, fc_dim=5, resolution=6, loss=loss)
    x = torch.ones(1, 4, 2, 2)
    assert (fcn.layers(x).shape, mlp.layers(x).shape) == ((1, 3, 4, 4), (1, 3, 6, 6))
