"""Matching the weights of other libraries with the parameters of a model, by name.

Caffe2 Detectron writes "res4_22_branch2a_bn_s" for "backbone.res4.22.conv1.norm.weight". Its names
are first rewritten by rules; then any checkpoint name that is the end of a parameter's name, at a
dot, belongs to it.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator

import torch

from detectron2._absent import module_getattr

_logger = logging.getLogger(__name__)

_StateDict = dict[str, torch.Tensor]
_Rule = tuple[str, str | Callable[[re.Match], str]]

# Applied in order, each to the result of the one before.
_BACKBONE_RULES: tuple[_Rule, ...] = (
    (r"^pred_(?=[bw]$)", "linear_"),
    (r"_", "."),
    (r"\.b$", ".bias"),
    (r"\.w$", ".weight"),
    (r"(?:bn\.gamma|[bg]n\.s)$", "norm.weight"),
    (r"(?:bn\.beta|[bg]n\.bias)$", "norm.bias"),
    (r"bn\.(?:rm|running\.mean)$", "norm.running_mean"),
    (r"bn\.(?:riv|running\.var)$", "norm.running_var"),
    # The stem's norm is called res_conv1_bn. Only at the start: heads have a conv1, too.
    (r"^(?:res\.(?=conv1\.norm\.))?conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2([abc])\.", lambda match: f".conv{'abc'.index(match[1]) + 1}."),
)

_DETECTOR_RULES: tuple[_Rule, ...] = (
    # One RPN head serves all levels of a pyramid; it is stored with the finest level, 2.
    (r"conv\.rpn(?:\.fpn2)?", "proposal_generator.rpn_head.conv"),
    (r"rpn\.bbox\.pred(?:\.fpn2)?", "proposal_generator.rpn_head.anchor_deltas"),
    (r"rpn\.cls\.logits(?:\.fpn2)?", "proposal_generator.rpn_head.objectness_logits"),
    (r"^bbox\.pred", "bbox_pred"),
    (r"^cls\.score", "cls_score"),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv", "box_head.conv"),
    # fpn.inner.res4.5.sum.lateral.weight is the lateral convolution of level 4.
    (r"^fpn\.inner\.res(\d+)\..*?((?:\.norm)?\.\w+)$", r"fpn_lateral\1\2"),
    (r"^fpn\.res(\d+)\..*?((?:\.norm)?\.\w+)$", r"fpn_output\1\2"),
    (r"\.\[mask\]\.fcn|^\.mask\.fcn", "mask_head.mask_fcn"),
    (r"mask\.fcn\.logits", "mask_head.predictor"),
    (r"conv5\.mask", "mask_head.deconv"),
    (r"conv\.fcn", "roi_heads.keypoint_head.conv_fcn"),
    (r"kps\.score\.lowres", "roi_heads.keypoint_head.score_lowres"),
    (r"kps\.score\.", "roi_heads.keypoint_head.score."),
)


def _rename(name: str, rules: Iterable[_Rule]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def convert_basic_c2_names(original_keys: Iterable[str]) -> list[str]:
    """Rewrite the Caffe2 names of backbone weights, one by one."""
    return [_rename(key, _BACKBONE_RULES) for key in original_keys]


def convert_c2_detectron_names(weights: _StateDict) -> tuple[_StateDict, dict[str, str]]:
    """Rewrite Caffe2 Detectron's names and move its background, class 0, to where it belongs.

    Class logits have background last; box deltas (4 per class) and mask logits have none.

    Args:
        weights: Caffe2 name to tensor.

    Returns:
        New name to tensor, and new name to Caffe2 name.

    Raises:
        ValueError: two weights get the same name.
    """
    renamed, originals = {}, {}
    for original in sorted(weights):
        name = _rename(original, _BACKBONE_RULES + _DETECTOR_RULES)
        if name in originals:
            raise ValueError(f"{originals[name]!r} and {original!r} both stand for {name!r}")
        originals[name] = original
        renamed[name] = _background_last(name, weights[original])
    return renamed, originals


def _background_last(name: str, weight: torch.Tensor) -> torch.Tensor:
    if name.startswith("cls_score."):
        return weight.roll(-1, dims=0)
    for prefix, rows_per_class in (("bbox_pred.", 4), ("mask_head.predictor.", 1)):
        if name.startswith(prefix):
            return weight[rows_per_class:]
    return weight


def align_and_update_state_dicts(
    model_state_dict: _StateDict, ckpt_state_dict: _StateDict, c2_conversion: bool = True
) -> _StateDict:
    """Give the weights of a checkpoint the names that they have in a model.

    A weight belongs to the parameter whose name is its own or ends in a dot and its own; of several
    such weights the longest name wins. So "res2.conv1.weight" goes to "backbone.res2.conv1.weight",
    and "conv1.weight" to "backbone.stem.conv1.weight".

    Args:
        model_state_dict: names and shapes to match.
        ckpt_state_dict: names and tensors of the checkpoint.
        c2_conversion: rewrite the checkpoint's names from Caffe2's first.

    Returns:
        Matched weights under the model's names, the others under their own.

    Raises:
        ValueError: one weight matches two parameters.
    """
    if c2_conversion:
        ckpt_state_dict, _ = convert_c2_detectron_names(ckpt_state_dict)
    matched: _StateDict = {}
    parameter_of: dict[str, str] = {}
    for name, own in sorted(model_state_dict.items()):
        source = next((end for end in _ends(name) if end in ckpt_state_dict), None)
        if source is None:
            continue
        weight = ckpt_state_dict[source]
        if weight.shape != own.shape:
            shapes = tuple(weight.shape), tuple(own.shape)
            _logger.warning("%s is not loaded into %s: shape %s, not %s", source, name, *shapes)
        elif source in parameter_of:
            raise ValueError(
                f"Cannot match one checkpoint key to multiple keys in the model: {source!r} fits "
                f"{parameter_of[source]!r} and {name!r}"
            )
        else:
            parameter_of[source], matched[name] = name, weight
    level = _logger.info if matched else _logger.warning
    level("%d weights of the checkpoint match the model by name", len(matched))
    rest = sorted(ckpt_state_dict.keys() - parameter_of.keys())
    return matched | {name: ckpt_state_dict[name] for name in rest}


def _ends(name: str) -> Iterator[str]:
    """Yield "a.b.c", "b.c", "c" for "a.b.c"."""
    while name:
        yield name
        name = name.partition(".")[2]


_longest_common_prefix_str = os.path.commonprefix  # letter by letter

__getattr__ = module_getattr(__name__)
