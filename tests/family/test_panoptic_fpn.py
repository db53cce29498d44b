"""Panoptic FPN: loss and fusion by hand, equivalences, Detectron2's numbers, no objects, no labels, mistakes."""

import math
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.plugins import load_plugins

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from maskrcnn_family.panoptic_fpn.fusion import Fusion
from maskrcnn_family.panoptic_fpn.head import FamilySemSegFPNHead
from tests.family import parity
from tests.helpers.parity import compare
from tests.helpers.parity.models import decode
from tests.helpers.tiny_models import tiny_config

CONFIG = Path(maskrcnn_family.__file__).parent / "panoptic_fpn" / "config.yaml"
SHAPES = {f"p{k}": ShapeSpec(channels=4, stride=1 << k) for k in (2, 3, 4)}


def head(classes=3, **parts):
    torch.manual_seed(0)
    options = {"conv_dims": 4, "common_stride": 4, **parts}
    return FamilySemSegFPNHead(SHAPES, num_classes=classes, **options)


def maps(images=1):
    return {
        name: torch.randn(images, 4, 64 // s.stride, 64 // s.stride) for name, s in SHAPES.items()
    }


def test_the_loss_is_the_mean_over_labelled_pixels():
    module = head(classes=2, loss_weight=0.5).train()
    torch.nn.init.zeros_(module.predictor.weight)
    # Logits log 3 and 0 everywhere: class 0 has 3/4, class 1 a quarter.
    module.predictor.bias.data = torch.tensor([math.log(3), 0.0])
    targets = torch.full((1, 64, 64), 255)
    targets[0, 0, :3] = 0
    targets[0, 0, 3] = 1
    _, losses = module(maps(), targets)
    expected = 0.5 * (3 * -math.log(3 / 4) - math.log(1 / 4)) / 4
    assert losses["loss_sem_seg"].item() == pytest.approx(expected)


def test_without_labels_the_loss_is_zero_and_all_parameters_have_gradients():
    module = head(norm="BN").train()
    _, losses = module(maps(), torch.full((1, 64, 64), 255))
    assert losses["loss_sem_seg"] == 0
    losses["loss_sem_seg"].backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_gradients_are_those_of_differences():
    module, features = head().train(), maps()
    targets = torch.randint(0, 3, (1, 64, 64))
    weight = module.predictor.weight.detach().clone().requires_grad_()

    def loss(values):
        named = {"predictor.weight": values}
        return torch.func.functional_call(module, named, (features, targets))[1]["loss_sem_seg"]

    # The loss is computed in float32 whatever comes.
    assert torch.autograd.gradcheck(loss, weight, eps=1e-2, atol=1e-3)


def test_coarser_maps_are_doubled_until_they_fit():
    module = head().eval()
    # P2 one convolution, P3 one and one doubling, P4 two of each.
    kinds = [[type(layer).__name__ for layer in getattr(module, name)] for name in SHAPES]
    assert kinds == [["Conv2d"], ["Conv2d", "Upsample"], ["Conv2d", "Upsample"] * 2]
    features = maps(2)
    with torch.no_grad():
        logits, losses = module(features)
        levels = [getattr(module, name)(features[name]) for name in SHAPES]
        expected = F.interpolate(module.predictor(sum(levels)), (64, 64), mode="bilinear")
    assert losses == {}
    assert logits.shape == (2, 3, 64, 64)
    assert torch.allclose(logits, expected, atol=1e-6)


# --- fusion


def detections(scores, rows, classes=None):
    masks = torch.tensor(rows, dtype=torch.bool)[:, None] if rows else torch.zeros(0, 1, 6)
    classes = torch.arange(len(scores)) if classes is None else torch.tensor(classes)
    return Instances((1, 6), scores=torch.tensor(scores), pred_classes=classes, pred_masks=masks)


def test_things_lie_in_front_of_each_other_by_score_and_stuff_fills_what_is_left():
    fusion = Fusion(overlap=0.5, stuff_area=2, score=0.5)
    rows = [
        [0, 1, 1, 0, 0, 0],  # 0.8: half of it is taken, which is allowed
        [1, 1, 0, 0, 0, 0],  # 0.9
        [1, 1, 1, 0, 0, 0],  # 0.7: all of it is taken
        [0, 0, 0, 1, 1, 1],  # 0.4: too unlikely
    ]
    labels = torch.tensor([[2, 2, 0, 1, 1, 2]])
    ids, segments = fusion(detections([0.8, 0.9, 0.7, 0.4], rows), labels)
    assert ids.tolist() == [[1, 1, 2, 3, 3, 0]]
    assert ids.dtype == torch.int32
    assert [s["category_id"] for s in segments] == [1, 0, 1]
    assert [s.get("instance_id") for s in segments] == [1, 0, None]
    assert segments[2] == {"id": 3, "isthing": False, "category_id": 1, "area": 2}


def test_without_detections_there_is_stuff_alone_and_class_0_is_never_stuff():
    ids, segments = Fusion(0.5, 1, 0.5)(detections([], []), torch.tensor([[0, 0, 1, 1, 1, 0]]))
    assert ids.tolist() == [[0, 0, 1, 1, 1, 0]]
    assert len(segments) == 1


# --- Detectron2's numbers


@pytest.fixture(scope="module")
def pair():
    return parity.measure("panoptic_fpn", ours=True), parity.stored("panoptic_fpn")


@pytest.mark.slow
def test_parameters_have_detectron2_s_names(pair):
    assert pair[0]["state"] == pair[1]["state"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["losses", "gradients", "proposals", "detections"])
def test_results_are_detectron2_s(pair, part):
    assert getattr(compare, part)(pair[0][part], pair[1][part]) == []


@pytest.mark.slow
def test_panoptic_maps_are_detectron2_s(pair):
    assert sum(len(image["segments"]) for image in pair[1]["panoptic"]) >= 10
    for ours, theirs in zip(pair[0]["panoptic"], pair[1]["panoptic"], strict=True):
        for a, b in zip(ours["segments"], theirs["segments"], strict=True):
            assert (a["category_id"], a["isthing"]) == (b["category_id"], b["isthing"])
            assert a.get("score") == pytest.approx(b.get("score"), abs=1e-4)
            differing = decode(a["rle"], ours["size"]) != decode(b["rle"], theirs["size"])
            assert differing.mean() <= compare.MASK


# --- the whole model

KEYS = {
    "PLUGINS": ("maskrcnn_family.panoptic_fpn",),
    "DATASETS.WITH_SEM_SEG": True,
    "MODEL.META_ARCHITECTURE": "FamilyPanopticFPN",
    "MODEL.SEM_SEG_HEAD.NAME": "FamilySemSegFPNHead",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ("p4", "p5"),
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 16,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 4,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 10,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.2,
}


def tiny(**changes):
    load_config(CONFIG, [])  # loads the plug-in
    torch.manual_seed(0)
    return build_model(tiny_config("mask", **KEYS | changes))


def sample(boxes=((8.0, 8.0, 40.0, 40.0),), labels=None, size=(64, 80)):
    bitmaps = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for bitmap, (left, top, right, bottom) in zip(bitmaps, np.array(boxes, int), strict=True):
        bitmap[top:bottom, left:right] = True
    truth = Instances(
        size,
        gt_boxes=Boxes(torch.tensor(boxes).view(-1, 4)),
        gt_classes=torch.zeros(len(boxes), dtype=torch.int64),
        gt_masks=BitMasks(bitmaps),
    )
    labels = torch.randint(0, 4, size) if labels is None else labels
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    return {"image": image, "file_name": "a.png", "instances": truth, "sem_seg": labels}


def test_padding_and_void_count_nowhere():
    model = tiny().train()
    # Another size: the batch is padded.
    images = [sample(), sample(size=(48, 64))]
    with EventStorage():
        loss = model(images)["loss_sem_seg"]
        features = model.backbone(model.preprocess_image(images).tensor)
        _, losses = model.sem_seg_head(features, model._labels(images))
    assert loss.item() == pytest.approx(losses["loss_sem_seg"].item())
    labels = model._labels(images)
    assert (labels != 255).sum() == 64 * 80 + 48 * 64


def test_an_image_without_objects_trains_the_semantic_branch_alone():
    model = tiny().train()
    with EventStorage():
        losses = model([sample(boxes=())])
    assert losses["loss_sem_seg"] > 0
    assert losses["loss_mask"] == losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_instance_losses_have_their_weight():
    with EventStorage():
        torch.manual_seed(1)
        item = sample()
        plain, half = (
            tiny(**{"MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT": weight}).train()([item])
            for weight in (1.0, 0.5)
        )
    assert half["loss_mask"].item() == pytest.approx(plain["loss_mask"].item() / 2, rel=0.01)
    assert half["loss_sem_seg"].item() == pytest.approx(plain["loss_sem_seg"].item())


@pytest.mark.parametrize("output", ["bitmap", "rle"])
def test_instances_are_those_of_the_parent_and_maps_have_the_image_s_size(output):
    model = tiny(**{"MODEL.INFERENCE.MASK_OUTPUT": output}).eval()
    item = {"image": sample()["image"], "height": 96, "width": 120}
    with torch.no_grad():
        (result,) = model([item])
        (parent,) = model.inference([item], do_postprocess=False)
    instances = model.postprocess(parent, item)["instances"]
    assert torch.equal(result["instances"].scores, instances.scores)
    assert len(instances)
    ids, segments = result["panoptic_seg"]
    assert ids.shape == (96, 120)
    assert result["sem_seg"].shape == (4, 96, 120)
    assert {s["id"] for s in segments} == set(ids.unique().tolist()) - {0}
    assert any(s["isthing"] for s in segments)


@pytest.mark.slow
def test_it_goes_with_a_cascade():
    load_plugins(["maskrcnn_family.cascade"])
    model = tiny(
        **{
            "MODEL.ROI_HEADS.NAME": "FamilyCascadeROIHeads",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        }
    )
    with EventStorage():
        losses = model.train()([sample()])
    assert {"loss_sem_seg", "loss_mask", "loss_cls_stage2"} <= losses.keys()
    with torch.no_grad():
        (result,) = model.eval()([{"image": sample()["image"]}])
    assert result["panoptic_seg"][0].shape == (64, 80)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DATASETS.WITH_SEM_SEG": False}, "WITH_SEM_SEG is False, .* set it to True"),
        ({"MODEL.MASK_ON": False}, "MASK_ON is False, but FamilyPanopticFPN fuses masks"),
        ({"MODEL.SEM_SEG_HEAD.NAME": "FamilySemSegFPNHed"}, r"FamilySemSegFPNHead"),
        ({"MODEL.SEM_SEG_HEAD.IN_FEATURES": ("p4", "res9")}, "names res9, but .* gives p"),
        ({"MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 32}, "COMMON_STRIDE 32 is not the stride 16"),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        tiny(**changes)


def test_labels_that_are_no_class_or_are_not_there_are_told():
    model = tiny().train()
    with pytest.raises(DataError, match=r"'a.png' has the semantic label 7, .* labels are 0 to 3"):
        model([sample(labels=torch.full((64, 80), 7))])
    item = sample()
    del item["sem_seg"]
    with pytest.raises(DataError, match=r"no semantic labels; set DATASETS.WITH_SEM_SEG True"):
        model([item])


def test_the_config_is_the_paper_s_with_this_head():
    cfg = load_config(CONFIG, [])
    assert cfg.MODEL.META_ARCHITECTURE == "FamilyPanopticFPN"
    assert cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT == 0.5
    assert cfg.TEST.PANOPTIC_QUALITY
