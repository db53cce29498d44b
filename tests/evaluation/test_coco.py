"""Evaluation of a model: what of the config reaches COCO's code."""

from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS
from maskrcnn_repro.evaluation.coco import evaluate

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from torch import nn

from tests.helpers.custom_data import VALID, config, with_keypoints, write_entry


class KeypointsOff(nn.Module):
    """Finds the object of ``with_keypoints`` in image 1, each keypoint some pixels too far right."""

    def __init__(self, pixels):
        super().__init__()
        # COCO's pixel 5 has its centre at 5.5.
        self.keypoints = torch.tensor([[5.5 + pixels, 5.5, 1.0]]).repeat(1, len(COCO_KEYPOINTS), 1)

    def forward(self, batch):
        return [{"instances": self.detect(int(image["image_id"] == 1))} for image in batch]

    def detect(self, count):
        instances = Instances((30, 40), pred_boxes=Boxes([[2.0, 2, 10, 10]] * count))
        instances.scores = torch.ones(count)
        instances.pred_classes = torch.zeros(count, dtype=torch.long)
        instances.pred_keypoints = self.keypoints[:count]
        return instances


class MaskOff(nn.Module):
    """Finds the object of ``VALID``, with a mask some columns too far right."""

    def __init__(self, columns):
        super().__init__()
        self.masks = torch.zeros(1, 30, 40, dtype=torch.bool)
        self.masks[:, 2:10, 2 + columns : 10 + columns] = True

    def forward(self, batch):
        return [{"instances": self.detect(int(image["image_id"] == 1))} for image in batch]

    def detect(self, count):
        instances = Instances((30, 40), pred_boxes=Boxes([[2.0, 2, 10, 10]] * count))
        instances.scores = torch.ones(count)
        instances.pred_classes = torch.ones(count, dtype=torch.long)
        instances.pred_masks = self.masks[:count]
        return instances


@pytest.mark.parametrize(("columns", "mask", "boundary"), [(0, 100.0, 100.0), (1, 60.0, 0.0)])
def test_an_outline_beside_the_object_s_costs_boundary_ap(
    tmp_path, catalog, columns, mask, boundary
):
    # Of 8 columns 7 are common: an IoU of 7 / 9, over six of ten thresholds. Of the frames of one pixel, 28 each, 14
    # are common, and none at the sides: 14 / 42.
    cfg = config([], ["outlines"], [write_entry(tmp_path, VALID, "outlines")])
    cfg.MODEL.MASK_ON, cfg.DATALOADER.NUM_WORKERS, cfg.TEST.BOUNDARY_AP = True, 0, True
    prepare_data(cfg)
    metrics = evaluate(cfg, MaskOff(columns), tmp_path)["outlines"]
    assert metrics["segm"]["AP"] == pytest.approx(mask)
    assert metrics["boundary"]["AP"] == pytest.approx(boundary)
    assert metrics["boundary"]["AP-zebra"] == pytest.approx(boundary)


def test_without_predictions_there_is_no_boundary_ap_and_the_other_metrics_stay(
    tmp_path, catalog, caplog
):
    class Silent(DatasetEvaluator):
        def evaluate(self):
            return {"segm": {"AP": 12.5}}

    cfg = config([], ["silent"], [write_entry(tmp_path, VALID, "silent")])
    cfg.MODEL.MASK_ON, cfg.DATALOADER.NUM_WORKERS, cfg.TEST.BOUNDARY_AP = True, 0, True
    prepare_data(cfg)
    metrics = evaluate(cfg, MaskOff(0), tmp_path / "out", evaluator_of=lambda *_: Silent())
    assert metrics == {"silent": {"segm": {"AP": 12.5}}}
    assert "there is no boundary AP, which TEST.BOUNDARY_AP asks for" in caplog.text


@pytest.mark.parametrize(("sigma", "ap"), [(0.1, 70.0), (0.05, 0.0)])
def test_keypoints_are_judged_by_the_sigmas_of_the_config(tmp_path, catalog, sigma, ap):
    # An object of 64 square pixels and 1 pixel off: an OKS of exp(-1 / (2 * 64 * (2 * sigma) ** 2)), which is
    # 0.823 or 0.458, and passes seven or none of 0.5, 0.55 ... 0.95.
    entry = write_entry(tmp_path, with_keypoints(COCO_KEYPOINTS), "own_val")
    cfg = config([], ["own_val"], [entry])
    cfg.MODEL.KEYPOINT_ON, cfg.DATALOADER.NUM_WORKERS = True, 0
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [sigma] * len(COCO_KEYPOINTS)
    prepare_data(cfg)
    metrics = evaluate(cfg, KeypointsOff(pixels=1.0), tmp_path)
    assert metrics["own_val"]["keypoints"]["AP"] == pytest.approx(ap)
