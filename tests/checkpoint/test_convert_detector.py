"""Whole detectors: the same tensors, the same config, the same detections, and the way back."""

from maskrcnn_repro.checkpoint import detector
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.convert import convert
from maskrcnn_repro.checkpoint.detector import build_config, config_by_names, shapes_in
from maskrcnn_repro.checkpoint.detector_config import keys_of, kind_of
from maskrcnn_repro.checkpoint.torchvision_detector import Classes, to_detectron2, to_torchvision
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.hashes import sha256_of

import numpy as np
import pytest
import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.data import MetadataCatalog
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from PIL import Image
from torchvision.models import detection

from tests.helpers import torchvision_models as tv
from tests.helpers.commands import convert_weights
from tests.helpers.weight_files import detectron, meta, pickled

NAMES = (
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn_v2",
)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """File of a narrow detector of two classes and the background."""
    path = tmp_path_factory.mktemp("three") / "a.pth"
    torch.save(tv.narrow(3).state_dict(), path)
    return path


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


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n[0] == "f" else n for n in NAMES]
)
def test_every_tensor_of_torchvision_has_a_place_in_our_model(name):
    with torch.device("meta"):
        state = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    classes = Classes.of(len(state["roi_heads.box_predictor.cls_score.bias"]), named=False)
    renamed, _ = to_detectron2(state, classes)
    shapes = {key: tuple(tensor.shape) for key, tensor in renamed.items()}
    cfg = build_config(keys_of(shapes, kind_of(list(state)), len(classes.unused)))
    own = shapes_in(cfg)
    assert {k for k in own.items() ^ shapes.items() if "num_batches_tracked" not in k[0]} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_is_equal_to_the_last_bit(tmp_path, name):
    torch.manual_seed(0)
    there = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    torch.save(there, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pth")
    convert(tmp_path / "b.pth", tmp_path / "c.pth", to="torchvision")
    back = torch.load(tmp_path / "c.pth")
    assert list(there) == list(back)
    assert all(torch.equal(there[key], back[key]) for key in there)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [5, 91])
def test_a_narrow_detector_says_the_same_and_comes_back(tmp_path, picture, outputs):
    torch.manual_seed(0)
    theirs = tv.narrow(outputs).eval()
    file_name, image = picture
    tv.spread(theirs, image)
    if outputs == 91:
        # As training leaves labels that no image has; ours never says them.
        with torch.no_grad():
            theirs.roi_heads.box_predictor.cls_score.bias[Classes.of(91, named=False).unused] -= 99
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


@pytest.mark.parametrize("outputs", [3, 91])
def test_tensors_come_back_under_their_names_to_the_last_bit(outputs):
    classes = Classes.of(outputs, named=False)
    there = tv.narrow(outputs).state_dict()
    state, rest = to_detectron2(there, classes)
    back = to_torchvision(state, classes, rest)
    assert list(there) == list(back)
    assert all(torch.equal(there[name], back[name]) for name in there)


DC5 = """
MODEL.RESNETS.OUT_FEATURES ['res5'] MODEL.RESNETS.RES5_DILATION 2 MODEL.RPN.IN_FEATURES ['res5']
MODEL.ROI_HEADS.NAME StandardROIHeads MODEL.ROI_HEADS.IN_FEATURES ['res5'] MODEL.ROI_BOX_HEAD.NAME FastRCNNConvFCHead
MODEL.ROI_BOX_HEAD.NUM_FC 2 MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION 7 MODEL.ROI_MASK_HEAD.NUM_CONV 4
"""
SAME = (
    "MODEL.PIXEL_STD",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.RESNETS.RES5_DILATION",
    "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    "MODEL.RPN.IN_FEATURES",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ROI_HEADS.IN_FEATURES",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "INPUT.FORMAT",
    "INPUT.MIN_SIZE_TEST",
)
"""Keys that no tensor's shape tells."""


@pytest.mark.parametrize(
    ("file", "opts"),
    [
        ("detectron2/r50_fpn.yaml", ()),
        ("detectron2/r50_c4.yaml", ()),
        pytest.param(
            "detectron2/r50_c4.yaml",
            ("MODEL.MASK_ON", "False", "MODEL.RESNETS.DEPTH", "101"),
            marks=pytest.mark.slow,
        ),
        ("detectron2/r50_c4.yaml", tuple(DC5.split())),
        ("detectron2/x101_fpn.yaml", ("MODEL.KEYPOINT_ON", "True", "MODEL.MASK_ON", "False")),
    ],
    ids=["fpn", "c4", "box-c4-r101", "dc5", "keypoints-x101"],
)
def test_the_config_of_a_detector_of_the_zoo_is_told_by_its_tensors(file, opts):
    cfg = load_config(file, opts)
    shapes = shapes_in(cfg)
    kind = kind_of(list(shapes))
    told = build_config(keys_of(shapes, kind))
    assert kind.name == "Detectron2"
    assert shapes_in(told) == shapes
    assert {key: value_of(told, key) for key in SAME} == {key: value_of(cfg, key) for key in SAME}


@pytest.mark.parametrize("pyramid", [True, False])
def test_every_tensor_of_detectron_has_a_place_in_the_model_of_its_config(pyramid):
    weights = meta(detectron(pyramid=pyramid))
    kind = kind_of(list(weights))
    keys = config_by_names(weights, kind)
    assert kind.name == "Detectron"
    assert keys["MODEL.ROI_HEADS.NUM_CLASSES"] == 80
    assert keys["DATASETS.TEST"] == ("coco_2017_val",)
    cfg = build_config(keys)
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO == (2 if pyramid else 0)
    own = meta(shapes_in(cfg))
    given = align_and_update_state_dicts(own, weights)
    assert {name for name in own if name not in given} == {
        name for name in own if name.endswith(("running_mean", "running_var"))
    }
    assert {name: given[name].shape for name in own.keys() & given} == {
        name: own[name].shape for name in own.keys() & given
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50_fpn", "r50_c4"])
def test_a_detector_of_the_zoo_says_the_same_to_the_last_bit(tmp_path, name):
    torch.manual_seed(0)
    cfg = load_config(f"detectron2/{name}.yaml", ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"])
    cfg.MODEL.DEVICE = "cpu"
    theirs = build_model(cfg).eval()
    # Without batch norm's statistics the sum over all blocks would grow beyond any number.
    for layer in theirs.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.weight.fill_(0.25)
    arrays = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    convert(pickled(arrays, tmp_path / "a.pkl"), tmp_path / "b.pth")
    own = loaded(load_config(tmp_path / "b.yaml", ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]))
    image = {"image": torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)}
    with torch.no_grad():
        first, second = (model([image])[0]["instances"] for model in (theirs, own))
    assert len(first) == 100
    for field in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(first.get(field), second.get(field))
    assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)


def test_a_converted_file_holds_its_config_and_names(tmp_path):
    torch.save(tv.narrow(91).state_dict(), tmp_path / "a.pth")
    assert convert_weights([str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]) == 0
    facts = torch.load(tmp_path / "b.pth")["maskrcnn_repro"]
    assert facts["class_names"][:2] == ["person", "bicycle"]
    assert facts["category_ids"][-1] == 90
    assert facts["config"]["MODEL"]["ROI_BOX_HEAD"]["UNUSED_CLASSES"] == 10
    assert facts["origin"]["library"] == "torchvision"
    assert load_config(tmp_path / "b.yaml").MODEL.RESNETS.NORM_EPS == 1e-5


def test_names_of_classes_come_from_a_file_with_one_a_line(tmp_path, three, capsys):
    (tmp_path / "names.txt").write_text("cell\n\nnucleus\n")
    words = [str(three), str(tmp_path / "b.pth"), "--classes", str(tmp_path / "names.txt")]
    assert convert_weights(words) == 0
    assert torch.load(tmp_path / "b.pth")["maskrcnn_repro"]["class_names"] == ["cell", "nucleus"]
    (tmp_path / "names.txt").write_text("cell\n")
    assert convert_weights(words) == 2
    assert "--classes has 1 names, but the weights have 2 classes" in capsys.readouterr().err
    assert convert_weights([*words[:3], str(tmp_path / "none.txt")]) == 2
    assert "none.txt' cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.slow
def test_published_weights_of_version_1_have_no_eps(tmp_path, monkeypatch):
    torch.save(tv.narrow(91).state_dict(), tmp_path / "a.pth")
    monkeypatch.setattr(detector, "WITHOUT_EPS", (sha256_of(tmp_path / "a.pth")[:8],))
    convert(tmp_path / "a.pth", tmp_path / "b.pth")
    cfg = load_config(tmp_path / "b.yaml")
    norms = [layer.eps for layer in loaded(cfg).backbone.modules() if hasattr(layer, "eps")]
    assert len(norms) == 20
    assert set(norms) == {0.0}


def test_the_backbone_alone_of_a_detector_is_taken_when_asked_for(tmp_path, three, capsys):
    assert convert_weights([str(three), str(tmp_path / "b.pth"), "--backbone"]) == 0
    assert "MODEL.RESNETS.DEPTH 18" in capsys.readouterr().out
    assert "stem.conv1.weight" in torch.load(tmp_path / "b.pth")["model"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            [
                "proposal_generator.rpn_head.conv.weight",
                "roi_heads.box_predictor.0.cls_score.weight",
            ],
            "Cascade",
        ),
        (
            [
                "proposal_generator.rpn_head.conv.weight",
                "roi_heads.box_predictor.cls_score.weight",
                "sem_seg_head.a",
            ],
            "Panoptic",
        ),
        (
            ["conv_rpn_fpn2_w", "cls_score_w", "conv1_w", "res2_0_branch2a_gn_s"],
            "group normalisation",
        ),
    ],
)
def test_a_detector_with_a_part_that_no_config_says_is_named(names, words):
    with pytest.raises(CheckpointError, match=words):
        kind_of(names)


def test_what_does_not_fit_is_named(tmp_path, three):
    state = torch.load(three)
    torch.save(state | {"roi_heads.extra.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"1 of 143 tensors belong to no .*: 'roi_heads\.extra\.weight'"
    ):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")
    torch.save(state | {"rpn.head.conv.0.0.bias": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"rpn_head\.conv\.bias has shape \(1,\), the config's model \(256,\)"
    ):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")


def test_only_what_torchvision_would_read_alike_goes_back(tmp_path, three):
    convert(three, tmp_path / "b.pth")
    content = torch.load(tmp_path / "b.pth")
    content["maskrcnn_repro"]["config"]["INPUT"]["FORMAT"] = "BGR"
    torch.save(content, tmp_path / "b.pth")
    with pytest.raises(
        CheckpointError, match=r"has INPUT\.FORMAT 'BGR', torchvision's detectors 'RGB'"
    ):
        convert(tmp_path / "b.pth", tmp_path / "c.pth", to="torchvision")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="no detector with a class layer"):
        convert(tmp_path / "b.pth", tmp_path / "c.pth", to="torchvision")
