"""PointRend: points and subdivision by hand, equivalences, the authors' numbers, no objects, mistakes."""

from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.point_rend import points as parts
from tests.family import parity
from tests.helpers.exports import export_tiny_model
from tests.helpers.parity import compare

CONFIG = Path(maskrcnn_family.__file__).parent / "point_rend" / "config.yaml"
SIZE = (64, 64)


def head(**changes):
    """A small head of 3 classes on one map of 4 channels and stride 4."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    values = {
        "MODEL.ROI_HEADS.NUM_CLASSES": 3,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 4,
        "MODEL.ROI_MASK_HEAD.FC_DIM": 8,
        "MODEL.POINT_HEAD.FC_DIM": 8,
        "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 2,
        "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 20,
    }
    for key, value in (values | changes).items():
        cfg.merge_from_list([key, value])
    torch.manual_seed(0)
    shapes = {"p2": ShapeSpec(channels=4, stride=4)}
    module = ROI_MASK_HEAD_REGISTRY.get("FamilyPointRendMaskHead")(cfg, shapes)
    for layer in (module.point_head.predictor, module.coarse_head.prediction):
        torch.nn.init.normal_(layer.weight)
    return module


def truth(boxes, classes):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    bitmaps = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    bitmaps[:, 8:40, 8:32] = True
    return Instances(
        SIZE,
        proposal_boxes=boxes,
        gt_boxes=boxes,
        gt_classes=torch.tensor(classes, dtype=torch.int64),
        gt_masks=BitMasks(bitmaps),
    )


def detections(boxes, classes):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    return Instances(SIZE, pred_boxes=boxes, pred_classes=torch.tensor(classes, dtype=torch.int64))


def test_a_point_between_two_cells_is_their_mean_and_a_centre_its_cell():
    grid = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.75, 0.75]]])
    assert parts.sample(grid, points).tolist() == [[[1.0, 2.0, 4.0, 7.0]]]
    assert parts.cell_centres(1, 2, grid.device).tolist() == [
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    ]


def test_a_map_is_read_where_the_box_lies():
    # The middle of the box lies at x = 20, y = 36 px: at stride 4 in the middle between columns 4 and 5, rows 8 and 9.
    level = torch.arange(256.0).view(1, 1, 16, 16)
    box = torch.tensor([[10.0, 32.0, 30.0, 40.0]])
    middle = torch.tensor([[[0.5, 0.5]]])
    (value,) = parts.sample_maps([level], [4], [box], middle).flatten()
    assert value == (8 * 16 + 4 + 9 * 16 + 5) / 2


def test_the_least_certain_cells_are_predicted_anew():
    logits = torch.tensor([[[[4.0, -4.0], [4.0, 4.0]]]])
    finer, cells, centres = parts.refine(logits, 3)
    assert finer.shape == (1, 1, 4, 4)
    expected = (-finer.abs()).flatten().topk(3).indices
    assert cells[0].tolist() == expected.tolist()
    column, row = cells[0, 0] % 4, cells[0, 0] // 4
    assert centres[0, 0].tolist() == [(column + 0.5) / 4, (row + 0.5) / 4]
    assert finer.flatten()[cells[0, 0]].abs() < 1.1


def test_important_points_are_the_least_certain_of_those_drawn():
    logits = torch.linspace(-3, 3, 7).expand(1, 1, 7, 7)
    torch.manual_seed(0)
    points = parts.uncertain_points(logits, 40, oversample=3, important=0.75)
    assert points.shape == (1, 40, 2)
    # The logit is 0 at x = 0.5.
    near = (points[0, :, 0] - 0.5).abs()
    assert near[:30].max() < 0.25
    assert near[30:].max() > 0.3


def test_subdivision_of_all_cells_is_the_point_head_on_the_whole_grid():
    module = head(**{"MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 28 * 28}).eval()
    features = {"p2": torch.randn(1, 4, 16, 16)}
    boxes, classes = [torch.tensor([[4.0, 6.0, 40.0, 50.0]])], torch.tensor([2])
    assert (module.first_side, module.steps) == (28, 0)
    with torch.no_grad():
        masks = module.mask_logits(features, boxes, classes)
        module.first_side, module.steps = 7, 2
        in_steps = module.mask_logits(features, boxes, classes)
    assert torch.allclose(masks, in_steps)


def test_cells_that_are_not_chosen_are_interpolated():
    module = head(**{"MODEL.POINT_HEAD.SUBDIVISION_STEPS": 1}).eval()
    features = {"p2": torch.randn(1, 4, 16, 16)}
    boxes, classes = [torch.tensor([[4.0, 6.0, 40.0, 50.0]])], torch.tensor([1])
    with torch.no_grad():
        masks = module.mask_logits(features, boxes, classes)
        module.steps = 0
        before = module.mask_logits(features, boxes, classes)
    finer = F.interpolate(before[:, None], scale_factor=2, mode="bilinear", align_corners=False)
    assert (masks != finer[:, 0]).sum() == 20


def test_a_batch_is_its_images_one_by_one():
    module = head().eval()
    maps = torch.randn(2, 4, 16, 16)
    images = [([[4, 6, 40, 50], [0, 0, 20, 20]], [1, 2]), ([[8, 8, 60, 60]], [0])]
    with torch.no_grad():
        both = module({"p2": maps}, [detections(*image) for image in images])
        for number, image in enumerate(images):
            (alone,) = module({"p2": maps[number : number + 1]}, [detections(*image)])
            assert torch.allclose(alone.pred_masks, both[number].pred_masks, atol=1e-6)


@pytest.fixture(scope="module")
def pair():
    return parity.measure("point_rend", ours=True), parity.stored("point_rend")


@pytest.mark.slow
def test_parameters_have_the_authors_names(pair):
    assert pair[0]["state"] == pair[1]["state"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["losses", "gradients", "proposals", "detections"])
def test_results_are_the_authors(pair, part):
    assert getattr(compare, part)(pair[0][part], pair[1][part]) == []


def test_without_objects_losses_are_zero_and_all_parameters_have_gradients():
    module = head().train()
    with EventStorage():
        losses = module({"p2": torch.randn(1, 4, 16, 16)}, [truth([], [])])
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_detections_there_are_no_masks():
    with torch.no_grad():
        (image,) = head().eval()({"p2": torch.zeros(1, 4, 16, 16)}, [detections([], [])])
    assert image.pred_masks.shape == (0, 1, 28, 28)


KEYS = {
    "PLUGINS": ("maskrcnn_family.point_rend",),
    "INPUT.MASK_FORMAT": "bitmask",
    "MODEL.ROI_MASK_HEAD.NAME": "FamilyPointRendMaskHead",
    "MODEL.ROI_MASK_HEAD.IN_FEATURES": ("p4",),
    "MODEL.ROI_MASK_HEAD.FC_DIM": 8,
    "MODEL.POINT_HEAD.IN_FEATURES": ("p4", "p5"),
    "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 100,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_model_s_masks(tmp_path, form):
    export_tiny_model(tmp_path, "mask", form, KEYS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MODEL.POINT_HEAD.IN_FEATURES": ("p7",)}, "POINT_HEAD.IN_FEATURES names p7, but .* p2"),
        ({"MODEL.ROI_MASK_HEAD.IN_FEATURES": ("p3", "p9")}, "names p3, p9, but"),
        ({"INPUT.MASK_FORMAT": "polygon"}, "'polygon', but .* set it to 'bitmask'"),
        ({"MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True}, "CLS_AGNOSTIC_MASK True is not for"),
        ({"MODEL.ROI_MASK_HEAD.LOSS": "softmax"}, "LOSS 'softmax' is not for .* at 'sigmoid'"),
        ({"MODEL.ROI_MASK_HEAD.NORM": "GN"}, "NORM 'GN' is not for .* leave it at ''"),
        ({"MODEL.ROI_MASK_HEAD.ROI_OP": "RoIPool"}, "ROI_OP 'RoIPool' is not for"),
        ({"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 1}, "POOLER_RESOLUTION 1 must be at least 2"),
        (
            {"MODEL.POINT_HEAD.SUBDIVISION_STEPS": 10},
            "SUBDIVISION_STEPS 10 makes masks of .* 1024 at most",
        ),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        head(**changes)
