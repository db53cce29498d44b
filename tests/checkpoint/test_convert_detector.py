"""Whole detectors: the same tensors, the same config, the same detections, and the way back."""

import pickle

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.convert import convert
from maskrcnn_repro.checkpoint.detector import configured, shapes_in
from maskrcnn_repro.checkpoint.detector_config import keys_of, kind_of
from maskrcnn_repro.checkpoint.torchvision_detector import Classes, to_detectron2, to_torchvision
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.errors import CheckpointError

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

from tests.helpers import torchvision_models as tv
from tests.helpers.commands import convert_weights

NAMES = (
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn_v2",
)


def narrow(outputs):
    """Torchvision's Mask R-CNN on a ResNet-18, with narrow heads, for images of 64 pixels."""
    return MaskRCNN(
        resnet_fpn_backbone(backbone_name="resnet18", weights=None),
        min_size=64,
        max_size=96,
        box_head=TwoMLPHead(256 * 49, 32),
        box_predictor=FastRCNNPredictor(32, outputs),
        mask_head=MaskRCNNHeads(256, (16,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(16, 16, outputs),
    )


@pytest.fixture
def picture(tmp_path):
    """File of a picture of 90 x 70 pixels, and its pixels, (3, 70, 90) in [0, 1]."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 70)).save(tmp_path / "a.png")
    image = torch.from_numpy(np.array(Image.open(tmp_path / "a.png"))).permute(2, 0, 1) / 255
    return str(tmp_path / "a.png"), image


def loaded(cfg):
    """A model with the weights that a config names."""
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    Checkpointer(model, "", complete=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return model


def test_rows_of_classes_by_hand():
    classes = Classes(labels=[2, 1], unused=[3])
    scores = torch.tensor([0.0, 1, 2, 3])
    boxes = torch.arange(16.0)
    weights = {
        "roi_heads.box_predictor.cls_score.bias": scores,
        "roi_heads.box_predictor.bbox_pred.bias": boxes,
    }
    state, rest = to_detectron2(weights, classes)
    assert state["roi_heads.box_predictor.cls_score.bias"].tolist() == [2, 1, 0, 3]
    assert state["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    back = to_torchvision(state, classes, rest)
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())
    without = to_torchvision(state, classes, {})["roi_heads.box_predictor.bbox_pred.bias"]
    assert without.tolist() == [0, 0, 0, 0, *range(4, 12), 0, 0, 0, 0]


def test_cocos_labels_are_in_cocos_order():
    classes = Classes.of(91, named=False)
    assert list(classes.labels[:12]) == [*range(1, 12), 13]
    assert classes.unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert len(MetadataCatalog.get("coco_2017_val").thing_classes) == len(classes.labels) == 80
    assert list(Classes.of(91, named=True).labels) == list(range(1, 91))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_torchvision_has_a_place_in_our_model(name):
    with torch.device("meta"):
        state = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    classes = Classes.of(len(state["roi_heads.box_predictor.cls_score.bias"]), named=False)
    renamed, _ = to_detectron2(state, classes)
    shapes = {key: tuple(tensor.shape) for key, tensor in renamed.items()}
    cfg = configured(keys_of(shapes, kind_of(list(state)), len(classes.unused)))
    own = shapes_in(cfg)
    assert {k for k in own.items() ^ shapes.items() if "num_batches_tracked" not in k[0]} == set()


@pytest.mark.parametrize("outputs", [5, 91])
def test_a_narrow_detector_says_the_same_and_comes_back(tmp_path, picture, outputs):
    torch.manual_seed(0)
    theirs = narrow(outputs).eval()
    file_name, image = picture
    tv.spread(theirs, image)
    if outputs == 91:
        # As training leaves labels that no image has; ours never says them.
        with torch.no_grad():
            theirs.roi_heads.box_predictor.cls_score.bias[Classes.of(91, named=False).unused] = -9
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pth")
    cfg = load_config(
        tmp_path / "b.yaml", ["INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96"]
    )
    labels = list(Classes.of(outputs, named=False).labels)
    expected = tv.detect(theirs, image)
    actual = tv.ours(loaded(cfg), TrainMapper(cfg, False), file_name, image, labels)
    figures = tv.largest_differences(expected, actual)
    assert figures["matched"] == figures["theirs"] == figures["ours"] >= 20
    assert figures["masks"] < tv.MASKS
    assert expected.scores.min() < 0.7 * expected.scores.max()

    convert(tmp_path / "b.pth", tmp_path / "c.pth", to="torchvision")
    there, back = (torch.load(tmp_path / f"{name}.pth") for name in "ac")
    assert list(there) == list(back)
    assert all(torch.equal(there[name], back[name]) for name in there)
