"""The classifier: its loss by hand, and its features again in every kind of detector that starts from it."""

import copy
import logging
import math

from maskrcnn_repro.checkpoint.backbone import BACKBONE_FILE, write_backbone
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import CheckpointError, ConfigError, DataError

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.testing import assert_close

SIZES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "2",
    "MODEL.RESNETS.STRIDE_IN_1X1": "True",
}
# Small heads; C4's res5 with the classifier's stride, to compare whole maps.
SMALL = {
    "MODEL.ROI_BOX_HEAD.FC_DIM": "8",
    "MODEL.FPN.OUT_CHANNELS": "8",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "8",
    "MODEL.ROI_HEADS.RES5_STRIDE": "2",
}


def build(config, **keys):
    pairs = SIZES | keys
    return build_model(load_config(config, [word for pair in pairs.items() for word in pair]))


def classifier(**keys):
    return build("backbone/r50.yaml", **{"MODEL.ROI_HEADS.NUM_CLASSES": "2"} | keys)


def sample(boxes, classes, height=64, width=64):
    instances = Instances((height, width), gt_boxes=Boxes(torch.tensor(boxes).view(-1, 4)))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": instances, "file_name": "a.png"}


def test_the_loss_of_two_images_by_hand():
    model = classifier().train()
    nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([0.0, math.log(3)])  # probabilities 1/4 and 3/4
    small, large = [0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 40.0, 60.0]
    losses = model([sample([small, large], [1, 0]), sample([small], [1])])
    assert_close(losses, {"loss_cls": torch.tensor((math.log(4) + math.log(4 / 3)) / 2)})
    scores = [output["class_scores"] for output in model.eval()([sample([small], [1])] * 2)]
    assert_close(torch.stack(scores), torch.tensor([[0.25, 0.75]] * 2))


def test_the_padding_of_a_smaller_image_is_not_averaged():
    model = classifier().eval()
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.backbone.forward = lambda x: {
        "res5": torch.arange(6.0).view(1, 1, 2, 3).repeat(2, 64, 1, 1)
    }
    model([sample([], [], 64, 96), sample([], [], 33, 32)])
    # Cells of 32 px: all six, and the first column's two.
    assert_close(seen[0][:, 0], torch.tensor([15 / 6, (0 + 3) / 2]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A classifier whose batch norms have seen images, and the file of its backbone."""
    torch.manual_seed(1)
    model = classifier()
    for _ in range(2):
        model.train()([sample([[0.0, 0.0, 9.0, 9.0]], [1]), sample([[0.0, 0.0, 9.0, 9.0]], [0])])
    path = tmp_path_factory.mktemp("trained") / BACKBONE_FILE
    write_backbone(model.backbone, path, {"iterations": 2})
    return model.eval(), path


@pytest.mark.parametrize(
    ("config", "loaded"),
    [
        ("coco/r50_fpn.yaml", "backbone: 265 of 281"),  # not the pyramid's 16
        ("coco/r50_c4.yaml", "265 of 273 tensors (backbone: 215 of 215)"),  # res5's 50 in the head
        pytest.param("coco/r50_c5_roialign.yaml", "backbone: 265 of 265", marks=pytest.mark.slow),
        pytest.param("rpn/r50_fpn.yaml", "backbone: 265 of 281", marks=pytest.mark.slow),
        pytest.param("rpn/r50_c4.yaml", "backbone: 215 of 215", marks=pytest.mark.slow),
        pytest.param("rpn/r50_c5.yaml", "backbone: 265 of 265", marks=pytest.mark.slow),
    ],
)
def test_a_detector_has_the_features_of_the_classifier_that_it_starts_from(
    config, loaded, trained, caplog
):
    model, path = trained
    detector = build(config, **SMALL).eval()
    with caplog.at_level(logging.INFO):
        Checkpointer(detector, "").load(str(path))
    (record,) = caplog.records
    assert loaded in record.message
    assert "looks like" not in record.message
    pixels = model.preprocess([sample([], [], 64, 96)]).tensor.double()
    # In float64: frozen batch norm rounds otherwise, by up to 2e-6 after 50 layers in float32.
    classified, detector = copy.deepcopy(model.backbone).double(), detector.double()
    wanted = classified(pixels)["res5"]
    features = getattr(detector.backbone, "bottom_up", detector.backbone)(pixels)
    if "res5" not in features:  # C4: in the head of a detector; an RPN ends before
        res5 = detector.roi_heads.res5 if hasattr(detector, "roi_heads") else classified.res5
        features["res5"] = res5(features["res4"])
    assert_close(features["res5"], wanted, rtol=0, atol=1e-9)
    assert wanted.std() > 1e-3


@pytest.mark.slow
def test_a_backbone_of_another_depth_is_named(trained):
    with pytest.raises(CheckpointError, match="is of a ResNet-50, the config's is a ResNet-101"):
        Checkpointer(build("coco/r101_fpn.yaml", **SMALL), "").load(str(trained[1]))


def test_an_image_without_object_is_refused_in_training():
    with pytest.raises(DataError, match=r"'a.png' has no object .*FILTER_EMPTY_ANNOTATIONS True"):
        classifier().train()([sample([], [])] * 2)


def test_a_pyramid_is_refused():
    keys = {"MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone", "MODEL.FPN.IN_FEATURES": "['res5']"}
    with pytest.raises(ConfigError, match=r"builds a FPN; .* choose 'build_resnet_backbone'"):
        classifier(**keys)


def test_a_key_that_detectors_alone_read_is_refused():
    cfg = load_config("backbone/r50.yaml", ["MODEL.INFERENCE.PRECISION", "bfloat16"])
    with pytest.raises(
        ConfigError, match=r"'BackboneClassifier' does not read it.*one of MaskRCNN,"
    ):
        check_model(cfg)


def test_a_pyramid_without_maps_is_told():
    keys = ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"]
    with pytest.raises(ConfigError, match=r"MODEL.FPN.IN_FEATURES is empty"):
        check_model(load_config("backbone/r50.yaml", keys))
