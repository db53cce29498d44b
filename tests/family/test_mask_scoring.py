"""Mask Scoring R-CNN: values by hand, equivalences, the authors' numbers, no objects, mistakes."""

import json
from pathlib import Path

from maskrcnn_repro.analysis.evaluation_set import read_set
from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.modeling.mask_head.targets import mask_targets

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.mask_scoring.head import maskiou_loss
from maskrcnn_family.mask_scoring.targets import iou_targets, visible_fractions
from tests.family import mask_scoring_parity
from tests.helpers.exports import export_tiny_model
from tests.helpers.tiny_coco import command_line, write_tiny_coco
from tests.helpers.tiny_predictor import write_pictures, write_tiny_model

CONFIG = Path(maskrcnn_family.__file__).parent / "mask_scoring" / "config.yaml"
SIZE = (64, 64)


def head(name="FamilyMaskScoringHead", channels=4, side=4, **changes):
    """A small head of 3 classes on RoIs of few cells."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    values = {
        "ROI_HEADS.NUM_CLASSES": 3,
        "ROI_MASK_HEAD.CONV_DIM": 4,
        "ROI_MASKIOU_HEAD.CONV_DIM": 4,
        "ROI_MASKIOU_HEAD.FC_DIM": 8,
    }
    for key, value in (values | changes).items():
        cfg.merge_from_list([f"MODEL.{key}", value])
    torch.manual_seed(0)
    shape = ShapeSpec(channels=channels, height=side, width=side)
    module = ROI_MASK_HEAD_REGISTRY.get(name)(cfg, shape)
    torch.nn.init.normal_(module.predictor.weight)
    return module


def truth(boxes, polygons, classes):
    image = Instances(SIZE, proposal_boxes=Boxes(torch.tensor(boxes).view(-1, 4)))
    image.gt_classes = torch.tensor(classes, dtype=torch.int64)
    image.gt_masks = PolygonMasks(polygons)
    return image


def detections(count, first=0):
    boxes = Boxes(torch.tensor([[4.0, 6.0, 40.0, 50.0]]).repeat(count, 1))
    classes, scores = torch.arange(first, first + count) % 3, 0.9 - 0.1 * torch.arange(count)
    return Instances(SIZE, pred_boxes=boxes, pred_classes=classes, scores=scores)


SQUARE = [[10.0, 10, 20, 10, 20, 20, 10, 20]]


def test_what_the_roi_does_not_show_of_an_object_counts_in_its_union():
    predicted, shown = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    predicted[0, :, :2] = True
    shown[0, :, 1:] = True
    # 8 cells predicted, 12 of the object shown, 4 common: 4 / (8 + 12 - 4), or with twice the object 4 / (8 + 24 - 4).
    assert iou_targets(predicted, shown, torch.tensor([1.0])).item() == 4 / 16
    assert iou_targets(predicted, shown, torch.tensor([0.5])).item() == pytest.approx(4 / 28)
    assert iou_targets(predicted & False, shown & False, torch.zeros(1)).item() == 0


@pytest.mark.parametrize("kind", ["polygon", "bitmask"])
def test_a_roi_shows_four_of_ten_columns_of_an_object(kind):
    image = truth([[16.0, 5, 40, 30], [0, 0, 64, 64], [30, 30, 60, 60]], [SQUARE] * 3, [0] * 3)
    if kind == "bitmask":
        image.gt_masks = BitMasks.from_polygon_masks(image.gt_masks, *SIZE)
    assert visible_fractions([image]).tolist() == pytest.approx([0.4, 1, 0])


def test_the_loss_is_half_the_mean_square_where_the_mask_meets_its_object():
    predicted, targets = torch.tensor([0.5, 0.9, 0.3]), torch.tensor([1.0, 0, 0.1])
    assert maskiou_loss(predicted, targets).item() == pytest.approx((0.25 + 0.04) / 2 / 2)


def test_a_mask_s_score_is_its_box_s_times_the_predicted_iou_and_boxes_keep_theirs():
    module = head().eval()
    torch.nn.init.zeros_(module.maskiou_head.maskiou.weight)
    module.maskiou_head.maskiou.bias.data = torch.tensor([0.5, 0.25, 1.0])
    with torch.no_grad():
        (image,) = module(torch.randn(3, 4, 4, 4), [detections(3)])
    assert image.mask_scores.tolist() == pytest.approx([0.9 * 0.5, 0.8 * 0.25, 0.7 * 1.0])
    assert image.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_masks_and_their_loss_are_the_parent_s():
    module, parent = head(), head("FCNMaskHead")
    parent.load_state_dict(module.state_dict(), strict=False)
    x = torch.randn(2, 4, 4, 4)
    image = truth([[8.0, 8, 24, 24], [4, 4, 18, 18]], [SQUARE] * 2, [2, 0])
    with EventStorage():
        ours, theirs = module(x, [image]), parent(x, [image])
    assert ours["loss_mask"] == theirs["loss_mask"]
    assert ours["loss_maskiou"] > 0
    masks = [m.eval()(x, [detections(2)])[0].pred_masks for m in (module, parent)]
    assert torch.equal(*masks)


def test_a_batch_is_its_images_one_by_one():
    module, x = head().eval(), torch.randn(3, 4, 4, 4)
    with torch.no_grad():
        both = module(x, [detections(2), detections(1, first=2)])
        (alone,) = module(x[2:], [detections(1, first=2)])
    assert torch.allclose(alone.mask_scores, both[1].mask_scores, atol=1e-6)


def test_gradients_are_those_of_differences():
    module = head().maskiou_head.double()
    torch.nn.init.normal_(module.maskiou.weight)
    rois, masks = torch.randn(2, 4, 4, 4).double(), torch.rand(2, 8, 8).double()
    targets = torch.tensor([0.4, 0.7]).double()

    def loss(rois, masks):
        return maskiou_loss(module(rois, masks)[:, 1], targets)

    assert torch.autograd.gradcheck(loss, (rois.requires_grad_(), masks.requires_grad_()))


def test_targets_are_the_authors():
    image, (_, logits) = mask_scoring_parity.proposals(), mask_scoring_parity.case()
    shown = mask_targets([image], 28)
    predicted = logits[range(5), image.gt_classes] > 0
    targets = iou_targets(predicted, shown, visible_fractions([image]))
    assert targets.tolist() == pytest.approx(mask_scoring_parity.stored()["targets"])


@pytest.mark.slow
def test_all_numbers_are_the_authors():
    wide = {"ROI_MASKIOU_HEAD.CONV_DIM": 256, "ROI_MASKIOU_HEAD.FC_DIM": 1024}
    module = head(channels=256, side=14, **wide)
    mask_scoring_parity.fill(module.maskiou_head)
    ours, theirs = mask_scoring_parity.measure(module), mask_scoring_parity.stored()
    for name, expected in theirs.items():
        assert ours[name] == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def test_without_objects_losses_are_zero_and_all_parameters_have_gradients():
    module = head().train()
    with EventStorage():
        losses = module(torch.randn(0, 4, 4, 4), [truth([], [], [])])
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_detections_there_are_no_scores():
    with torch.no_grad():
        (image,) = head().eval()(torch.zeros(0, 4, 4, 4), [detections(0)])
    assert image.mask_scores.shape == (0,)


KEYS = {
    "PLUGINS": ("maskrcnn_family.mask_scoring",),
    "MODEL.ROI_MASK_HEAD.NAME": "FamilyMaskScoringHead",
    "MODEL.ROI_MASKIOU_HEAD.CONV_DIM": 8,
    "MODEL.ROI_MASKIOU_HEAD.FC_DIM": 8,
}


@pytest.mark.slow
def test_the_head_learns_which_masks_are_good():
    module = head(**{"ROI_MASKIOU_HEAD.CONV_DIM": 16, "ROI_MASKIOU_HEAD.FC_DIM": 32})
    # Features show the object, and masks are it, shifted by 0, 2 or 4 cells (what is pooled has half as many).
    image = truth([[10.0, 10, 26, 26]] * 24, [SQUARE] * 24, list(range(3)) * 8)
    shown = mask_targets([image], 8)
    x = torch.nn.functional.max_pool2d(shown.float()[:, None], 2).repeat(1, 4, 1, 1)
    shifted = [mask.roll(2 * (number // 3 % 3), 1) for number, mask in enumerate(shown)]
    logits = (6 * torch.stack(shifted).float() - 3)[:, None].repeat(1, 3, 1, 1)
    optimizer = torch.optim.Adam(module.maskiou_head.parameters(), lr=1e-2)
    for _ in range(100):
        with EventStorage():
            loss = module.losses(x, logits, shown, [image])["loss_maskiou"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        ious = module.mask_ious(x, logits[:, 0].sigmoid(), image.gt_classes)
    overlap = [float((a & b).sum() / (a | b).sum()) for a, b in zip(shifted, shown, strict=True)]
    assert max(overlap) - min(overlap) > 0.5
    assert ious.tolist() == pytest.approx(overlap, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_model_s_masks_and_scores(tmp_path, form):
    comparison, weights, out = export_tiny_model(tmp_path, "mask", form, KEYS)
    assert comparison.largest["mask_scores"] < 1e-4
    (picture,) = write_pictures(tmp_path / "pictures", [(64, 80)])
    model, file = (
        Predictor(path, threshold=None, device="cpu", trust=True)(picture)
        for path in (weights, out)
    )
    assert (file.mask_scores != file.scores).all()
    assert file.mask_scores == pytest.approx(model.mask_scores, abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_prediction_has_scores_of_masks(tmp_path, precision):
    source = write_tiny_model(tmp_path, "mask", **KEYS)
    (picture,) = write_pictures(tmp_path / "pictures", [(64, 80)])
    predictor = Predictor(source, threshold=None, device="cpu", precision=precision, fast=True)
    prediction = predictor(picture)
    assert prediction.mask_scores.shape == prediction.scores.shape == (5,)
    assert prediction[1:3].mask_scores.tolist() == prediction.mask_scores[1:3].tolist()
    entries = prediction.to_coco(1)
    assert [e["mask_score"] for e in entries] == prediction.mask_scores.tolist()
    assert [e["score"] for e in entries] == prediction.scores.tolist()


@pytest.mark.slow
def test_a_run_ranks_masks_by_their_scores_in_every_evaluation(tmp_path):
    data, output = write_tiny_coco(tmp_path / "data"), tmp_path / "run"
    words = [str(word) for pair in KEYS.items() for word in pair]
    words += ["TEST.BOUNDARY_AP", "True", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    views = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48,64)"]
    results = output / "inference/tiny/coco_instances_results.json"
    seen = []
    for options, more in (((), []), (["--eval-only"], views)):
        assert main(command_line(data, output, *options, opts=words + more)) == 0
        entries = json.loads(results.read_text())
        assert all(entry["mask_score"] != entry["score"] for entry in entries)
        seen.append([entry["mask_score"] for entry in entries])
        metrics = json.loads((output / "results.json").read_text())["metrics"]["tiny"]
        for task in ("bbox", "segm", "boundary"):
            again = match(data[0], results, task).average_precision()["AP"]
            assert metrics[task]["AP"] == pytest.approx(again, nan_ok=True), task
    assert seen[0] != seen[1]
    analysed = {
        task: read_set(data[0], results, data[1], task).detections.scores
        for task in ("bbox", "segm")
    }
    assert sorted(analysed["segm"]) == sorted(seen[1])
    assert sorted(analysed["bbox"]) == sorted(entry["score"] for entry in entries)
