"""What the layers of PANet's authors' code compute, and the same of ours, from the same weights and inputs.

``python -m tests.family.panet_parity CHECKOUT`` rewrites the stored numbers; CHECKOUT is github.com/ShuLiu1993/PANet. Its
code for PyTorch 0.4 does not run as a whole: of three files the layers do, with stand-ins for what they import.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.modeling.mask_head.losses import MaskLoss, sigmoid_loss, sigmoid_masks

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from maskrcnn_family.panet import FamilyPANet, FamilyPANetBoxHead, FamilyPANetMaskHead
from tests.helpers.parity.store import rounded
from tests.helpers.paths import STORED

FILE = STORED / "family" / "panet.json"
PARTS = ("pyramid", "box", "mask")
# GroupNorm has 32 groups, and the short path half the channels.
CHANNELS, LEVELS, CLASSES, SIDE = 64, 4, 3, 6
STAGES = {f"res{k}": ShapeSpec(channels=8 * k, stride=2**k) for k in range(2, 6)}
# Of each part, ours -> the authors'. Their convolutions and norms are numbered.
NAMES = {
    "pyramid": (
        (r"fpn_lateral5", "conv_top.0"),
        (r"fpn_lateral(\d)", lambda m: f"topdown_lateral_modules.{4 - int(m[1])}.conv_lateral.0"),
        (r"fpn_output(\d)", lambda m: f"posthoc_modules.{5 - int(m[1])}.0"),
        (r"downsample_p(\d)", lambda m: f"panet_buttomup_conv1_modules.{int(m[1]) - 3}.0"),
        (r"augment_p(\d)", lambda m: f"panet_buttomup_conv2_modules.{int(m[1]) - 3}.0"),
    ),
    "box": (
        (r"first\.(\d)\.conv1", r"conv1_head.\1.0"),
        (r"later\.conv(\d)", lambda m: f"convs.{3 * int(m[1]) - 3}"),
        (r"later\.fc1", "fc"),
    ),
    "mask": (
        (r"mask_fcn1\.(\d)", r"mask_conv1.\1.0"),
        (r"mask_fcn([23])", lambda m: f"conv_fcn.{3 * int(m[1]) - 6}"),
        (r"mask_fcn4", "mask_conv4.0"),
        (r"fc_fcn1", "mask_conv4_fc.0"),
        (r"fc_fcn2", "mask_conv5_fc.0"),
        (r"fc(?=\.)", "mask_fc.0"),
        (r"deconv", "upconv"),
        (r"predictor", "outputs.classify"),
    ),
}


class Stages(Backbone):
    """A backbone whose feature maps are its input."""

    def output_shape(self):
        return STAGES

    def forward(self, x):
        return x


def build(part):
    """Return our layers, with the recipe's weights."""
    rois = ShapeSpec(channels=CHANNELS, height=SIDE, width=SIDE)
    if part == "pyramid":
        top = LastLevelMaxPool()
        module = FamilyPANet(Stages(), [*STAGES], CHANNELS, "GN", top_block=top)
    elif part == "box":
        widths = {"conv_dims": [CHANNELS] * 4, "fc_dims": [16], "conv_norm": "GN"}
        module = FamilyPANetBoxHead(rois, levels=LEVELS, **widths)
    else:
        loss = MaskLoss(CLASSES, sigmoid_loss, sigmoid_masks)
        sizes = {"num_conv": 4, "conv_dim": CHANNELS, "norm": "GN"}
        module = FamilyPANetMaskHead(rois, levels=LEVELS, loss=loss, **sizes)
        # The authors' code has a ReLU here, which the paper lacks: see the plug-in's README.
        module.fc.register_forward_hook(lambda *args: args[-1].relu())
    recipe.fill(module, {})
    return module


def inputs(part):
    """Return the maps of the backbone's stages, or RoIs (R, C, P, P) of each level."""
    if part == "pyramid":
        shapes = {
            name: (1, s.channels, 64 // s.stride, 64 // s.stride) for name, s in STAGES.items()
        }
    else:
        shapes = {str(level): (3, CHANNELS, SIDE, SIDE) for level in range(LEVELS)}
    tensors = {n: torch.from_numpy(recipe.values(f"in {n}", shape)) for n, shape in shapes.items()}
    return {name: (tensor / tensor.std()).requires_grad_() for name, tensor in tensors.items()}


def measure(part, run):
    """Return samples of what ``run`` makes of the inputs, and of the gradients of a sum of it."""
    given = inputs(part)
    outputs = run(given)
    weights = [
        torch.from_numpy(recipe.values(f"out {k}", out.shape)) for k, out in enumerate(outputs)
    ]
    sum((out * w).sum() for out, w in zip(outputs, weights, strict=True)).backward()
    tensors = {"outputs": outputs, "gradients": [tensor.grad for tensor in given.values()]}
    return {name: [_sample(tensor) for tensor in group] for name, group in tensors.items()}


def _sample(tensor):
    return rounded(tensor.detach().flatten()[:: max(1, tensor.numel() // 40)], 5)


def measure_ours(part):
    module = build(part).eval()
    if part == "pyramid":
        return measure(part, lambda given: [*module(given).values()])
    layers = module.layers if part == "mask" else module
    return measure(part, lambda given: [layers(torch.cat([*given.values()], dim=1))])


def stored():
    return json.loads(FILE.read_text(encoding="utf-8"))


def _authors(folder):
    """Return the three files as modules."""
    fpn = {"FPN.DIM": CHANNELS, "FPN.USE_GN": True, "FPN.ZERO_INIT_LATERAL": False}
    fpn |= {"FPN.MULTILEVEL_RPN": True, "FPN.MULTILEVEL_ROIS": True, "FPN.EXTRA_CONV_LEVELS": False}
    fpn |= {
        f"FPN.{who}_{end}_LEVEL": k
        for who, top in (("RPN", 6), ("ROI", 5))
        for end, k in (("MIN", 2), ("MAX", top))
    }
    heads = {
        "FAST_RCNN.CONV_HEAD_DIM": CHANNELS,
        "FAST_RCNN.NUM_STACKED_CONVS": 4,
        "FAST_RCNN.MLP_HEAD_DIM": 16,
    }
    heads |= {
        "FAST_RCNN.ROI_XFORM_RESOLUTION": SIDE,
        "MRCNN.ROI_XFORM_RESOLUTION": SIDE,
        "MRCNN.RESOLUTION": 2 * SIDE,
    }
    heads |= {
        "MRCNN.DILATION": 1,
        "MRCNN.DIM_REDUCED": CHANNELS,
        "MRCNN.CONV_INIT": "MSRAFill",
        "MRCNN.UPSAMPLE_RATIO": 1,
    }
    heads |= {
        "MRCNN.CLS_SPECIFIC_MASK": True,
        "MRCNN.USE_FC_OUTPUT": False,
        "MODEL.NUM_CLASSES": CLASSES,
    }
    cfg = mock.MagicMock()
    for key, value in (fpn | heads | {"GROUP_NORM.EPSILON": 1e-5}).items():
        node, name = key.split(".")
        setattr(getattr(cfg, node), name, value)
    stand_ins = {"core.config": {"cfg": cfg}, "utils.net": {"get_group_gn": lambda dim: 32}}
    stand_ins["nn"] = {"init": SimpleNamespace(MSRAFill=id, XavierFill=id)}
    for name in (
        "ResNet",
        "generate_anchors",
        "generate_proposals",
        "collect_and_distribute_fpn_rpn_proposals",
    ):
        stand_ins[f"modeling.{name}"] = dict.fromkeys(
            ("generate_anchors", "GenerateProposalsOp", "CollectAndDistributeFpnRpnProposalsOp")
        )
    for name, content in stand_ins.items():
        parent, _, child = name.rpartition(".")
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(content)
        if parent:
            setattr(sys.modules.setdefault(parent, ModuleType(parent)), child, module)
    files = [
        folder / "lib" / "modeling" / f"{name}.py"
        for name in ("FPN", "fast_rcnn_heads", "mask_rcnn_heads")
    ]
    return [_load(file) for file in files]


def _load(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_our_weights(part, theirs):
    """Give the authors' module the values of ours; their convolutions before a norm have biases, which stay zero."""
    state = {}
    for name, tensor in build(part).state_dict().items():
        for pattern, replacement in NAMES[part]:
            renamed, count = re.subn(f"^{pattern}", replacement, name, count=1)
            if count:
                break
        # A norm stands one place behind its convolution.
        norm = re.fullmatch(r"(.*)\.(\d+)\.norm\.(\w+)", renamed)
        state[f"{norm[1]}.{int(norm[2]) + 1}.{norm[3]}" if norm else renamed] = tensor
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(re.search(r"buttomup.*0\.bias", name) for name in missing), missing
    return theirs.eval()


def _measure_theirs(part, fpn, boxes, masks):
    rois = CHANNELS, lambda x, *_, **__: [*x], 1
    if part == "box":
        head = _with_our_weights(part, boxes.roi_Xconv1fc_gn_head_panet(*rois))
        return measure(part, lambda given: [head([*given.values()], None)])
    if part == "mask":
        head = masks.mask_rcnn_fcn_head_v1upXconvs_gn_adp_ff(*rois, 4)
        head.outputs = masks.mask_rcnn_outputs(CHANNELS)
        # In evaluation they are probabilities.
        head = _with_our_weights(part, head).train()
        return measure(part, lambda given: [head.outputs(head([*given.values()], None))])
    dims = [shape.channels for shape in reversed(STAGES.values())]
    info = SimpleNamespace(blobs="5432", dims=dims, spatial_scales=[1] * 4)
    pyramid = fpn.fpn(nn.Module, info, panet_buttomup=True)
    _with_our_weights(part, pyramid)

    def run(given):
        stages = {name: lambda _, tensor=tensor: tensor for name, tensor in given.items()}
        vars(pyramid)["conv_body"] = SimpleNamespace(convX=5, res1=id, **stages)
        return pyramid(None)[::-1]

    return measure(part, run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    modules = _authors(Path(sys.argv[1]))
    numbers = {part: _measure_theirs(part, *modules) for part in PARTS}
    FILE.write_text(json.dumps(numbers) + "\n", encoding="utf-8")
