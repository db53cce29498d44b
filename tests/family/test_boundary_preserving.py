"""Boundary-preserving heads: targets and losses by hand, equivalences, the authors' numbers, no objects, mistakes."""

import math
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.fast_training.checkpointing import checkpoint_stages
from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.modeling.sizes import size_of

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.boundary_preserving import losses as parts
from tests.family import boundary_parity
from tests.helpers.exports import export_tiny_model
from tests.helpers.parity import compare

CONFIG = Path(maskrcnn_family.__file__).parent / "boundary_preserving" / "config.yaml"
NAME = "FamilyBoundaryPreservingMaskHead"
SIZE = (64, 64)
SHAPES = {name: ShapeSpec(channels=4, stride=4 * 2**k) for k, name in enumerate(("p2", "p3"))}
VALUES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.IN_FEATURES": ("p2", "p3"),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 4,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 4,
    "MODEL.BOUNDARY_MASK_HEAD.POOLER_RESOLUTION": 8,
}


def config(**changes):
    """A small head of 3 classes on two maps of 4 channels."""
    pairs = (VALUES | changes).items()
    return load_config(CONFIG, [word for pair in pairs for word in pair])


def head(**changes):
    torch.manual_seed(0)
    module = ROI_MASK_HEAD_REGISTRY.get(NAME)(config(**changes), SHAPES)
    for layer in (module.mask_predictor, module.boundary_predictor):
        torch.nn.init.normal_(layer.weight)
    return module


def maps(images=1):
    torch.manual_seed(1)
    return {"p2": torch.randn(images, 4, 16, 16), "p3": torch.randn(images, 4, 8, 8)}


def truth(boxes, classes):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    bitmaps = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    bitmaps[:, 8:40, 8:32] = True
    image = Instances(SIZE, proposal_boxes=boxes, gt_boxes=boxes, gt_masks=BitMasks(bitmaps))
    image.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return image


def detections(boxes, classes):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    return Instances(SIZE, pred_boxes=boxes, pred_classes=torch.tensor(classes, dtype=torch.int64))


def train(module, features, instances):
    with EventStorage():
        return module.train()(features, instances)


def test_the_boundary_of_an_object_is_its_cells_beside_what_is_not_the_object():
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    # Rows 1 to 5 and columns 1 to 4: the last row lies at the edge of the RoI.
    mask[0, 1:, 1:5] = True
    inner = torch.zeros_like(mask)
    inner[0, 2:5, 2:4] = True
    assert torch.equal(parts.boundary_targets(mask), mask & ~inner)


def test_the_loss_worked_out_by_hand():
    # The boundary of a full mask of 4 x 4 cells has 12. At a logit of 0 the cross-entropy is log 2, and Dice's common
    # part is 12 / 2, its total 16 / 2 + 12.
    value = parts.boundary_loss(torch.zeros(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
    assert value.item() == pytest.approx(math.log(2) + 1 - (2 * 6 + 1) / (8 + 12 + 1))
    # The mean over RoIs: the second has no boundary, and the common part is 0.
    targets = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    value = parts.dice_loss(torch.full((2, 2, 2), 0.25), targets)
    assert value.item() == pytest.approx((1 - 3 / 6 + 1 - 1 / 2) / 2)


def test_targets_are_where_the_laplacian_is_positive():
    masks = torch.rand(20, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.3
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[0, 0, 1, 1] = 8
    laplacian = F.conv2d(masks.float()[:, None], kernel, padding=1)[:, 0]
    assert torch.equal(parts.boundary_targets(masks), laplacian > 0.1)


def test_losses_of_a_whole_head_are_those_of_its_two_branches():
    module, image = head(), truth([[8, 8, 40, 48], [0, 0, 32, 32]], [2, 0])
    losses = train(module, maps(), [image])
    boxes = [image.proposal_boxes.tensor]
    pooled = (module.mask_pooler, module.boundary_pooler)
    levels = ([maps()["p2"], maps()["p3"]], [maps()["p2"]])
    rois = [pool(level, [Boxes(boxes[0])]) for pool, level in zip(pooled, levels, strict=True)]
    masks, boundaries = (logits[[0, 1], [2, 0]] for logits in module.layers(*rois))
    target = image.gt_masks.crop_and_resize(boxes[0], 8)
    expected = F.binary_cross_entropy_with_logits(masks, target.float())
    assert losses["loss_mask"].item() == pytest.approx(expected.item())
    assert losses["loss_boundary"].item() == pytest.approx(
        parts.boundary_loss(boundaries, target).item()
    )


def test_without_the_way_back_from_the_boundary_it_is_the_plain_mask_head():
    module = head()
    plain = FCNMaskHead(config(), SHAPES["p2"])
    state = module.state_dict()
    for name in plain.state_dict():
        ours = name if name.startswith("mask_fcn") else f"mask_{name}"
        plain.state_dict()[name].copy_(state[ours])
    with torch.no_grad():
        module.boundary_to_mask.weight.zero_()
        torch.nn.init.dirac_(module.mask_final_fusion.weight)
        pooled = torch.randn(3, 4, 4, 4)
        masks, _ = module.layers(pooled, torch.randn(3, 4, 8, 8))
        assert torch.allclose(masks, plain.layers(pooled), atol=1e-6)


def test_either_branch_changes_the_other():
    module = head().eval()
    mask, boundary = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        before = module.layers(mask, boundary)
        assert not torch.equal(module.layers(mask, boundary + 1)[0], before[0])
        assert not torch.equal(module.layers(mask + 1, boundary)[1], before[1])


def test_gradients_are_those_of_differences():
    module = head().double()
    masks = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.4
    generator = torch.Generator().manual_seed(2)
    rois = [torch.randn(2, 4, side, side, generator=generator).double() for side in (4, 8)]

    def total(*pooled):
        logits, boundaries = module.layers(*pooled)
        entropy = F.binary_cross_entropy_with_logits(logits[:, 1], masks.double())
        return entropy + parts.boundary_loss(boundaries[:, 1], masks)

    assert torch.autograd.gradcheck(total, [roi.requires_grad_() for roi in rois], fast_mode=True)


def test_a_batch_is_its_images_one_by_one():
    module, features = head().eval(), maps(2)
    images = [([[4, 6, 40, 50], [0, 0, 20, 20]], [1, 2]), ([[8, 8, 60, 60]], [0])]
    with torch.no_grad():
        both = module(features, [detections(*image) for image in images])
        for number, image in enumerate(images):
            own = {name: level[number : number + 1] for name, level in features.items()}
            (alone,) = module(own, [detections(*image)])
            assert torch.allclose(alone.pred_masks, both[number].pred_masks, atol=1e-6)


def test_both_branches_are_computed_twice_where_activations_are_not_kept():
    results = []
    for checkpointed in (False, True):
        model = torch.nn.ModuleDict({"roi_heads": torch.nn.ModuleDict({"mask_head": head()})})
        if checkpointed:
            assert checkpoint_stages(model) == 1
        module = model["roi_heads"]["mask_head"]
        # More RoIs than are held at once.
        inputs = [
            torch.ones(40, 4, side, side) * torch.arange(40)[:, None, None, None] / 40
            for side in (4, 8)
        ]
        masks, boundaries = module.layers(*inputs)
        (masks.square().sum() + boundaries.sum()).backward()
        results.append((masks, boundaries, [p.grad for p in module.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_class_agnostic_masks_have_one_channel():
    module = head(**{"MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True})
    assert module.mask_predictor.out_channels == module.boundary_predictor.out_channels == 1
    losses = train(module, maps(), [truth([[8, 8, 40, 48]], [2])])
    assert all(loss > 0 for loss in losses.values())


@pytest.fixture(scope="module")
def pair():
    return boundary_parity.measure(ours=True), boundary_parity.stored()


@pytest.mark.slow
def test_parameters_have_the_authors_names(pair):
    assert pair[0]["state"] == pair[1]["state"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["losses", "gradients", "proposals", "detections"])
def test_results_are_the_authors(pair, part):
    assert getattr(compare, part)(pair[0][part], pair[1][part]) == []


@pytest.mark.slow
def test_mask_probabilities_are_the_authors(pair):
    ours, authors = (np.array(numbers["masks"]) for numbers in pair)
    assert ours.shape == authors.shape == (2, 28, 28)
    assert np.ptp(authors) > 0.4
    assert ours == pytest.approx(authors, abs=1e-4)


@pytest.mark.parametrize("images", [1, 2])
def test_without_objects_losses_are_zero_and_all_parameters_have_gradients(images):
    module = head()
    losses = train(module, maps(images), [truth([], [])] * images)
    assert {name: loss.item() for name, loss in losses.items()} == {
        "loss_mask": 0.0,
        "loss_boundary": 0.0,
    }
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_an_image_without_objects_changes_no_loss_of_another():
    image = truth([[8, 8, 40, 48]], [1])
    alone = train(head(), {name: level[:1] for name, level in maps(2).items()}, [image])
    beside = train(
        head(), maps(2), [image, Instances(SIZE, proposal_boxes=Boxes(torch.zeros(0, 4)))]
    )
    for name, loss in alone.items():
        assert loss.item() == pytest.approx(beside[name].item())


def test_without_detections_there_are_no_masks():
    with torch.no_grad():
        (image,) = head().eval()(maps(), [detections([], [])])
    assert image.pred_masks.shape == (0, 1, 8, 8)


@pytest.mark.slow
def test_what_it_costs_at_full_size_by_hand():
    size = size_of(load_config(CONFIG))
    # Eight 3x3 convolutions of 256 on 14 x 14 cells, two of 1x1, two deconvolutions, and 80 classes of 28 x 28 cells twice.
    weights = 256 * 256 * (8 * 9 + 2 + 2 * 4), 2 * 256 * 80
    biases = 12 * 256 + 2 * 80
    assert size.parameters["roi_heads.mask_head"] == sum(weights) + biases
    assert size.multiply_adds["masks"] == 100 * (14 * 14 * weights[0] + 28 * 28 * weights[1])


KEYS = {
    "PLUGINS": ("maskrcnn_family.boundary_preserving",),
    "MODEL.ROI_MASK_HEAD.NAME": NAME,
    "MODEL.BOUNDARY_MASK_HEAD.IN_FEATURES": ("p4",),
    "MODEL.BOUNDARY_MASK_HEAD.POOLER_RESOLUTION": 8,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_model_s_masks(tmp_path, form):
    export_tiny_model(tmp_path, "mask", form, KEYS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"MODEL.BOUNDARY_MASK_HEAD.IN_FEATURES": ("p1",)},
            "names p1, but the boundary branch pools from an FPN's finest maps and .* p2, p3",
        ),
        (
            {"MODEL.BOUNDARY_MASK_HEAD.POOLER_RESOLUTION": 14},
            "14 is not twice MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION 4",
        ),
        ({"MODEL.ROI_MASK_HEAD.LOSS": "softmax"}, "'softmax' is not for .* leave it at 'sigmoid'"),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        head(**changes)


def test_a_backbone_without_fpn_is_told():
    cfg = config(**{"MODEL.ROI_HEADS.IN_FEATURES": ("res4",)})
    shapes = {"res4": ShapeSpec(channels=8, stride=16)}
    with pytest.raises(ConfigError, match=rf"{NAME}' pools from whole maps, but .* with FPN"):
        ROI_HEADS_REGISTRY.get("PaperRes5ROIHeads")(cfg, shapes)
    with pytest.raises(ConfigError, match=r"names p2, but .* FPN's finest maps .* gives it res4"):
        ROI_HEADS_REGISTRY.get("PaperStandardROIHeads")(cfg, shapes)
