"""Models made fast against the plain ones: the same detections, whatever backbone and heads."""

import copy

from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.benchmark.models import choose_gains
from maskrcnn_repro.inference.fast import build
from maskrcnn_repro.inference.fast.build import Accelerator, accelerate
from maskrcnn_repro.inference.fast.heads import FastOutputLayers

import pytest
import torch

from tests.helpers.tiny_models import picture, tiny_config, tiny_model

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
MODELS = {
    "fpn": ("both", {}),
    "c4": ("c4", {}),
    "c4 of stride 2": ("c4", {"MODEL.ROI_HEADS.RES5_STRIDE": 2}),
    "stride in 3x3": ("mask", {"MODEL.RESNETS.STRIDE_IN_1X1": False}),
    "frozen": ("mask", {"MODEL.RESNETS.NORM": "FrozenBN"}),
    "not foldable": ("mask", {"MODEL.FPN.NORM": "LN", "MODEL.FPN.FUSE_TYPE": "avg"}),
    "resnet 18": ("mask", {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}),
    "detectron2": (
        "mask",
        {
            "MODEL.ROI_OP.NAME": "",
            "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
            "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
            "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
            "MODEL.ROI_BOX_HEAD.NUM_CONV": 1,
            "MODEL.ROI_BOX_HEAD.CONV_DIM": 4,
        },
    ),
    "eleven convolutions": ("mask", {"MODEL.ROI_MASK_HEAD.NUM_CONV": 11}),
    "detectron2 c4": (
        "c4",
        {
            "MODEL.ROI_OP.NAME": "",
            "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
            "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        },
    ),
    "softmax": ("mask", {"MODEL.ROI_MASK_HEAD.LOSS": "softmax"}),
    "agnostic": (
        "mask",
        {
            "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        },
    ),
    "mlp": ("mask", {"MODEL.ROI_MASK_HEAD.NAME": "MLPMaskHead"}),
    "narrow": (
        "mask",
        {
            "MODEL.BACKBONE.NAME": "build_narrow_resnet_fpn_backbone",
            "MODEL.NARROW_RESNET.NUM_BLOCKS": (1, 1, 1, 1),
            "MODEL.NARROW_RESNET.CHANNELS": (4, 8, 12, 16, 20),
            "MODEL.RPN.IN_FEATURES": ["p4", "p5"],
            "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32]],
        },
    ),
    "unused classes": ("box", {"MODEL.ROI_BOX_HEAD.UNUSED_CLASSES": 2}),
}


def filled(kind, **keys):
    """Return a plain model whose scores differ: with the first weights of a training they are equal."""
    model, cfg = tiny_model(kind, **keys), tiny_config(kind, **keys)
    recipe.fill(model, choose_gains(cfg) | {"cls_score": 0.002 if kind == "c4" else 1})
    return model, cfg


def assert_close(instances, expected):
    """Assert that two ``Instances`` hold the same detections."""
    ours, theirs = instances.get_fields(), expected.get_fields()
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        pair = [getattr(x, "tensor", x) for x in (ours[name], value)]
        torch.testing.assert_close(*pair, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


QUICK = ("fpn", "c4", "detectron2", "narrow")


@pytest.mark.parametrize(
    "fused", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["fused", "folded"]
)
@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in QUICK)],
)
@torch.no_grad()
def test_a_fast_model_detects_the_same(name, fused, monkeypatch):
    kind, keys = MODELS[name]
    plain, cfg = filled(kind, **keys)
    fast = copy.deepcopy(plain)
    if not fused:
        monkeypatch.setattr(build, "has_fused_operators", lambda dtype: False)
    path = accelerate(fast, cfg)
    assert path == (
        "fused float32" if fused and build.has_fused_operators(torch.float32) else "folded float32"
    )
    inputs = [picture(), picture((50, 70))]
    pairs = zip(
        fast.inference(inputs, do_postprocess=False),
        plain.inference(inputs, do_postprocess=False),
        strict=True,
    )
    for ours, theirs in pairs:
        assert len(theirs)
        assert len(theirs.scores.unique()) == len(theirs)
        assert_close(ours, theirs)


@torch.no_grad()
def test_nothing_to_detect_is_no_detection():
    keys = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.999}
    fast = tiny_model("mask", **keys)
    accelerate(fast, tiny_config("mask", **keys))
    [output] = fast([picture()])
    assert len(output["instances"]) == 0


@torch.no_grad()
def test_no_proposal_is_no_detection():
    keys = {"MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 1000}
    fast = tiny_model("mask", **keys)
    accelerate(fast, tiny_config("mask", **keys))
    [output] = fast([picture()])
    assert len(output["instances"]) == 0


HOOKED = {
    "fpn": [
        "backbone",
        "backbone.fpn_lateral4",
        "backbone.bottom_up.stem",
        "backbone.bottom_up.res3.1",
        "backbone.bottom_up.res3.1.conv2.norm",
        "proposal_generator",
        "proposal_generator.rpn_head",
        "proposal_generator.rpn_head.conv.activation",
        "proposal_generator.rpn_head.anchor_deltas",
        "roi_heads.box_pooler",
        "roi_heads.box_pooler.level_poolers.1",
        "roi_heads.box_head",
        "roi_heads.box_head.fc1",
        "roi_heads.box_predictor",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_head",
        "roi_heads.mask_head.deconv",
    ],
    "detectron2 c4": ["roi_heads.pooler", "roi_heads.res5.0", "roi_heads.res5.0.conv1.norm"],
}


@pytest.mark.parametrize(
    ("kind", "part"), [(kind, part) for kind, parts in HOOKED.items() for part in parts]
)
@torch.no_grad()
def test_hooks_are_called_as_before(kind, part):
    name, keys = MODELS[kind]
    plain, cfg = filled(name, **keys)
    calls = []
    fast = copy.deepcopy(plain)
    for model in (plain, fast):
        module = model.get_submodule(part)
        module.register_forward_pre_hook(lambda *_: calls.append("before"))
        module.register_forward_hook(lambda *_: calls.append("behind"))
    accelerate(fast, cfg)
    [expected] = plain.inference([picture()], do_postprocess=False)
    called = [*calls]
    [found] = fast.inference([picture()], do_postprocess=False)
    assert calls == called + called != []
    assert_close(found, expected)


@torch.no_grad()
def test_boxes_and_scores_in_bfloat16_are_those_of_the_layers_that_autocast_computes():
    fast, cfg = filled("mask", **{"MODEL.INFERENCE.PRECISION": "bfloat16"})
    plain = copy.deepcopy(fast)
    accelerate(fast, cfg)
    layers, replaced = plain.roi_heads.box_predictor, fast.roi_heads.box_predictor
    assert type(replaced) is FastOutputLayers
    rois = torch.randn(50, layers.cls_score.in_features).bfloat16()
    with plain.autocast():
        for ours, theirs in zip(replaced(rois), layers(rois), strict=True):
            assert ours.dtype == theirs.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.03)


def test_fast_layers_have_the_limits_that_a_cascade_reads():
    keys = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.25, "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.75}
    fast, cfg = filled("box", **keys)
    accelerate(fast, cfg)
    layers = fast.roi_heads.box_predictor
    limits = (layers.test_score_thresh, layers.test_nms_thresh, layers.test_topk_per_image)
    assert limits == (0.25, 0.75, 5)


def test_what_is_replaced_is_counted_and_the_rest_stays():
    class OwnBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 1)

    accelerator = Accelerator(torch.float32, fused=False)
    parts = torch.nn.Sequential(OwnBlock(), torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU()).eval()
    accelerator.replace(parts)
    assert accelerator.replaced == {"Conv2d": 1}
    assert type(parts[0].conv) is torch.nn.Conv2d


def test_a_gpu_and_half_precision_keep_the_plain_model():
    for keys in ({"MODEL.DEVICE": "cuda"}, {"MODEL.INFERENCE.PRECISION": "float16"}):
        assert accelerate(torch.nn.Identity(), tiny_config("mask", **keys)) == ""
