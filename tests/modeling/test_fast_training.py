"""Parts that train faster: the losses and gradients of the plain ones, in every kind of model."""

import copy

from maskrcnn_repro.benchmark import recipe, scenes
from maskrcnn_repro.benchmark.models import choose_gains
from maskrcnn_repro.modeling.fast_training.build import quicken
from maskrcnn_repro.modeling.fast_training.checkpointing import checkpoint_stages
from maskrcnn_repro.modeling.fast_training.layers import FoldedConv2d

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.utils.events import EventStorage

from tests.helpers.tiny_models import picture, tiny_config, tiny_model

DETECTRON2 = {
    "MODEL.ROI_OP.NAME": "",
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.RESNETS.NORM": "FrozenBN",
}
MODELS = {
    "fpn": ("mask", {"MODEL.RESNETS.NORM": "FrozenBN"}),
    "batch norm": ("mask", {}),
    "detectron2": ("mask", DETECTRON2 | {"MODEL.ROI_HEADS.NAME": "StandardROIHeads"}),
    "detectron2 c4": ("c4", DETECTRON2 | {"MODEL.ROI_HEADS.NAME": "Res5ROIHeads"}),
}


# On processors with AVX2 alone, PyTorch 2.14 writes past its memory in the backward pass of strided 1x1 convolutions of
# four channels in channels-last memory.
WIDER = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
}


def trainable(kind, keys):
    cfg = tiny_config(kind, **keys, **WIDER)
    model = tiny_model(kind, **keys, **WIDER)
    recipe.fill(model, choose_gains(cfg))
    return model.train().to(memory_format=torch.channels_last)


def batch():
    return [
        scenes.model_input(scenes.scene(number, 64, 80, objects=objects), num_classes=3)
        for number, objects in enumerate((3, 1))
    ]


def step(model, images):
    torch.manual_seed(5)  # the same anchors and RoIs are sampled
    model.zero_grad()
    with EventStorage() as storage:
        losses = model(images)
        sum(losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients, storage.latest()


def assert_same_step(model, plain, images, *, exact=False):
    ours, theirs = step(model, images), step(plain, images)
    close = {"rtol": 0, "atol": 0} if exact else {"rtol": 2e-3, "atol": 2e-4}
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        assert own.keys() == other.keys()
        for name, value in own.items():
            torch.testing.assert_close(value, other[name], **close, msg=name)
    assert ours[2]["rpn/num_pos_anchors"] == theirs[2]["rpn/num_pos_anchors"]


@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_detections_stay(name):
    kind, keys = MODELS[name]
    plain = trainable(kind, keys)
    fast = copy.deepcopy(plain)
    replaced = quicken(fast)
    assert replaced["SampledRPN"] == 1
    assert replaced["TrainedPooler"] == {"detectron2": 2, "detectron2 c4": 1}.get(name, 0)
    assert (replaced["FoldedConv2d"] > 50) == (name != "batch norm")
    assert fast.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        ours, theirs = (model.eval()([picture()])[0]["instances"] for model in (fast, plain))
    assert torch.equal(ours.scores, theirs.scores)
    assert_same_step(fast.train(), plain.train(), batch())


def test_a_folded_convolution_by_hand():
    conv = Conv2d(1, 1, 1, bias=False, norm=FrozenBatchNorm2d(1, eps=0.0))
    torch.nn.init.constant_(conv.weight, 3.0)
    for name, value in {
        "weight": 2.0,
        "bias": 5.0,
        "running_mean": 1.0,
        "running_var": 4.0,
    }.items():
        getattr(conv.norm, name).fill_(value)
    conv.__class__ = FoldedConv2d
    out = conv(torch.full((1, 1, 1, 1), 7.0))
    out.backward()
    # (3 * 7 - 1) * 2 / 2 + 5, whose slope in the weight is 7 * 2 / 2.
    assert out.item() == 25.0
    assert conv.weight.grad.item() == 7.0
    assert conv(torch.zeros(0, 1, 1, 1)).shape == (0, 1, 1, 1)


def test_an_image_without_objects():
    plain = trainable(*MODELS["fpn"])
    fast = copy.deepcopy(plain)
    quicken(fast)
    images = batch()
    for image in images:
        image["instances"] = image["instances"][:0]
    assert_same_step(fast, plain, images)


@pytest.mark.parametrize(
    "name",
    [
        "proposal_generator.rpn_head.conv",
        "proposal_generator.rpn_head",
        "roi_heads.box_pooler",
        "roi_heads.mask_pooler.level_poolers.0",
        "backbone.bottom_up.res4.0.conv1",
        "backbone.bottom_up.res4.0.conv1.norm",
    ],
)
def test_hooks_are_called_as_before(name):
    plain, calls = trainable(*MODELS["detectron2"]), []
    for moment in ("forward", "forward_pre"):
        register = getattr(plain.get_submodule(name), f"register_{moment}_hook")
        register(lambda *_, moment=moment: calls.append(moment))
    fast = copy.deepcopy(plain)
    quicken(fast)
    noted = []
    for model in (plain, fast):
        calls.clear()
        step(model, batch())
        noted.append([*calls])
    assert noted[0] == noted[1]
    assert {"forward", "forward_pre"} <= set(noted[0])


@pytest.mark.parametrize("name", ["batch norm", "detectron2 c4"])
def test_checkpointed_stages_have_the_same_bits(name):
    kind, keys = MODELS[name]
    plain = trainable(kind, keys)
    checkpointed = copy.deepcopy(plain)
    assert checkpoint_stages(checkpointed) == 5
    assert_same_step(checkpointed, plain, batch(), exact=True)
    for own, other in zip(checkpointed.buffers(), plain.buffers(), strict=True):
        assert torch.equal(own, other)  # batch norm has counted each map once


def test_a_checkpointed_head_that_draws_has_the_same_gradients():
    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = Conv2d(2, 1, 1)

        def layers(self, x):
            return self.last(torch.nn.functional.dropout(x))

    plain = torch.nn.ModuleDict({"roi_heads": torch.nn.ModuleDict({"mask_head": Head()})})
    checkpointed = copy.deepcopy(plain)
    for model in (plain, checkpointed):
        model.roi_heads = model["roi_heads"]
        model.roi_heads.mask_head = model.roi_heads["mask_head"]
    assert checkpoint_stages(checkpointed) == 1
    rois = torch.randn(4, 2, 3, 3)
    for model in (plain, checkpointed):
        torch.manual_seed(5)
        model.roi_heads.mask_head.layers(rois).sum().backward()
    gradients = [[p.grad for p in model.parameters()] for model in (plain, checkpointed)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 1, 70])
def test_a_checkpointed_head_takes_rois_in_parts(count):
    plain = trainable(*MODELS["fpn"])
    checkpointed = copy.deepcopy(plain)
    checkpoint_stages(checkpointed)
    channels = next(iter(plain.backbone.output_shape().values())).channels
    rois = torch.randn(count, channels, 14, 14)
    gradients = []
    for head in (checkpointed.roi_heads.mask_head, plain.roi_heads.mask_head):
        head.layers(rois).square().sum().backward()
        gradients.append([p.grad for p in head.parameters()])
    assert all(gradient is not None for gradient in gradients[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
