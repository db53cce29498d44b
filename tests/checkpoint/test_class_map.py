"""Weights for other classes: rows by hand, equal scores of equal classes, from one training into the next."""

import json

from maskrcnn_repro.checkpoint.class_map import map_classes, mapped_weights
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import check_registered
from maskrcnn_repro.data.cityscapes import CLASSES
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import CheckpointError, ConfigError, DataError

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from torch.testing import assert_close

from tests.helpers.tiny_coco import command_line, write_tiny_coco

BOX, MASK = "roi_heads.box_predictor.", "roi_heads.mask_head.predictor."


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def predictors(classes, agnostic=False):
    """Last layers as COCO's Mask R-CNN has them, each row filled with numbers of its own."""
    rows = {"cls_score": classes + 1, "bbox_pred": 4 if agnostic else 4 * classes}
    state = {}
    for name, count in rows.items():
        state[f"{BOX}{name}.weight"] = torch.randn(count, 5)
        state[f"{BOX}{name}.bias"] = torch.randn(count)
    masks = 1 if agnostic else classes
    state[f"{MASK}weight"] = torch.randn(masks, 6, 1, 1)
    state[f"{MASK}bias"] = torch.randn(masks)
    return {**state, "backbone.conv.weight": torch.randn(3, 3)}


# --- rows


def test_rows_of_classes_that_stay_by_hand():
    state = predictors(2)
    new = map_classes(state, ["cat", "dog"], ["dog", "emu"], rng())
    for kind in ("weight", "bias"):
        score, box, mask = (f"{BOX}cls_score.{kind}", f"{BOX}bbox_pred.{kind}", f"{MASK}{kind}")
        assert_close(
            new[score][[0, 2]], state[score][[1, 2]]
        )  # dog, and the background as the last
        assert_close(new[box][:4], state[box][4:])
        assert_close(new[mask][0], state[mask][1])
        assert [len(new[name]) for name in (score, box, mask)] == [3, 8, 2]
    assert new["backbone.conv.weight"] is state["backbone.conv.weight"]


def test_coco_to_cityscapes_copies_seven_classes():
    coco = MetadataCatalog.get("coco_2017_train").thing_classes
    state = predictors(80)
    new = map_classes(state, coco, list(CLASSES.values()), rng())
    assert new[f"{BOX}cls_score.weight"].shape == (9, 5)
    for index, name in enumerate(CLASSES.values()):
        row = new[f"{MASK}weight"][index]
        if name == "rider":
            assert not any(torch.equal(row, old) for old in state[f"{MASK}weight"])
        else:
            assert torch.equal(row, state[f"{MASK}weight"][coco.index(name)])


def test_new_rows_have_mean_and_deviation_of_the_old_and_follow_the_generator():
    state = {"cls_score.weight": 3 + 0.2 * torch.randn(3, 40_000)}
    new = map_classes(state, ["cat", "dog"], ["cat", "emu"], rng(1))["cls_score.weight"][1]
    assert new.mean() == pytest.approx(3, abs=0.01)
    assert new.std() == pytest.approx(0.2, abs=0.01)
    same, other = (
        map_classes(state, ["cat", "dog"], ["cat", "emu"], rng(s))["cls_score.weight"][1]
        for s in (1, 2)
    )
    assert torch.equal(new, same)
    assert not torch.equal(new, other)


def test_layers_that_do_not_tell_classes_apart_stay():
    state = predictors(3, agnostic=True)
    new = map_classes(state, ["a", "b", "c"], ["c", "d"], rng())
    changed = {name for name in state if new[name] is not state[name]}
    assert changed == {f"{BOX}cls_score.weight", f"{BOX}cls_score.bias"}


def test_masks_with_background_and_masks_of_an_mlp():
    score = {"cls_score.bias": torch.zeros(4)}
    names = ["a", "b", "c"]
    competing = torch.arange(4.0)
    new = map_classes({**score, "predictor.bias": competing}, names, ["c", "a"], rng())
    assert new["predictor.bias"].tolist() == [2, 0, 3]
    cells = torch.arange(3 * 9.0)
    new = map_classes({**score, "predictor.bias": cells}, names, ["c", "a"], rng())
    assert new["predictor.bias"].tolist() == [*range(18, 27), *range(9)]


# --- predictions


@pytest.mark.parametrize("target", [["c", "a", "b"], ["b", "d", "a", "e"]])
def test_classes_that_stay_are_scored_as_before(target):
    source = ["a", "b", "c"]
    old, new = predictor(len(source)), predictor(len(target))
    new.load_state_dict(map_classes(old.state_dict(), source, target, rng()))
    features = torch.randn(6, 7)
    scores, boxes = old(features)
    new_scores, new_boxes = new(features)
    assert_close(new_scores[:, -1], scores[:, -1])
    for index, name in enumerate(target):
        if name in source:
            place = source.index(name)
            assert_close(new_scores[:, index], scores[:, place])
            assert_close(
                new_boxes[:, 4 * index : 4 * index + 4], boxes[:, 4 * place : 4 * place + 4]
            )


def predictor(classes):
    cfg = get_config()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    return FastRCNNOutputLayers(cfg, ShapeSpec(channels=7))


# --- from one training into the next


@pytest.fixture
def two_sets(tmp_path, catalog):
    """Data of discs and bars, and the same with the bars called sticks."""
    first = write_tiny_coco(tmp_path / "first")
    second = write_tiny_coco(tmp_path / "second")
    second[0].write_text(second[0].read_text().replace('"bar"', '"stick"'))
    return first, second


def test_training_starts_from_weights_for_other_classes(two_sets, tmp_path):
    first, second = two_sets
    # A step so small that the weights stay as they were loaded.
    one_step = ["SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "1e-12"]
    assert main(command_line(first, tmp_path / "one", opts=one_step)) == 0
    weights = tmp_path / "one" / "model_final.pth"
    DatasetCatalog.remove("tiny")  # the second training calls its data the same
    MetadataCatalog.remove("tiny")
    options = [
        *one_step,
        *("MODEL.WEIGHTS", str(weights), "MODEL.WEIGHTS_DATASET", "first"),
        *("DATASETS.CUSTOM", repr((("first", str(first[0]), str(first[1])),))),
    ]
    assert main(command_line(second, tmp_path / "two", opts=options)) == 0
    assert "1 of 2 classes start from" in (tmp_path / "two" / "log.txt").read_text()
    old, new = (
        torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"]
        for run in ("one", "two")
    )
    rows = {f"{BOX}cls_score.weight": [0, 2], f"{BOX}bbox_pred.bias": range(4), f"{MASK}bias": [0]}
    for name, tensor in new.items():
        if not any(name.startswith(start) for start in (BOX, MASK)):
            if "running" not in name and "num_batches" not in name:
                assert_close(tensor, old[name], msg=name)
        elif name in rows:
            kept = list(rows[name])
            assert_close(tensor[kept], old[name][kept])
            assert not torch.equal(tensor, old[name])
    assert json.loads((tmp_path / "two" / "results.json").read_text())["iterations"] == 1


# --- mistakes


def test_weights_that_do_not_fit_the_classes():
    with pytest.raises(
        CheckpointError, match=r"cls_score\.bias has 3 rows, .* the 3 classes 'a', 'b', 'c'"
    ):
        map_classes({"cls_score.bias": torch.zeros(3)}, ["a", "b", "c"], ["a"], rng())
    with pytest.raises(CheckpointError, match="have no name in common"):
        map_classes(predictors(2), ["a", "b"], ["c"], rng())
    with pytest.raises(CheckpointError, match="no layer 'cls_score': they are of no detector"):
        map_classes({"backbone.conv.weight": torch.zeros(3)}, ["a"], ["a"], rng())


def test_config_without_weights_or_with_an_unknown_data_set():
    cfg = get_config()
    cfg.MODEL.WEIGHTS_DATASET = "coco_2017_trian"
    with pytest.raises(
        DataError, match=r"MODEL\.WEIGHTS_DATASET: .*_trian' is not .*'coco_2017_train'"
    ):
        check_registered(cfg)
    with pytest.raises(ConfigError, match=r"whose classes MODEL\.WEIGHTS have, .* is empty; name"):
        mapped_weights(cfg)


def test_what_is_class_agnostic_is_said_by_the_config_where_sizes_could_mean_both():
    """Of one class four rows of boxes are both; of four classes 4 * 14 * 14 cells of masks are."""
    state = predictors(1)
    known = map_classes(state, ["cat"], ["dog", "cat"], rng(), ())
    assert known[f"{BOX}bbox_pred.weight"].shape == (8, 5)
    assert torch.equal(known[f"{BOX}bbox_pred.weight"][4:], state[f"{BOX}bbox_pred.weight"])
    assert torch.equal(
        map_classes(state, ["cat"], ["dog", "cat"], rng(), {"bbox_pred"})[f"{BOX}bbox_pred.weight"],
        state[f"{BOX}bbox_pred.weight"],
    )
    cells = torch.randn(4 * 14 * 14)
    score = {"cls_score.bias": torch.zeros(5), "predictor.bias": cells}
    names = ["a", "b", "c", "d"]
    assert torch.equal(
        map_classes(score, names, ["a", "b"], rng(), {"predictor"})["predictor.bias"], cells
    )
    assert len(map_classes(score, names, ["a", "b"], rng(), ())["predictor.bias"]) == 2 * 14 * 14
    with pytest.raises(CheckpointError, match="has 4 rows, which does not fit the 2 classes"):
        map_classes(predictors(2, agnostic=True), ["a", "b"], ["a"], rng(), ())
