"""Test-time augmentation: one view is none at all, views by hand on a stub, mirrored images, mistakes."""

import json

from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.meta_arch import MaskRCNN
from maskrcnn_repro.modeling.tta import TestTimeAugmentation, View, boxes_only, flip_indices_of

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import transform_proposals
from detectron2.structures import Boxes, BoxMode, Instances
from torch import nn

from tests.helpers.tiny_coco import command_line, write_tiny_coco
from tests.helpers.tiny_models import KINDS, assert_same, given_proposals, picture, tiny_model

STORED = {"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals", "MODEL.LOAD_PROPOSALS": True}
FILE = (150, 190)  # height, width of an image file
SWAP = [0, 2, 1]  # a middle keypoint, then a left and a right one


def augmented(model, min_sizes=(97,), max_size=120, flip=False, **more):
    options = {"nms_threshold": 0.5, "max_detections": 5, "flip_indices": SWAP} | more
    return TestTimeAugmentation(
        model=model, min_sizes=min_sizes, max_size=max_size, flip=flip, **options
    )


def resized(given):
    """What Detectron2's test mapper makes of an image for a shorter side of 97 and a longer of 120."""
    image = given["image"].permute(1, 2, 0).numpy()
    resize = T.ResizeShortestEdge(97, 120, "choice").get_transform(image)
    small = np.ascontiguousarray(resize.apply_image(image).transpose(2, 0, 1))
    result = {**given, "image": torch.from_numpy(small)}
    if "proposals" in given:
        result["proposal_boxes"] = given["proposals"].proposal_boxes.tensor.numpy()
        result["proposal_objectness_logits"] = given["proposals"].objectness_logits.numpy()
        result["proposal_bbox_mode"] = BoxMode.XYXY_ABS
        transform_proposals(result, small.shape[1:], T.TransformList([resize]), proposal_topk=100)
    return result


# --- one view


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_view_is_the_same_to_the_last_bit_as_none(kind, stored):
    given = picture(FILE, height=FILE[0], width=FILE[1])
    if stored:
        given["proposals"] = given_proposals(FILE)
    for precision, channels_last in (("float32", False), ("float32", True), ("bfloat16", True)):
        keys = {"MODEL.INFERENCE.PRECISION": precision, "MODEL.CHANNELS_LAST": channels_last}
        model = tiny_model(kind, **keys, **(STORED if stored else {}))
        with torch.no_grad():
            [expected] = model([resized(given)])
        [output] = augmented(model)([given])
        assert len(expected["instances"]) > 1
        assert_same(output["instances"], expected["instances"])


def test_evaluation_by_one_view_repeats_evaluation_without(tmp_path):
    data, output = write_tiny_coco(tmp_path / "data"), tmp_path / "run"
    assert main(command_line(data, output, opts=["INPUT.MIN_SIZE_TEST", "48"])) == 0
    results = output / "inference/tiny/coco_instances_results.json"
    expected = json.loads(results.read_text())
    views = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48,)", "TEST.AUG.FLIP", "False"]
    assert main(command_line(data, output, "--eval-only", opts=views)) == 0
    assert json.loads(results.read_text()) == expected
    views[3:] = ["(48,64)", "MODEL.INFERENCE.MASK_OUTPUT", "rle"]
    assert main(command_line(data, output, "--eval-only", opts=views)) == 0
    assert json.loads(results.read_text()) != expected


# --- by hand, on a model that answers with given boxes, masks and heatmaps


class Stub(nn.Module):
    """Backbone and heads in one: the features are the image; a mark in its first column says how it is seen."""

    size_divisibility = 0
    padding_constraints: dict = {}
    mask_on = keypoint_on = True

    def __init__(self, detections):
        super().__init__()
        self.detections = detections
        self.proposals = []
        self.given = []

    def forward(self, *inputs):
        if len(inputs) == 1:
            return {"image": inputs[0]}
        _, features, [proposals], _ = inputs
        assert not self.mask_on
        assert not self.keypoint_on
        self.proposals.append(proposals)
        view = "upright" if features["image"][0, 0, 0, 0] > 0 else "mirrored"
        boxes, scores, classes = self.detections[view]
        instances = Instances(features["image"].shape[2:], scores=torch.tensor(scores))
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.pred_classes = torch.tensor(classes, dtype=torch.long)
        return [instances], {}

    def forward_with_given_boxes(self, features, instances):
        """A mask of 1 in the left half and a left eye in the left half of what is seen, mirrored or not."""
        [detections] = instances
        self.given.append(detections.pred_boxes.tensor)
        detections.pred_masks = torch.zeros(len(detections), 1, 4, 4)
        detections.pred_masks[..., :2] = 0.9
        heatmaps = torch.zeros(len(detections), 3, 4, 4)
        heatmaps[:, 1, 2, 0] = 9.0  # keypoint 1, bottom left
        heatmaps[:, 2, 0, 3] = 5.0  # keypoint 2, top right
        detections.pred_keypoint_heatmaps = heatmaps
        return [detections]


def stub_model(detections=None, heads=None):
    stub = heads or Stub(detections)
    parts = {"backbone": stub, "proposal_generator": None, "roi_heads": stub}
    return MaskRCNN(**parts, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3).eval()


def marked(proposals=None):
    """An image of 20 x 40 pixels, marked at the left."""
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, :, 0] = 255
    if proposals is None:
        proposals = Instances((20, 40), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 9, 5]])))
    return {"image": image, "proposals": proposals}


FOUND = {
    "upright": ([[4.0, 4, 14, 14], [30, 2, 38, 10]], [0.9, 0.6], [0, 1]),
    # Mirrored: the first with IoU 0.82, the second better, one that is new, one of another class.
    "mirrored": (
        [[25.0, 4, 35, 14], [2, 2, 10, 10], [20, 10, 24, 18], [26, 4, 36, 14]],
        [0.8, 0.7, 0.5, 0.4],
        [0, 1, 0, 1],
    ),
}


def test_boxes_are_brought_back_and_merged_by_hand():
    model = stub_model(FOUND)
    [output] = augmented(model, min_sizes=(0,), flip=True)([marked()])
    instances = output["instances"]
    torch.testing.assert_close(instances.scores, torch.tensor([0.9, 0.7, 0.5, 0.4]))
    assert instances.pred_classes.tolist() == [0, 1, 0, 1]
    assert instances.pred_boxes.tensor.tolist() == [
        [4, 4, 14, 14],
        [30, 2, 38, 10],
        [16, 10, 20, 18],
        [4, 4, 14, 14],
    ]
    # Masks and keypoints are asked of the same objects in both views.
    upright, mirrored = model.roi_heads.given
    assert upright.tolist() == instances.pred_boxes.tensor.tolist()
    assert mirrored[:, [0, 2]].tolist() == [[26, 36], [2, 10], [20, 24], [26, 36]]
    [fewer] = augmented(model, min_sizes=(0,), flip=True, max_detections=2)([marked()])
    torch.testing.assert_close(fewer["instances"].scores, torch.tensor([0.9, 0.7]))


def test_the_threshold_of_suppression_is_the_one_that_is_given():
    # 4..14 and mirrored 25..35, that is 5..15: 90 of 110 pixels, IoU 0.82.
    model = stub_model(
        {"upright": ([[4.0, 4, 14, 14]], [0.9], [0]), "mirrored": ([[25.0, 4, 35, 14]], [0.8], [0])}
    )
    for threshold, scores in ((0.8, [0.9]), (0.85, [0.9, 0.8])):
        wrapped = augmented(model, min_sizes=(0,), flip=True, nms_threshold=threshold)
        [output] = wrapped([marked()])
        torch.testing.assert_close(output["instances"].scores, torch.tensor(scores))


def test_views_of_another_scale_by_hand():
    model = stub_model({"upright": ([[4.0, 4, 14, 14]], [0.9], [0])})
    [output] = augmented(model, min_sizes=(0, 40), max_size=100)([marked() | {"height": 10}])
    # The second view found it at half its size; results are wanted at half the height.
    assert output["instances"].image_size == (10, 40)
    assert output["instances"].pred_boxes.tensor.tolist() == [[4, 2, 14, 7], [2, 1, 7, 3.5]]
    assert [boxes.tolist() for boxes in model.roi_heads.given] == [
        [[4, 4, 14, 14], [2, 2, 7, 7]],
        [[8, 8, 28, 28], [4, 4, 14, 14]],
    ]


def test_masks_and_keypoints_are_means_of_what_is_turned_back():
    model = stub_model({"upright": ([[4.0, 4, 12, 12]], [0.9], [0]), "mirrored": ([], [], [])})
    wrapped = augmented(model, min_sizes=(0,), flip=True)
    [output] = wrapped([marked()])
    instances = output["instances"]
    # 0.9 in the left half in both views: mirrored back 0.45 everywhere, which is below one half.
    assert not instances.pred_masks.any()
    # Of keypoint 1: bottom left (9), and mirrored back what the mirror calls 2, top left (5).
    heatmaps = torch.zeros(3, 4, 4)
    heatmaps[1, 2, 0], heatmaps[1, 0, 0] = 4.5, 2.5
    heatmaps[2, 2, 3], heatmaps[2, 0, 3] = 4.5, 2.5
    assert torch.equal(instances.pred_keypoint_heatmaps, heatmaps[None])
    # Cells have 2 pixels; bicubic interpolation has its maximum at one of the cell's pixels.
    cells = ((instances.pred_keypoints[0, 1:, :2] - 4) / 2).floor()
    assert cells.tolist() == [[0, 2], [3, 2]]
    [alone] = augmented(model, min_sizes=(0,))([marked()])
    expected = torch.zeros(20, 40, dtype=torch.bool)
    expected[4:12, 4:8] = True
    assert torch.equal(alone["instances"].pred_masks[0], expected)


def test_keypoints_are_read_in_the_largest_view():
    model = stub_model({"upright": ([[4.0, 4, 12, 12]], [0.9], [0])})
    [output] = augmented(model, min_sizes=(0, 40), max_size=100)([marked()])
    # The centres of pixels of the view of twice the size lie at quarters of a pixel of the image.
    points = output["instances"].pred_keypoints[0, :, :2]
    assert (points % 0.5).tolist() == [[0.25, 0.25]] * len(points)


def test_stored_proposals_are_clipped_to_each_view():
    proposals = Instances((20, 40), objectness_logits=torch.tensor([2.0, 1.0]))
    proposals.proposal_boxes = Boxes(torch.tensor([[-6.0, -4, 9, 25], [30, 10, 50, 30]]))
    model = stub_model({"upright": ([], [], []), "mirrored": ([], [], [])})
    augmented(model, min_sizes=(0, 10), flip=True)([marked(proposals)])
    upright, mirrored, half, half_mirrored = (
        seen.proposal_boxes.tensor.tolist() for seen in model.roi_heads.proposals
    )
    assert upright == [[0, 0, 9, 20], [30, 10, 40, 20]]
    assert mirrored == [[31, 0, 40, 20], [0, 10, 10, 20]]
    assert half == [[0, 0, 4.5, 10], [15, 5, 20, 10]]
    assert half_mirrored == [[15.5, 0, 20, 10], [0, 5, 5, 10]]


class HalfStub(Stub):
    """Heads whose scores and maps are bfloat16."""

    def forward(self, *inputs):
        answer = super().forward(*inputs)
        if len(inputs) > 1:
            answer[0][0].scores = answer[0][0].scores.bfloat16()
        return answer

    def forward_with_given_boxes(self, features, instances):
        [boxes] = super().forward_with_given_boxes(features, instances)
        boxes.pred_keypoint_heatmaps = boxes.pred_keypoint_heatmaps.bfloat16()
        return [boxes]


def test_reduced_precision_ends_with_each_view():
    heads = HalfStub({"upright": ([[4.0, 4, 12, 12]], [0.5], [0])})
    [output] = augmented(stub_model(heads=heads), min_sizes=(0, 40), max_size=100)([marked()])
    instances = output["instances"]
    assert instances.scores.dtype == torch.float32
    assert instances.pred_keypoint_heatmaps.dtype == torch.float32
    assert instances.pred_keypoints.dtype == torch.float32


def test_stored_proposals_are_moved_with_each_view():
    proposals = Instances((20, 40), objectness_logits=torch.tensor([2.0, 1.0]))
    proposals.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 9, 5], [30, 10, 40, 20]]))
    model = stub_model({"upright": ([], [], []), "mirrored": ([], [], [])})
    augmented(model, min_sizes=(0, 10), flip=True)([marked(proposals)])
    seen = model.roi_heads.proposals
    assert [image_proposals.image_size for image_proposals in seen] == [(20, 40)] * 2 + [
        (10, 20)
    ] * 2
    assert [image_proposals.proposal_boxes.tensor.tolist() for image_proposals in seen] == [
        [[0, 0, 9, 5], [30, 10, 40, 20]],
        [[31, 0, 40, 5], [0, 10, 10, 20]],
        [[0, 0, 4.5, 2.5], [15, 5, 20, 10]],
        [[15.5, 0, 20, 2.5], [0, 5, 5, 10]],
    ]
    assert all(image_proposals.objectness_logits.tolist() == [2, 1] for image_proposals in seen)


# --- invariance


@pytest.mark.parametrize("kind", ["both", "c4"])
def test_a_mirrored_image_has_mirrored_results(kind):
    model = tiny_model(kind)
    given = picture((64, 96))
    mirror = {"image": given["image"].flip(dims=[2])}
    wrapped = augmented(model, min_sizes=(64, 96), max_size=200, flip=True)
    (upright,), (mirrored,) = wrapped([given]), wrapped([mirror])
    upright, mirrored = upright["instances"], mirrored["instances"]
    assert len(upright) == 5
    torch.testing.assert_close(mirrored.scores, upright.scores)
    assert torch.equal(mirrored.pred_classes, upright.pred_classes)
    boxes = mirrored.pred_boxes.tensor
    turned = torch.stack([96 - boxes[:, 2], boxes[:, 1], 96 - boxes[:, 0], boxes[:, 3]], dim=1)
    torch.testing.assert_close(turned, upright.pred_boxes.tensor, atol=1e-3, rtol=0)
    differing = (mirrored.pred_masks.flip(dims=[2]) != upright.pred_masks).float().mean()
    assert upright.pred_masks.any()
    assert differing < 1e-3
    if kind == "both":
        points = mirrored.pred_keypoints[:, SWAP]
        points[..., 0] = 96 - points[..., 0]
        torch.testing.assert_close(
            points[..., :2], upright.pred_keypoints[..., :2], atol=1e-2, rtol=0
        )


# --- the empty case, mistakes


@pytest.mark.parametrize("kind", KINDS)
def test_no_detections_in_any_view(kind):
    model = tiny_model(kind, **{"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 1.0})
    [output] = augmented(model, min_sizes=(64, 80), flip=True)([picture()])
    instances = output["instances"]
    assert len(instances) == 0
    if instances.has("pred_masks"):
        assert instances.pred_masks.shape == (0, 64, 80)
    if instances.has("pred_keypoints"):
        assert instances.pred_keypoints.shape == (0, 3, 3)


def test_branches_run_again_after_a_failure():
    heads = tiny_model("both").roi_heads
    with pytest.raises(TypeError), boxes_only(heads):
        heads(None, None, None)
    assert heads.mask_on
    assert heads.keypoint_on


def test_the_mode_of_the_model_is_kept():
    for mode in (True, False):
        assert augmented(tiny_model("box").train(mode)).training == mode


def test_flip_indices_come_from_the_data():
    assert flip_indices_of("keypoints_coco_2017_val")[1:5] == [2, 1, 4, 3]
    assert flip_indices_of("coco_2017_val") is None
    assert not MetadataCatalog.get("coco_2017_val").get("keypoint_names")


@pytest.mark.parametrize(
    ("kind", "keys", "options", "message"),
    [
        ("box", {}, {"min_sizes": ()}, r"MIN_SIZES names no size.*\(800,\)"),
        ("box", {}, {"min_sizes": (400, -1)}, "MIN_SIZES has -1; .* 0 for the image's own"),
        ("box", {}, {"max_size": 0}, "MAX_SIZE is 0"),
        (
            "box",
            {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN"},
            {},
            "needs MODEL.META_ARCHITECTURE 'MaskRCNN', not 'GeneralizedRCNN'",
        ),
        ("keypoint", {}, {"flip": True, "flip_indices": None}, "FLIP True needs .*FLIP_PAIRS"),
    ],
)
def test_what_cannot_be_is_told(kind, keys, options, message):
    with pytest.raises(ConfigError, match=message):
        augmented(tiny_model(kind, **keys), **options)


def test_an_architecture_that_cannot_be_augmented_is_told_before_training(tmp_path, capsys):
    data = write_tiny_coco(tmp_path / "data")
    opts = ["TEST.AUG.ENABLED", "True", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    assert main(command_line(data, tmp_path / "run", opts=opts)) == 2
    assert "TEST.AUG.ENABLED True would be ignored" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_view_leaves_the_image_it_is_given(tmp_path):
    given = picture(FILE)
    before = given["image"].clone()
    assert View(0, 1000).apply(given)["image"].shape == (3, *FILE)
    assert View(75, 1000, flip=True).apply(given)["image"].shape == (3, 75, 95)
    assert torch.equal(given["image"], before)
