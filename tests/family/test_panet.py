"""PANet: path, pooling and fusion by hand, equivalences, the authors' layers, no objects, mistakes."""

from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.mask_head import FCNMaskHead, MaskLoss
from maskrcnn_repro.modeling.mask_head.losses import sigmoid_loss, sigmoid_masks
from maskrcnn_repro.modeling.sizes import size_of
from maskrcnn_repro.roi_ops import RoIOpPooler

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ROI_HEADS_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.panet import FamilyPANet, FamilyPANetBoxHead, FamilyPANetMaskHead
from maskrcnn_family.panet.roi_heads import EveryLevelPooler
from tests.family import panet_parity
from tests.helpers.exports import export_tiny_model

CONFIG = Path(maskrcnn_family.__file__).parent / "panet" / "config.yaml"
SIZE = (64, 64)
SHAPES = {name: ShapeSpec(channels=4, stride=4 * 2**k) for k, name in enumerate(("p2", "p3"))}
ROI = ShapeSpec(channels=4, height=4, width=4)
LOSS = MaskLoss(3, sigmoid_loss, sigmoid_masks)
VALUES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.IN_FEATURES": ("p2", "p3"),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 8,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 4,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 4,
}


def config(**changes):
    return load_config(CONFIG, [word for pair in (VALUES | changes).items() for word in pair])


def heads(shapes=SHAPES, **changes):
    """RoI heads of 3 classes on two maps of 4 channels."""
    cfg = config(**changes)
    torch.manual_seed(0)
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, shapes)


def maps(images=1):
    torch.manual_seed(1)
    return {"p2": torch.randn(images, 4, 16, 16), "p3": torch.randn(images, 4, 8, 8)}


def box_head(levels, conv_dims=(), fc_dims=(5, 6)):
    widths = {"conv_dims": [*conv_dims], "fc_dims": [*fc_dims]}
    return FamilyPANetBoxHead(ROI, levels=levels, **widths), FastRCNNConvFCHead(ROI, **widths)


def mask_head(levels, num_conv=3):
    widths = {"num_conv": num_conv, "conv_dim": 4, "norm": "", "loss": LOSS}
    return FamilyPANetMaskHead(ROI, levels=levels, **widths), FCNMaskHead(ROI, **widths)


class Stages(Backbone):
    """A backbone of two maps of 1 channel, whatever the image."""

    def output_shape(self):
        return {"res2": ShapeSpec(channels=1, stride=4), "res3": ShapeSpec(channels=1, stride=8)}

    def forward(self, x):
        return {"res2": x[:, :1, ::4, ::4], "res3": x[:, :1, ::8, ::8]}


@torch.no_grad()
def pyramid(kind=FamilyPANet):
    """A pyramid of 1 channel: P2 is 1, P3 is 2 everywhere."""
    top = LastLevelMaxPool()
    top.in_feature = "p3"
    module = kind(Stages(), ["res2", "res3"], 1, "", top_block=top)
    for name, weight in module.named_parameters():
        weight.fill_({"fpn_output2.bias": 1.0, "fpn_output3.bias": 2.0}.get(name, 0.0))
    return module


def test_a_level_is_the_sum_of_its_own_and_the_finer_one():
    module = pyramid()
    with torch.no_grad():
        # 3 times the middle of the finer level; then 5 times the sum less 24.
        module.downsample_p3.weight[0, 0, 1, 1] = 3
        module.augment_p3.weight[0, 0, 1, 1] = 5
        module.augment_p3.bias.fill_(-24)
        levels = module(torch.zeros(1, 3, 16, 16))
        assert {name: level.unique().tolist() for name, level in levels.items()} == {
            "p2": [1],
            "p3": [5 * (3 * 1 + 2) - 24],
            "p4": [1],
        }
        assert [level.shape[2] for level in levels.values()] == [4, 2, 1]
        # A ReLU is behind either convolution.
        module.augment_p3.bias.fill_(-26)
        assert not module(torch.zeros(1, 3, 16, 16))["p3"].any()


def test_without_the_path_it_is_the_fpn():
    plain, module = pyramid(FPN), pyramid()
    assert set(plain.state_dict()) < set(module.state_dict())
    with torch.no_grad():
        module.augment_p3.weight[0, 0, 1, 1] = 1
        for name, level in plain(torch.zeros(1, 3, 16, 16)).items():
            assert torch.equal(module(torch.zeros(1, 3, 16, 16))[name], level)


def test_an_roi_is_pooled_from_all_levels():
    pooler = RoIOpPooler("RoIAlignAve", (2, 2), [1 / 4, 1 / 8])
    features = [torch.full((2, 1, 16, 16), 1.0), torch.full((2, 1, 8, 8), 2.0)]
    features[1][1] = 3
    boxes = [Boxes(torch.tensor([[8.0, 8, 40, 40]])), Boxes(torch.tensor([[0.0, 0, 60, 60]]))]
    rois = EveryLevelPooler(pooler)(features, boxes)
    assert rois.flatten(2).unique(dim=2).squeeze(2).tolist() == [[1, 2], [1, 3]]
    alone = RoIOpPooler("RoIAlignAve", (2, 2), [1 / 4])
    noise = [torch.randn(2, 3, 16, 16)]
    assert torch.equal(EveryLevelPooler(alone)(noise, boxes), alone(noise, boxes))


def test_the_largest_of_the_levels_answers_counts():
    head, _ = box_head(levels=2, conv_dims=(), fc_dims=(2,))
    with torch.no_grad():
        for layer, weights in zip(head.first, ((1.0, -1.0), (2.0, 0.5)), strict=True):
            layer.fc1.weight.copy_(torch.tensor(weights)[:, None] / 64)
    levels = torch.cat([torch.full((1, 4, 4, 4), value) for value in (3.0, 1.0)], dim=1)
    # Of the first level 3 and -3, of the second 2 and 0.5.
    assert head(levels).tolist() == [pytest.approx([3.0, 0.5])]
    assert head.output_shape.channels == 2


@pytest.mark.parametrize("build", [box_head, mask_head])
def test_equal_levels_and_layers_are_the_head_of_one_level(build):
    ours, plain = build(levels=3)
    state = plain.state_dict()
    first, later = ("first", "later") if build is box_head else ("mask_fcn1", None)
    for name, tensor in ours.state_dict().items():
        if name.startswith(first):
            own = name.split(".", 2)[2]
            tensor.copy_(state[own if later else f"mask_fcn1.{own}"])
        elif later:
            # Its first layer is the second of the plain head.
            tensor.copy_(state[name.replace("later.fc1", "fc2")])
        elif name.startswith("fc"):
            tensor.zero_()
        else:
            tensor.copy_(state[name])
    roi = torch.randn(2, 4, 4, 4)
    run = (lambda head: head.layers) if build is mask_head else (lambda head: head)
    with torch.no_grad():
        assert torch.allclose(run(ours)(roi.repeat(1, 3, 1, 1)), run(plain)(roi), atol=1e-6)


def test_the_short_path_adds_one_mask_to_those_of_all_classes():
    head, _ = mask_head(levels=2)
    rois = torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        before = head.layers(rois)
        head.fc.bias.copy_(torch.arange(64.0))
        added = head.layers(rois) - before
    expected = torch.arange(64.0).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    assert torch.allclose(added, expected, atol=1e-5)


@pytest.mark.parametrize("conv_dims", [(), (4,), (4, 4)])
def test_layers_behind_the_first_are_shared(conv_dims):
    head, plain = box_head(levels=2, conv_dims=conv_dims, fc_dims=(5,))
    per_level = {name for name in head.state_dict() if name.startswith("first")}
    count = len(plain.state_dict())
    assert len(per_level) == 2 * 2
    assert len(head.state_dict()) == 4 + count - 2
    assert head(torch.randn(3, 8, 4, 4)).shape == (3, 5)


@pytest.mark.parametrize("part", panet_parity.PARTS)
def test_layers_and_gradients_are_the_authors(part):
    ours, theirs = panet_parity.measure_ours(part), panet_parity.stored()[part]
    for name, tensors in theirs.items():
        for mine, stored in zip(ours[name], tensors, strict=True):
            assert np.ptp(stored) > 0.01
            assert mine == pytest.approx(stored, abs=2e-5)


def test_gradients_are_those_of_differences():
    head = mask_head(levels=2)[0].double()
    generator = torch.Generator().manual_seed(0)
    rois = torch.randn(1, 8, 4, 4, generator=generator).double().requires_grad_()
    target = (torch.rand(1, 3, 8, 8, generator=generator) > 0.5).double()

    def loss(x):
        return F.binary_cross_entropy_with_logits(head.layers(x), target)

    assert torch.autograd.gradcheck(loss, [rois], fast_mode=True)


def proposals(boxes, *, truth):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    image = Instances(SIZE, proposal_boxes=boxes, objectness_logits=torch.zeros(len(boxes)))
    target = Instances(SIZE, gt_boxes=Boxes(torch.tensor(truth, dtype=torch.float32).view(-1, 4)))
    target.gt_classes = torch.ones(len(truth), dtype=torch.int64)
    bitmaps = torch.zeros(len(truth), *SIZE, dtype=torch.bool)
    bitmaps[:, 8:40, 8:32] = True
    target.gt_masks = BitMasks(bitmaps)
    return image, target


@pytest.mark.parametrize("truth", [[[8, 8, 40, 40]], []])
def test_with_and_without_objects_all_parameters_have_gradients(truth):
    module = heads().train()
    image, target = proposals([[8, 8, 40, 42], [30, 30, 60, 60]], truth=truth)
    with EventStorage():
        _, losses = module(None, maps(), [image], [target])
    assert (losses["loss_mask"] > 0) == bool(truth)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_proposals_there_are_no_detections():
    module = heads().eval()
    with torch.no_grad():
        (image,), _ = module(None, maps(), [proposals([], truth=[])[0]])
    assert len(image) == 0
    assert image.pred_masks.shape == (0, 1, 8, 8)


def test_a_batch_is_its_images_one_by_one():
    module, features = heads().eval(), maps(2)
    images = [[[4, 6, 40, 50], [0, 0, 20, 20]], [[8, 8, 60, 60]]]
    given = [proposals(boxes, truth=[])[0] for boxes in images]
    with torch.no_grad():
        both, _ = module(None, features, given)
        for number, image in enumerate(given):
            own = {name: level[number : number + 1] for name, level in features.items()}
            (alone,), _ = module(None, own, [image])
            assert torch.allclose(alone.scores, both[number].scores, atol=1e-6)
            assert torch.allclose(alone.pred_masks, both[number].pred_masks, atol=1e-6)


@pytest.mark.slow
def test_what_it_costs_at_full_size_by_hand():
    size = size_of(load_config(CONFIG))
    # On 1,000 RoIs 7 x 7 x 256 to 1024 on four levels, 1024 to 1024, then 81 scores and 80 boxes.
    boxes = 4 * 7 * 7 * 256 * 1024 + 1024 * 1024 + 1024 * (81 + 320)
    assert size.multiply_adds["boxes"] == 1000 * boxes
    # 3x3 convolutions of 256: four, three, one, and one of half the channels; a deconvolution; 80 classes; 784 cells.
    masks = 14 * 14 * 256 * 256 * (9 * 8.5 + 4) + 28 * 28 * 256 * 80 + 14 * 14 * 128 * 784
    assert size.multiply_adds["masks"] == 100 * masks
    # Six 3x3 convolutions of 256 more, of P2's half, fourth and eighth.
    path = 2 * 256 * 256 * 9 * (100 * 152 + 50 * 76 + 25 * 38)
    plain = size_of(load_config("coco/r50_fpn.yaml"))
    assert size.multiply_adds["backbone"] == plain.multiply_adds["backbone"] + path


KEYS = {
    "PLUGINS": ("maskrcnn_family.panet",),
    "MODEL.BACKBONE.NAME": "build_family_panet_fpn_backbone",
    "MODEL.ROI_HEADS.NAME": "FamilyPANetROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FamilyPANetBoxHead",
    "MODEL.ROI_MASK_HEAD.NAME": "FamilyPANetMaskHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask", "both"])
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_model_s_detections(tmp_path, kind, form):
    export_tiny_model(tmp_path, kind, form, KEYS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"MODEL.ROI_HEADS.IN_FEATURES": ("p2",)},
            r"\('p2',\) is one map, but .* levels of an FPN; choose MODEL.BACKBONE.NAME",
        ),
        (
            {"MODEL.ROI_HEADS.NAME": "PaperStandardROIHeads"},
            "'PaperStandardROIHeads' pools an RoI from one level, but FamilyPANetBoxHead takes",
        ),
        (
            {
                "MODEL.ROI_HEADS.NAME": "PaperStandardROIHeads",
                "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
            },
            "from one level, but FamilyPANetMaskHead takes it from all",
        ),
        ({"MODEL.ROI_MASK_HEAD.NUM_CONV": 1}, "NUM_CONV 1 is too few .* use 2 or more"),
        ({"MODEL.ROI_MASK_HEAD.LOSS": "softmax"}, "'softmax' is not for .* leave it at 'sigmoid'"),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        heads(**changes)


def test_a_backbone_that_is_not_there_is_told():
    cfg = config(**{"MODEL.PANET.BOTTOM_UP": "build_resnet_backbon"})
    build = BACKBONE_REGISTRY.get("build_family_panet_fpn_backbone")
    with pytest.raises(ConfigError, match=r"PANET.BOTTOM_UP .*build_resnet_backbon'.* mean"):
        build(cfg, ShapeSpec(channels=3))
