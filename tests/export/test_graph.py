"""The graph that is exported: what it computes itself, and that it says what the model says."""

from maskrcnn_repro.errors import ExportError
from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.export.keypoints import decode_keypoints
from maskrcnn_repro.export.pasting import paste
from maskrcnn_repro.export.pooling import ExportPooler
from maskrcnn_repro.export.proposals import BoxDecoder, clip, suppress
from maskrcnn_repro.export.verify import LIMITS, reference
from maskrcnn_repro.roi_ops import RoIOpPooler

import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, heatmaps_to_keypoints
from torch import nn

from tests.helpers.tiny_models import given_proposals, picture, tiny_model
from tests.helpers.tiny_predictor import TORCHVISION


def test_a_mask_is_pasted_by_hand():
    # Cells have their values at 1 and 3; pixel centres lie at 0.5, 1.5, 2.5, 3.5.
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    pasted = paste(mask, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([4, 5]), threshold=0.7)
    # Down: 0.75, 1, 1, 0.75; across: 0.75, 0.75, 0.25, 0, 0. Only products of 0.75 and 1 reach 0.7.
    assert pasted.int().tolist() == [[[0] * 5, [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5]]


def test_pasting_is_detectron2s():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 7, 7, generator=generator)
    boxes = given_proposals((40, 50)).proposal_boxes.tensor
    expected = paste_masks_in_image(masks, boxes, (40, 50))
    assert expected.any()
    assert torch.equal(paste(masks, boxes, torch.tensor([40, 50])), expected)


def test_keypoints_are_detectron2s():
    heatmaps = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    boxes = given_proposals((40, 50)).proposal_boxes.tensor
    points = decode_keypoints(heatmaps, boxes)
    torch.testing.assert_close(points, heatmaps_to_keypoints(heatmaps, boxes)[:, :, [0, 1, 3]])
    assert decode_keypoints(heatmaps[:0], boxes[:0]).shape == (0, 3, 3)


@pytest.mark.parametrize(
    "name", ["RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve"]
)
@pytest.mark.parametrize("half_pixel", [False, True])
def test_any_operation_pools_the_same(name, half_pixel):
    pooler = RoIOpPooler(name, (3, 3), [1 / 4, 1 / 8], half_pixel=half_pixel, canonical_box_size=32)
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 2, side, side + 2, generator=generator) for side in (16, 8)]
    boxes = given_proposals((64, 72), count=9).proposal_boxes.tensor
    # One side on the border of the image, where a shift of half a cell makes halves.
    boxes[0, :2] = 0.0
    pooled = ExportPooler(pooler)(maps, boxes)
    # Weights of a sample are sums and differences of its coordinates, in another order each.
    torch.testing.assert_close(pooled, pooler(maps, [Boxes(boxes)]), rtol=0, atol=1e-5)


def test_decoding_and_clipping_are_detectron2s():
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    boxes = given_proposals().proposal_boxes.tensor
    deltas = 9 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    moved = BoxDecoder(transform)(deltas, boxes)
    assert torch.equal(moved, transform.apply_deltas(deltas, boxes))
    clipped = Boxes(moved.clone())
    clipped.clip((64, 80))
    assert torch.equal(clip(moved, (64, 80)), clipped.tensor)


def test_nms_of_nothing_is_nothing():
    assert suppress(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    pair = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    assert suppress(pair, torch.tensor([-2.0, -1.0]), 0.5).tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("mask", {}), ("keypoint", {}), ("c4", {}), ("box", {}), ("mask", TORCHVISION)],
)
def test_the_graph_says_what_the_model_says(kind, keys):
    model = tiny_model(kind, **keys)
    graph = ExportGraph(model, threshold=0.0)
    for size, wanted in (((64, 80), (64, 80)), ((50, 97), (100, 190))):
        model_input = picture(size, height=wanted[0], width=wanted[1])
        expected = reference(model, model_input)
        image = model_input["image"].flip(0).permute(1, 2, 0)
        outputs = dict(zip(graph.outputs, graph(image, torch.tensor(wanted)), strict=True))
        assert outputs.keys() == expected.keys()
        assert len(expected["scores"])
        for name, array in expected.items():
            assert outputs[name].shape == array.shape, name
            # Scores of keypoints of an untrained model are of any size.
            difference = (outputs[name][..., :2] - torch.from_numpy(array)[..., :2]).abs().max()
            assert difference <= LIMITS.get(name, 0), name


def test_no_detection_gives_outputs_of_no_rows():
    graph = ExportGraph(tiny_model("both"), threshold=1.0, pasted=True)
    image = torch.zeros(64, 80, 3, dtype=torch.uint8)
    shapes = [tuple(output.shape) for output in graph(image, torch.tensor([32, 40]))]
    assert shapes == [(0, 4), (0,), (0,), (0, 8, 8), (0, 32, 40), (0, 3, 3)]


def test_other_models_are_refused():
    with pytest.raises(ExportError, match="A Linear cannot be exported"):
        ExportGraph(nn.Linear(1, 1), threshold=0.5)
    model = tiny_model("mask")
    model.roi_heads.box_predictor.__class__ = type(
        "Own", (FastRCNNOutputLayers,), {"inference": lambda *_: None}
    )
    with pytest.raises(ExportError, match="Own cannot be exported: its inference is not that of"):
        ExportGraph(model, threshold=0.5)
    model = tiny_model("mask", **{"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals"})
    with pytest.raises(ExportError, match="without a region proposal network"):
        ExportGraph(model, threshold=0.5)
