"""What holds for each head of the family and for heads together: training, several views, export."""

from maskrcnn_repro import BACKEND
from maskrcnn_repro.config import load_config
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.modeling.tta import TestTimeAugmentation

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.family import (
    test_boundary_preserving,
    test_cascade,
    test_mask_scoring,
    test_panet,
    test_point_rend,
)
from tests.helpers.exports import export_tiny_model
from tests.helpers.tiny_models import assert_same, picture, tiny_config, tiny_model
from tests.helpers.tiny_predictor import write_pictures, write_tiny_model

MODULES = {
    "cascade": [test_cascade],
    "point_rend": [test_point_rend],
    "mask_scoring": [test_mask_scoring],
    "boundary_preserving": [test_boundary_preserving],
    "panet": [test_panet],
    "cascade_point_rend": [test_cascade, test_point_rend],
    "cascade_boundary_preserving": [test_cascade, test_boundary_preserving],
    "cascade_mask_scoring": [test_cascade, test_mask_scoring],
}
TOGETHER = [name for name, modules in MODULES.items() if len(modules) > 1]
SIZE = (64, 96)


def keys(name):
    """The config keys of tiny heads, as in the tests of each."""
    parts = [module.KEYS for module in MODULES[name]]
    merged = {key: value for part in parts for key, value in part.items()}
    return merged | {"PLUGINS": tuple(plugin for part in parts for plugin in part["PLUGINS"])}


def augmented(model, min_sizes, *, flip):
    return TestTimeAugmentation(
        model=model,
        min_sizes=min_sizes,
        max_size=200,
        flip=flip,
        nms_threshold=0.5,
        max_detections=5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_one_view_is_the_same_to_the_last_bit_as_none(name):
    model, given = tiny_model("mask", **keys(name)), picture(SIZE)
    with torch.no_grad():
        (expected,) = model([given])
    (output,) = augmented(model, (0,), flip=False)([given])
    assert len(expected["instances"]) > 1
    assert_same(output["instances"], expected["instances"])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_mirrored_image_has_mirrored_results(name):
    model, given = tiny_model("mask", **keys(name)), picture(SIZE)
    # Probabilities of cells: most masks of random weights are empty.
    model.postprocess = lambda instances, _: {"instances": instances}
    wrapped = augmented(model, (64, 96), flip=True)
    (upright,) = wrapped([given])
    (mirrored,) = wrapped([{"image": given["image"].flip(dims=[2])}])
    upright, mirrored = upright["instances"], mirrored["instances"]
    assert len(upright) == 5
    torch.testing.assert_close(mirrored.scores, upright.scores)
    if "mask_scoring" in name:
        assert (upright.mask_scores != upright.scores).all()
        torch.testing.assert_close(mirrored.mask_scores, upright.mask_scores)
    assert upright.pred_masks.std() > 1e-3
    torch.testing.assert_close(mirrored.pred_masks.flip(dims=[3]), upright.pred_masks)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND.name != "installed", reason="the embedded subset has our class alone")
@pytest.mark.parametrize("name", MODULES)
def test_detectron2_s_own_class_of_several_views_takes_the_heads(name):
    from detectron2.modeling import GeneralizedRCNNWithTTA

    cfg = tiny_config("mask", **keys(name))
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (64, 96), 200
    theirs = GeneralizedRCNNWithTTA(cfg, tiny_model("mask", **keys(name)))
    with torch.no_grad():
        (output,) = theirs([picture(SIZE, height=SIZE[0], width=SIZE[1])])
    assert len(output["instances"]) == len(output["instances"].pred_masks) == 5


def test_a_mask_s_score_in_several_views_is_the_mean():
    model, given = tiny_model("mask", **keys("mask_scoring")), picture(SIZE)
    both = augmented(model, (0,), flip=True)
    heads, seen = model.roi_heads, []
    run = heads.forward_with_given_boxes

    def spy(features, instances):
        results = run(features, instances)
        seen.extend(image.mask_scores for image in results if image.has("mask_scores"))
        return results

    heads.forward_with_given_boxes = spy
    (output,) = both([given])
    assert torch.equal(output["instances"].mask_scores, (seen[0] + seen[1]) / 2)
    assert not torch.equal(*seen)


def sample():
    objects = Instances(SIZE, gt_boxes=Boxes([[20.0, 10, 80, 60], [5, 5, 40, 50]]))
    objects.gt_classes = torch.tensor([1, 2])
    objects.gt_masks = BitMasks(torch.ones(2, *SIZE, dtype=torch.bool))
    return picture(SIZE, instances=objects)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_heads_together_learn_and_predict(name, tmp_path):
    model = tiny_model("mask", **keys(name)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {k: p.detach().clone() for k, p in model.named_parameters() if p.requires_grad}
    with EventStorage():
        for _ in range(2):
            losses = model([sample()])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    losses_of = {"point": "loss_mask_point", "scoring": "loss_maskiou", "boundary": "loss_boundary"}
    further = {loss for part, loss in losses_of.items() if part in name}
    stages = {f"loss_{part}_stage{k}" for part in ("cls", "box_reg") for k in range(3)}
    assert losses.keys() == stages | further | {"loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    stayed = [k for k, p in model.named_parameters() if k in before and torch.equal(before[k], p)]
    assert stayed == []
    source = write_tiny_model(tmp_path, "mask", **keys(name))
    (image,) = write_pictures(tmp_path / "pictures", [SIZE])
    prediction = Predictor(source, threshold=None, device="cpu")(image)
    assert len(prediction) == 5
    assert (prediction.mask_scores is None) == ("scoring" not in name)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.parametrize("name", TOGETHER)
def test_heads_together_are_exported(tmp_path, name, form):
    export_tiny_model(tmp_path, "mask", form, keys(name))


@pytest.mark.parametrize(
    ("mask_head", "section"), [("point_rend", "POINT_HEAD"), ("mask_scoring", "ROI_MASKIOU_HEAD")]
)
def test_configs_of_heads_together_have_the_keys_of_each(mask_head, section):
    folder = test_cascade.CONFIG.parents[1]
    both, cascade, alone = (
        load_config(folder / file).MODEL
        for file in (
            f"cascade/with_{mask_head}.yaml",
            "cascade/config.yaml",
            f"{mask_head}/config.yaml",
        )
    )
    assert both.ROI_HEADS == cascade.ROI_HEADS
    assert both.ROI_BOX_CASCADE_HEAD == cascade.ROI_BOX_CASCADE_HEAD
    assert both.ROI_MASK_HEAD == alone.ROI_MASK_HEAD
    assert both[section] == alone[section]
