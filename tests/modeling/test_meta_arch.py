"""MaskRCNN: Detectron2's numbers with its defaults; precision, memory layout, masks as RLE, images kept."""

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.meta_arch import MaskRCNN, in_float32, postprocess_to_rles
from maskrcnn_repro.modeling.rle import RLEMasks

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances, ROIMasks

from tests.helpers.tiny_models import (
    KINDS,
    SIZE,
    assert_same,
    given_proposals,
    picture,
    tiny_config,
    tiny_model,
)

STORED = {"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals", "MODEL.LOAD_PROPOSALS": True}
RLE = {"MODEL.INFERENCE.MASK_OUTPUT": "rle"}


def batch(stored=False):
    """Two images of different size, one with results wanted in another."""
    first, second = picture(height=100, width=120), picture((50, 60))
    if stored:
        first["proposals"], second["proposals"] = given_proposals(), given_proposals((50, 60), 4)
    return [first, second]


@torch.no_grad()
def detect(model, inputs):
    return [output["instances"] for output in model(inputs)]


def bitmaps_in(instances):
    """The instances with RLEs decoded."""
    fields = dict(instances.get_fields())
    if isinstance(fields.get("pred_masks"), RLEMasks):
        fields["pred_masks"] = fields["pred_masks"].to_bitmaps()
    return Instances(instances.image_size, **fields)


# --- values by hand


def test_an_rle_is_pasted_at_the_size_that_is_wanted():
    # Twice as high and three times as wide; the second box lies outside of the image.
    instances = Instances((10, 20), scores=torch.tensor([0.9, 0.8]))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2, 3, 4], [21, 0, 25, 9]]))
    instances.pred_masks = torch.ones(2, 1, 4, 4)
    scaled = postprocess_to_rles(instances, 20, 60)
    assert scaled.pred_boxes.tensor.tolist() == [[3, 4, 9, 8]]
    expected = torch.zeros(20, 60, dtype=torch.bool)
    expected[4:8, 3:9] = True
    assert torch.equal(scaled.pred_masks.to_bitmaps(), expected[None])
    instances.pred_masks = ROIMasks(torch.ones(2, 4, 4))
    assert len(postprocess_to_rles(instances, 10, 20).pred_masks) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_numbers_of_any_precision_become_float32_and_nothing_else_changes(dtype):
    instances = Instances((10, 20), scores=torch.tensor([0.5, 0.25], dtype=dtype))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2, 3, 4], [21, 0, 25, 9]]))
    instances.pred_classes, instances.kept = torch.tensor([3, 1]), torch.tensor([True, False])
    instances.names = ["a", "b"]
    wide = in_float32(instances)
    assert wide.image_size == (10, 20)
    assert wide.scores.dtype == torch.float32
    assert wide.scores.tolist() == [0.5, 0.25]
    assert wide.pred_classes.dtype == torch.int64
    assert wide.kept.dtype == torch.bool
    assert wide.pred_boxes is instances.pred_boxes
    assert wide.names == ["a", "b"]


# --- agreement with Detectron2's architecture


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_are_detectron2s_numbers_and_rles_have_the_same_pixels(kind, stored):
    keys = STORED if stored else {}
    reference = tiny_model(kind, **keys, **{"MODEL.META_ARCHITECTURE": "GeneralizedRCNN"})
    assert type(reference) is GeneralizedRCNN
    expected = detect(reference, batch(stored))
    assert all(len(instances) > 1 for instances in expected)
    for output in ({}, RLE):
        model = tiny_model(kind, **keys, **output)
        assert model.state_dict().keys() == reference.state_dict().keys()
        for instances, wanted in zip(detect(model, batch(stored)), expected, strict=True):
            assert isinstance(instances.get_fields().get("pred_masks"), RLEMasks) == bool(
                output and kind in ("mask", "both", "c4")
            )
            assert_same(bitmaps_in(instances), wanted)


@pytest.mark.parametrize("kind", ["both", "c4"])
def test_masks_and_keypoints_of_given_boxes_are_detectron2s(kind):
    results = []
    for name in ("GeneralizedRCNN", "MaskRCNN"):
        model = tiny_model(kind, **{"MODEL.META_ARCHITECTURE": name})
        boxes = Instances(SIZE, pred_boxes=given_proposals().proposal_boxes)
        boxes.pred_classes = torch.arange(6) % 3
        with torch.no_grad():
            [raw] = model.inference([picture()], [boxes], do_postprocess=False)
        results.append(raw)
    assert results[0].pred_masks.shape[:2] == (6, 1)
    assert_same(*results)


# --- precision and layout


@pytest.mark.parametrize("kind", ["both", "c4"])
def test_results_of_reduced_precision_are_float32_and_near(kind):
    [expected] = detect(tiny_model(kind, **STORED), [picture(proposals=given_proposals())])
    model = tiny_model(kind, **STORED, **{"MODEL.INFERENCE.PRECISION": "bfloat16"})
    seen = []
    model.backbone.register_forward_hook(lambda *call: seen.append(next(iter(call[2].values()))))
    [instances] = detect(model, [picture(proposals=given_proposals())])
    assert seen[0].dtype == torch.bfloat16
    for name, value in instances.get_fields().items():
        tensor = value.tensor if isinstance(value, Boxes) else value
        assert tensor.dtype in (torch.float32, torch.int64, torch.bool), name
    torch.testing.assert_close(instances.scores, expected.scores, atol=0.02, rtol=0)
    # 8 bits of precision would leave these on a grid of 1/256 or coarser.
    assert (instances.scores * 1024 % 1 != 0).all()


def test_masks_of_a_head_that_answers_in_reduced_precision_are_float32():
    keys = {
        "MODEL.INFERENCE.PRECISION": "bfloat16",
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    }
    with torch.no_grad():
        [instances] = tiny_model(**keys).inference([picture()], do_postprocess=False)
    assert len(instances) > 0
    assert instances.pred_masks.dtype == torch.float32


def test_training_is_not_touched_by_the_precision_of_inference(storage):
    truth = Instances(SIZE, gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 40]])))
    truth.gt_classes = torch.zeros(1, dtype=torch.long)
    losses = []
    for precision in ("float32", "bfloat16"):
        model = tiny_model("box", **{"MODEL.INFERENCE.PRECISION": precision}).train()
        torch.manual_seed(0)
        losses.append(model([picture(instances=truth)]))
    assert losses[0]["loss_cls"] > 0
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["both", "c4"])
def test_channels_last_applies_to_weights_and_images_and_changes_only_rounding(kind):
    [expected] = detect(tiny_model(kind), [picture()])
    model = tiny_model(kind, **{"MODEL.CHANNELS_LAST": True})
    images = model.preprocess_image([picture()]).tensor
    weights = [p for p in model.parameters() if p.dim() == 4]
    assert weights
    for tensor in (images, *weights):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    [instances] = detect(model, [picture()])
    torch.testing.assert_close(instances.scores, expected.scores)
    torch.testing.assert_close(instances.pred_boxes.tensor, expected.pred_boxes.tensor)


# --- images, empty results, mistakes


def test_images_are_kept_where_asked_for():
    inputs = batch()
    outputs = tiny_model(**{"MODEL.INFERENCE.KEEP_IMAGES": True})(inputs)
    assert all(out["image"] is given["image"] for out, given in zip(outputs, inputs, strict=True))
    assert all(set(output) == {"instances"} for output in tiny_model()(inputs))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_proposals_give_no_detections(kind, precision):
    model = tiny_model(kind, **STORED, **RLE, **{"MODEL.INFERENCE.PRECISION": precision})
    [instances] = detect(model, [picture(proposals=given_proposals(count=0))])
    assert len(instances) == 0
    if instances.has("pred_masks"):
        assert instances.pred_masks.image_size == SIZE
        assert instances.pred_masks.to_bitmaps().shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.INFERENCE.PRECISION": "bfloat"}, r"PRECISION 'bfloat' .*mean 'bfloat16'"),
        ({"MODEL.INFERENCE.MASK_OUTPUT": "png"}, r"MASK_OUTPUT 'png' .*may be bitmap, rle"),
        (
            {
                "MODEL.INFERENCE.PRECISION": "float16",
                "MODEL.ROI_KEYPOINT_HEAD.NAME": "KRCNNConvDeconvUpsampleHead",
            },
            r"'float16' would round keypoints .*'FCNKeypointHead'",
        ),
    ],
)
def test_what_cannot_be_is_told(keys, message):
    with pytest.raises(ConfigError, match=message):
        build_model(tiny_config("keypoint", **keys))


def test_it_is_built_by_keywords_too():
    parts = {"backbone": None, "proposal_generator": None, "roi_heads": None}
    model = MaskRCNN(**parts, pixel_mean=[1.0], pixel_std=[1.0], precision="float16")
    assert (model.precision, model.mask_output) == (torch.float16, "bitmap")
