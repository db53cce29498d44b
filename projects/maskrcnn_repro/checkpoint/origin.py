"""Which library and model a file of weights is likely of, told by the names of its tensors, and how to use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CONVERT = "maskrcnn convert-weights {path} OUT.pth takes its backbone"


class Origin(NamedTuple):
    """A kind of file and what to do with it."""

    pattern: str
    """What the name of one of its tensors begins with, perhaps after other prefixes."""
    text: str


FOREIGN = (
    Origin(
        r"(backbone\.layer\d|neck\.|rpn_head\.|bbox_head\.|roi_head\.)",
        f"it looks like a model of MMDetection; {CONVERT}",
    ),
    Origin(
        r"backbone\.body\.",
        "it looks like a detector of torchvision; maskrcnn convert-weights {path} OUT.pth converts it",
    ),
    Origin(r"(.*\.)?layer\d\.\d+\.", f"it looks like a ResNet of torchvision or timm; {CONVERT}"),
    Origin(
        r"(res\d_\d+_branch|conv1_w$|res_conv1_bn)",
        f"it looks like Caffe2 Detectron's in another container; {CONVERT}",
    ),
    Origin(
        r"(stages|blocks|layers|patch_embed|stem)\.(?!conv1\.)",
        "it looks like a network of timm or MMDetection that is no ResNet, which no config of this project has",
    ),
    Origin(
        r"(stem\.conv1|res\d\.\d+)\.",
        "it looks like Detectron2's backbone alone; add ?matching_heuristics=True to its name",
    ),
    Origin(
        r"(transformer|decoder|encoder|sem_seg_head)\.", "it looks like a model that is no R-CNN"
    ),
)
"""Files of other libraries; the first that fits."""
_BLOCK = re.compile(r"(?:res|layer)(\d)[._](\d+)[._](?:conv(\d)|branch2([abc]))?")
_DEPTHS = {(1, 2): 18, (2, 2): 18, (5, 2): 34, (5, 3): 50, (22, 3): 101, (35, 3): 152}
"""Last block of the next to last stage and convolutions of a block, and the depth of the ResNet."""
_FPN = ("backbone.bottom_up.", "backbone.fpn_")
_HEADS = {
    "roi_heads.mask_head.": "mask head",
    "roi_heads.keypoint_head.": "keypoint head",
    "roi_heads.box_predictor.": "box head",
    "proposal_generator.": "region proposal network",
}


def likely_origin(
    names: Sequence[str], model: Sequence[str], path: str, *, fits: bool = False
) -> str:
    """Return what a file looks like and the way to use it, as the end of a sentence; empty if nothing tells.

    Args:
        names: of the tensors in the file.
        model: names of the model's tensors.
        path: of the file, for the command that converts it.
        fits: some of its tensors were loaded: if their names are not the model's, by the ends of these.
    """
    in_detectron2 = any(_in_detectron2(name) for name in names)
    if not (fits or in_detectron2):
        for origin in FOREIGN:
            if any(re.match(origin.pattern, name) for name in names):
                return origin.text.format(path=path.partition("?")[0])
    pyramid = _other_pyramid(names, model) if in_detectron2 else ""
    return pyramid or _other_depth(names, model) or _other_heads(names, model)


def _in_detectron2(name: str) -> bool:
    return (
        re.match(r"backbone\.(bottom_up|res\d|stem|fpn_)|roi_heads\.|proposal_g", name) is not None
    )


def _other_pyramid(names: Iterable[str], model: Iterable[str]) -> str:
    in_file, in_model = (any(name.startswith(_FPN) for name in part) for part in (names, model))
    if in_file == in_model or not any(name.startswith("backbone.") for name in model):
        return ""
    first, second = ("an FPN", "C4 or C5") if in_file else ("C4 or C5", "an FPN")
    return (
        f"it is of a model with {first}, the config of one with {second}; configs/coco/"
        f"{'r50_fpn' if in_file else 'r50_c4'}.yaml has {first if in_file else 'C4'}"
    )


def _other_depth(names: Iterable[str], model: Iterable[str]) -> str:
    in_file, in_model = depth_of(names), depth_of(model)
    if not in_file or not in_model or in_file == in_model:
        return ""
    return (
        f"it is of a ResNet-{in_file}, the config's is a ResNet-{in_model}; set MODEL.RESNETS.DEPTH {in_file} "
        f"or take weights of a ResNet-{in_model}"
    )


def _other_heads(names: Sequence[str], model: Iterable[str]) -> str:
    lacking = [
        head
        for prefix, head in _HEADS.items()
        if any(name.startswith(prefix) for name in model)
        and not any(name.startswith(prefix) for name in names)
    ]
    if not lacking or not any(name.startswith("roi_heads.") for name in names):
        return ""
    return f"it is of a model without a {' and a '.join(lacking)}; take the config that it was trained with"


def depth_of(names: Iterable[str]) -> int | None:
    """Return the depth of the ResNet of which tensors have these names; None if there is none."""
    blocks = [match for match in map(_BLOCK.search, names) if match]
    # res4 or, in torchvision's names, layer3.
    stages = {"4" if "res" in match[0] else "3" for match in blocks}
    last = max((int(m[2]) for m in blocks if m[1] in stages), default=-1)
    convolutions = max(
        (int(m[3]) if m[3] else "abc".index(m[4]) + 1 for m in blocks if m[3] or m[4]), default=0
    )
    return _DEPTHS.get((last, convolutions))
