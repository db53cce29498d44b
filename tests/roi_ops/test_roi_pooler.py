"""The RoI operation as a pooler: levels by hand, agreement with Detectron2's, its settings, messages."""

import itertools

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY, RoIAlignAve, RoIOpPooler, RoIPool, build_pooler

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn
from torch.testing import assert_close

PYRAMID = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def rois_of_sides(*sides):
    return torch.tensor([[0.0, 10.0, 10.0, 10.0 + w, 10.0 + h] for w, h in sides])


def config(**op):
    cfg = get_config()
    for key, value in op.items():
        cfg.MODEL.ROI_OP[key] = value
    return cfg


def maps(scales, images=2, channels=3, side=128, memory_format=torch.contiguous_format):
    return [
        torch.randn(images, channels, round(side * scale), round(side * scale * 1.5))
        .to(memory_format=memory_format)
        .requires_grad_()
        for scale in scales
    ]


def some_boxes(*counts):
    lists = []
    for count in counts:
        corner, side = torch.rand(count, 2) * 100, 2 ** (torch.rand(count, 2) * 10)
        lists.append(Boxes(torch.cat([corner, corner + side], dim=1)))
    return lists


def test_levels_by_hand():
    """FPN, eq. 1: 4 + log2(sqrt(wh) / 224), floored, and the nearest level there is."""
    pooler = RoIOpPooler("RoIAlignAve", (7, 7), PYRAMID)
    cases = {
        (224, 224): 4,
        (223, 223): 3,
        (112, 448): 4,
        (112, 112): 3,
        (56, 56): 2,
        (8, 8): 2,
        (0, 50): 2,
        (448, 447): 4,
        (448, 448): 5,
        (5000, 5000): 5,
    }
    levels = pooler.assign_levels(rois_of_sides(*cases)) + 2
    assert dict(zip(cases, levels.tolist(), strict=True)) == cases


def test_the_canonical_size_and_level_move_the_levels():
    pooler = RoIOpPooler(
        "RoIAlignAve", (7, 7), PYRAMID[:3], canonical_box_size=48, canonical_level=3
    )
    levels = pooler.assign_levels(rois_of_sides((47, 47), (48, 48), (96, 96), (500, 500)))
    assert levels.tolist() == [0, 1, 2, 2]


def test_a_side_a_rounding_error_below_a_level_belongs_to_it():
    below = torch.tensor(56.0).nextafter(torch.tensor(0.0)).nextafter(torch.tensor(0.0)).item()
    assert below < 56  # a quarter of 224: level 2 begins there
    pooler = RoIOpPooler("RoIAlignAve", (7, 7), [1 / 2, *PYRAMID])
    assert pooler.assign_levels(rois_of_sides((below, below), (55.9, 55.9))).tolist() == [1, 0]


def test_a_size_that_is_no_number_has_a_level():
    rois = rois_of_sides((float("nan"), 3), (float("inf"), 3), (-5, 3))
    assert set(RoIOpPooler("RoIPool", (7, 7), PYRAMID).assign_levels(rois).tolist()) <= {0, 3}


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("scales", "size", "kind"),
    list(
        itertools.product(
            [PYRAMID, PYRAMID[:2], [1 / 16]],
            [(7, 7), (14, 14)],
            [("ROIAlign", "RoIAlignAve"), ("ROIPool", "RoIPool")],
        )
    ),
)
def test_agrees_with_detectron2s_pooler(scales, size, kind, memory_format):
    theirs = ROIPooler(size, scales, 2, kind[0])
    ours = RoIOpPooler(kind[1], size, scales)
    boxes, results = some_boxes(15, 0, 9), []
    for pooler in (theirs, ours):
        torch.manual_seed(3)
        features = maps(scales, images=3, memory_format=memory_format)
        out = pooler(features, boxes)
        (out * torch.rand(out.shape)).sum().backward()
        results.append([out.detach(), *(level.grad for level in features)])
    assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
def test_traced_it_keeps_the_order_of_the_boxes():
    """Levels 5, 2, 3: sorted by level the RoIs come back in another order than by its inverse."""
    pooler = RoIOpPooler("RoIAlignAve", (1, 1), PYRAMID)
    features = [torch.full((1, 1, 160 >> i, 160 >> i), 2.0 + i) for i in range(4)]
    corners = torch.tensor([[0.0, 0, 500, 500], [0, 0, 20, 20], [0, 0, 120, 120]])
    traced = torch.jit.trace(
        lambda *given: pooler(given[1:], [Boxes(given[0])]), (corners, *features)
    )
    assert traced(corners, *features).flatten().tolist() == [5.0, 2.0, 3.0]


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ["RoIAlignAve", "RoIAlignMax", "RoIPool", "RoIWarpAve"])
@pytest.mark.parametrize("scales", [PYRAMID, [1 / 16]])
def test_traced_it_takes_any_number_of_boxes(scales, name):
    pooler = RoIOpPooler(name, (3, 3), scales)
    features = [level.detach() for level in maps(scales)]

    def pool(first, second, *levels):
        return pooler(levels, [Boxes(first), Boxes(second)])

    given = [boxes.tensor for boxes in some_boxes(4, 3)]
    traced = torch.jit.trace(pool, (*given, *features))
    for counts in [(4, 3), (1, 9), (0, 2), (0, 0)]:
        given = [boxes.tensor for boxes in some_boxes(*counts)]
        out = traced(*given, *features)
        assert len(out) == sum(counts)
        assert_close(out, pool(*given, *features))


class ExportedPooler(nn.Module):
    """A pooler that takes the boxes of one image as a tensor."""

    def __init__(self, pooler):
        super().__init__()
        self.pooler = pooler

    def forward(self, boxes, features):
        return self.pooler(features, [Boxes(boxes)])


@pytest.mark.parametrize("scales", [PYRAMID, [1 / 16]])
def test_exported_it_takes_any_number_of_boxes(scales):
    module = ExportedPooler(RoIOpPooler("RoIAlignAve", (3, 3), scales))
    features = [level.detach() for level in maps(scales, images=1)]
    # A bound, since PyTorch 2.6 tells the largest integer from all others.
    count = torch.export.Dim("count", max=10_000)
    shapes = {"boxes": {0: count}, "features": [{} for _ in scales]}
    example = (some_boxes(5)[0].tensor, features)
    exported = torch.export.export(module, example, dynamic_shapes=shapes).module()
    for number in (2, 9):
        boxes = some_boxes(number)[0].tensor
        assert_close(exported(boxes, features), module(boxes, features))


@pytest.mark.parametrize("scales", [PYRAMID, [1 / 16]])
def test_no_boxes_at_all(scales):
    pooler, features = RoIOpPooler("RoIAlignMax", (7, 7), scales), maps(scales)
    out = pooler(features, some_boxes(0, 0))
    assert out.shape == (0, 3, 7, 7)
    out.sum().backward()
    assert all(level.grad.abs().sum() == 0 for level in features)
    assert pooler([level[:0] for level in features], []).shape == (0, 3, 7, 7)


def test_all_boxes_on_one_level_leave_the_others_a_gradient_of_zero():
    features = maps(PYRAMID, images=1)
    boxes = [Boxes(torch.tensor([[0.0, 0.0, 20.0, 20.0]]))]
    RoIOpPooler("RoIAlignAve", (7, 7), PYRAMID)(features, boxes).sum().backward()
    assert [float(level.grad.sum()) for level in features] == [pytest.approx(3 * 49), 0, 0, 0]


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_output_lies_in_memory_as_the_maps_do(memory_format):
    features = maps(PYRAMID, memory_format=memory_format)
    out = RoIOpPooler("RoIAlignAve", (7, 7), PYRAMID)(features, some_boxes(20, 20))
    assert out.is_contiguous(memory_format=memory_format)


def test_a_pooler_follows_from_the_config_and_the_maps():
    cfg = config(
        NAME="RoIAlignAve", SAMPLES=3, HALF_PIXEL=True, CANONICAL_BOX_SIZE=48, CANONICAL_LEVEL=3
    )
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.ROI_OP = "RoIPool"
    shapes = {f"p{level}": ShapeSpec(channels=3, stride=2**level) for level in (5, 4, 3, 2)}
    box, mask = (build_pooler(cfg, head, shapes) for head in ("ROI_BOX_HEAD", "ROI_MASK_HEAD"))
    assert (box.canonical_box_size, box.canonical_level, box.output_size) == (48, 3, (7, 7))
    assert [level.spatial_scale for level in box.level_poolers] == PYRAMID[:3]
    align, pool = box.level_poolers[0], mask.level_poolers[0]
    assert isinstance(align, RoIAlignAve)
    assert (align.output_size, align.samples, align.half_pixel) == ((7, 7), 3, True)
    assert isinstance(pool, RoIPool)
    assert pool.output_size == (14, 14)  # Detectron2's default


def test_a_pooler_may_have_other_maps_and_another_side_than_the_config_says():
    cfg = config(NAME="RoIAlignAve")
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4"]
    shapes = {f"p{level}": ShapeSpec(channels=3, stride=2**level) for level in (2, 3, 4)}
    more = {"in_features": ["p2"], "side": 28}
    ours = build_pooler(cfg, "ROI_MASK_HEAD", shapes, **more)
    cfg.MODEL.ROI_OP.NAME = ""
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlignV2"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 2
    theirs = build_pooler(cfg, "ROI_MASK_HEAD", shapes, **more)
    assert (type(ours), type(theirs)) == (RoIOpPooler, ROIPooler)
    for pooler in (ours, theirs):
        assert tuple(pooler.output_size) == (28, 28)
        assert [level.spatial_scale for level in pooler.level_poolers] == [1 / 4]
    assert theirs.level_poolers[0].sampling_ratio == 2


@ROI_OP_REGISTRY.register()
class SomebodysCorner(nn.Module):
    """The cell at the RoI's first corner, everywhere."""

    def __init__(self, output_size, spatial_scale, samples, half_pixel):
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale

    def forward(self, features, rois):
        x, y = (rois[:, 1:3] * self.spatial_scale).long().unbind(1)
        cells = features[rois[:, 0].long(), :, y, x]
        return cells[..., None, None].expand(-1, -1, *self.output_size)


def test_an_operation_of_somebody_else_plugs_in():
    pooler = RoIOpPooler("SomebodysCorner", (2, 2), PYRAMID)
    features = maps(PYRAMID, images=1)
    out = pooler(features, [Boxes(torch.tensor([[8.0, 4.0, 20.0, 20.0], [8, 4, 400, 400]]))])
    assert_close(out[:, :, 1, 1], torch.stack([features[0][0, :, 1, 2], features[2][0, :, 0, 0]]))


def test_messages():
    with pytest.raises(ConfigError, match=r"'RoIPol' .* Did you mean 'RoIPool'"):
        RoIOpPooler("RoIPol", (7, 7), [1 / 16])
    with pytest.raises(ConfigError, match="CANONICAL_BOX_SIZE is 0"):
        RoIOpPooler("RoIPool", (7, 7), [1 / 16], canonical_box_size=0)
    with pytest.raises(ConfigError, match=r"half of the one before, not \[0.25, 0.0625\]"):
        RoIOpPooler("RoIPool", (7, 7), [1 / 4, 1 / 16])
    pooler = RoIOpPooler("RoIPool", (7, 7), PYRAMID)
    assert isinstance(pooler.level_poolers[0], RoIPool)
    with pytest.raises(ValueError, match="reads 4 feature maps, not 3"):
        pooler(maps(PYRAMID[:3], images=1), some_boxes(2))
    with pytest.raises(ValueError, match="those of 1 images, the features of 2"):
        pooler(maps(PYRAMID, images=2), some_boxes(2))
