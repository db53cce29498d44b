"""What the reference code of Hybrid Task Cascade computes in its mask heads and its semantic head, and ours.

``PYTHONPATH=projects python -m tests.family.hybrid_parity`` with a Python that has mmdetection 3 rewrites the numbers.
"""

import gzip
import json
from types import SimpleNamespace

from maskrcnn_repro.config import load_config

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_mask_head
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from tests.helpers.paths import STORED

FILE = STORED / "family" / "hybrid_task_cascade.json.gz"
CONFIG = maskrcnn_family.__path__[0] + "/hybrid_task_cascade/config.yaml"
CHANNELS, SIDE, CLASSES, STUFF, ROIS = 4, 6, 3, 5, 5
NAMES = {
    "upsample": "deconv",
    "conv_logits": "predictor",
    "conv_res.conv": "conv_res",
    **{f"convs.{k}.conv": f"mask_fcn{k + 1}" for k in range(4)},
}
"""A layer of the reference's mask head to that of ours."""


def numbers(*shape, start=0, gain=1.0):
    """Return well spread numbers in [-gain, gain]."""
    count = torch.Size(shape).numel()
    return gain * torch.sin(start + 12.9898 * torch.arange(1, count + 1)).view(shape)


def fill(module):
    """Give each parameter, in the order of their names, numbers that keep the size of activations."""
    for start, (_, parameter) in enumerate(sorted(module.named_parameters())):
        fan_in = max(parameter[0].numel(), 4)
        parameter.data = numbers(*parameter.shape, start=start, gain=(6 / fan_in) ** 0.5)


def config(**changes):
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    values = {
        "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": CHANNELS,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": CHANNELS,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": STUFF,
    }
    for key, value in (values | changes).items():
        cfg.merge_from_list([key, value])
    return cfg


def mask_head(**changes):
    head = build_mask_head(config(**changes), ShapeSpec(channels=CHANNELS, height=SIDE, width=SIDE))
    fill(head)
    return head.train()


def semantic_head(**changes):
    shapes = {f"p{k}": ShapeSpec(channels=CHANNELS, stride=2**k) for k in range(2, 7)}
    head = SEM_SEG_HEADS_REGISTRY.get("FamilyFusedSemanticHead")(config(**changes), shapes)
    fill(head)
    return head


def rois():
    return numbers(ROIS, CHANNELS, SIDE, SIDE, start=0.5)


def truth():
    """Return the masks (R, 2 P, 2 P) and classes (R,) of the RoIs."""
    return numbers(ROIS, 2 * SIDE, 2 * SIDE, start=0.7) > 0, torch.arange(ROIS) % CLASSES


def proposals():
    """Return RoIs whose ground truth in their box is :func:`truth`."""
    masks, classes = truth()
    boxes = Boxes(torch.tensor([[0.0, 0, 2 * SIDE, 2 * SIDE]]).repeat(ROIS, 1))
    image = Instances((2 * SIDE, 2 * SIDE), proposal_boxes=boxes, gt_classes=classes)
    image.gt_masks = BitMasks(masks)
    return image


def pyramid():
    sizes = ((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))
    return {
        f"p{k}": numbers(2, CHANNELS, *size, start=k)
        for k, size in zip(range(2, 7), sizes, strict=True)
    }


def labels():
    return (torch.arange(2 * 64 * 96).view(2, 64, 96) // 7) % STUFF


def norms(module):
    """Return the norm of each parameter's gradient, a layer's weight and bias by our names."""
    return {
        name: float(f"{parameter.grad.norm():.6g}")
        for name, parameter in sorted(module.named_parameters())
        if parameter.grad is not None
    }


def sampled(tensor):
    """Return every seventh number."""
    return [float(f"{value:.6g}") for value in tensor.detach().flatten()[::7].tolist()]


def ours():
    """Return logits, losses and gradients of our heads."""
    head, semantic = mask_head(), semantic_head()
    stages = [sampled(logits()) for logits in head.stage_logits(rois())]
    with EventStorage():
        losses = [head.stage_losses(rois(), [proposals()], k)["loss_mask"] for k in range(3)]
    sum(losses).backward()
    logits, features = semantic(pyramid())
    loss = semantic.losses(logits, labels())["loss_sem_seg"]
    (loss + features.mean()).backward()
    return {
        "stages": stages,
        "losses": [loss.item() for loss in losses],
        "gradients": norms(head),
        "semantic": [sampled(logits), sampled(features), [loss.item()]],
        "semantic_gradients": norms(semantic),
    }


def theirs():
    """Return the same of the reference, with our weights."""
    from mmdet.models.roi_heads.htc_roi_head import HybridTaskCascadeRoIHead
    from mmdet.models.roi_heads.mask_heads import FusedSemanticHead, HTCMaskHead

    sizes = {"in_channels": CHANNELS, "conv_out_channels": CHANNELS}
    criterion = {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0}
    heads = torch.nn.ModuleList(
        HTCMaskHead(with_conv_res=k > 0, num_classes=CLASSES, loss_mask=criterion, **sizes)
        for k in range(3)
    )
    ours = mask_head().state_dict()
    for head, number in zip(heads, "012", strict=True):
        head.load_state_dict({name: ours[f"{number}.{_ours(name)}"] for name in head.state_dict()})
    roi_heads = SimpleNamespace(
        mask_roi_extractor=[_Extractor()] * 3,
        mask_head=heads,
        with_semantic=False,
        mask_info_flow=True,
    )
    forward = HybridTaskCascadeRoIHead._mask_forward
    logits = [forward(roi_heads, k, rois(), None)["mask_preds"] for k in range(3)]
    masks, classes = truth()
    pairs = zip(heads, logits, strict=True)
    losses = [head.loss_mask(stage, masks.float(), classes) for head, stage in pairs]
    sum(losses).backward()

    semantic = FusedSemanticHead(num_ins=5, fusion_level=1, num_classes=STUFF, **sizes)
    state = semantic_head().state_dict()
    semantic.load_state_dict({n: state[n.replace(".conv.", ".")] for n in semantic.state_dict()})
    predicted, features = semantic(list(pyramid().values()))
    loss = semantic.loss(predicted, labels()[:, None])
    (loss + features.mean()).backward()
    gradients = {}
    for name, value in norms(heads).items():
        number, layer = name.split(".", 1)
        gradients[f"{number}.{_ours(layer)}"] = value
    return {
        "stages": [sampled(stage) for stage in logits],
        "losses": [loss.item() for loss in losses],
        "gradients": gradients,
        "semantic": [sampled(predicted), sampled(features), [loss.item()]],
        "semantic_gradients": {
            name.replace(".conv.", "."): value for name, value in norms(semantic).items()
        },
    }


class _Extractor:
    """Stands for the reference's RoI operation: the RoIs are pooled already."""

    num_inputs = ROIS

    def __call__(self, pooled, boxes):
        return pooled


def _ours(name):
    layer, kind = name.rsplit(".", 1)
    return f"{NAMES[layer]}.{kind}"


def stored():
    return json.loads(gzip.decompress(FILE.read_bytes()))


if __name__ == "__main__":
    FILE.write_bytes(gzip.compress(json.dumps(theirs()).encode(), mtime=0))
