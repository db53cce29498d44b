"""Where the tensors of a Caffe2 file land in a model, found by loading one made for the purpose."""

import pickle
import re

from maskrcnn_repro.benchmark import models

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

# Narrow: only names and the order of rows matter.
NARROW = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 2,
    "MODEL.FPN.OUT_CHANNELS": 4,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 4,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (4, 4),
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
}
FILES = {
    "R50-C4": ("R50-C4", {}),
    "R50-keypoints": ("keypoints-R50-FPN", {}),
    "R101-FPN": ("R50-FPN", {"MODEL.RESNETS.DEPTH": 101}),
    "X101-FPN": ("X101-FPN", {"MODEL.RESNETS.NUM_GROUPS": 2}),
}

# What the key of a model ends with -> the blob of Detectron. FPN levels name the last block of a stage.
_LAYERS = (
    (r"stem\.conv1", "conv1"),
    (r"(res\d)\.(\d+)\.shortcut", r"\1_\2_branch1"),
    (r"(res\d)\.(\d+)\.conv1", r"\1_\2_branch2a"),
    (r"(res\d)\.(\d+)\.conv2", r"\1_\2_branch2b"),
    (r"(res\d)\.(\d+)\.conv3", r"\1_\2_branch2c"),
    # The topmost lateral convolution has no sum before it.
    (r"fpn_lateral(5)", r"fpn_inner_res\1_{last}_sum"),
    (r"fpn_lateral(\d)", r"fpn_inner_res\1_{last}_sum_lateral"),
    (r"fpn_output(\d)", r"fpn_res\1_{last}_sum"),
    (r"rpn_head\.conv", "conv_rpn{fpn}"),
    (r"objectness_logits", "rpn_cls_logits{fpn}"),
    (r"anchor_deltas", "rpn_bbox_pred{fpn}"),
    (r"box_head\.fc1", "fc6"),
    (r"box_head\.fc2", "fc7"),
    (r"cls_score", "cls_score"),
    (r"bbox_pred", "bbox_pred"),
    (r"mask_fcn(\d)", r"_[mask]_fcn\1"),
    (r"mask_head\.deconv", "conv5_mask"),
    (r"mask_head\.predictor", "mask_fcn_logits"),
    (r"conv_fcn(\d)", r"conv_fcn\1"),
    (r"score_lowres", "kps_score_lowres"),
)
_TENSORS = {
    "norm.weight": "bn_s",
    "norm.bias": "bn_b",
    "norm.running_mean": "bn_rm",
    "norm.running_var": "bn_riv",
    "weight": "w",
    "bias": "b",
}
_LAST_BLOCK = {50: {"2": 2, "3": 3, "4": 5, "5": 2}, 101: {"2": 2, "3": 3, "4": 22, "5": 2}}
_ROWS = 1024


def landing(name, folder):
    """Return key of the model -> [name in the file, its rows in the model's order if they changed]."""
    model_name, extra = FILES[name]
    cfg = models.config(model_name, NARROW | extra)
    model = build_model(cfg)
    blobs, names = _blobs(model, cfg)
    path = folder / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(-1)
    DetectionCheckpointer(model).load(str(path))
    return {key: _origin(tensor, names) for key, tensor in sorted(model.state_dict().items())}


def _blobs(model, cfg):
    """Return the file's content and its names; row r of tensor t holds t + r / 1024 everywhere."""
    blobs = {"fc1000_w": torch.zeros(2, 2).numpy(), "conv1_w_momentum": torch.zeros(1).numpy()}
    names = []
    for key, tensor in model.state_dict().items():
        background = {"bbox_pred": 4, "cls_score": 0, "mask_head.predictor": 1}
        extra = next((rows for part, rows in background.items() if part in key), 0)
        rows = tensor.shape[0] + extra
        numbers = len(names) + torch.arange(rows) / _ROWS
        shape = (rows, *[1] * (tensor.dim() - 1))
        names.append(_blob_name(key, cfg))
        blobs[names[-1]] = numbers.reshape(shape).expand(rows, *tensor.shape[1:]).numpy().copy()
    return blobs, names


def _blob_name(key, cfg):
    ending = next(ending for ending in _TENSORS if key.endswith(f".{ending}"))
    layer = key.removesuffix(f".{ending}")
    matches = ((re.search(f"{pattern}$", layer), blob) for pattern, blob in _LAYERS)
    match, blob = next((match, blob) for match, blob in matches if match)
    if blob == "conv1" and ending.startswith("norm"):
        blob = "res_conv1"
    blob = match.expand(blob)
    if "{last}" in blob:
        blob = blob.format(last=_LAST_BLOCK[cfg.MODEL.RESNETS.DEPTH][match.group(1)])
    blob = blob.replace("{fpn}", "_fpn2" if "fpn" in cfg.MODEL.BACKBONE.NAME else "")
    return f"{blob}_{_TENSORS[ending]}"


def _origin(tensor, names):
    firsts = tensor.reshape(tensor.shape[0], -1)[:, 0].double()
    number = int(firsts[0].floor())
    if number < 0:
        return [None]
    rows = ((firsts - number) * _ROWS).int().tolist()
    assert torch.equal(
        tensor, firsts.float().reshape(-1, *[1] * (tensor.dim() - 1)).expand_as(tensor)
    )
    return [names[number]] if rows == list(range(len(rows))) else [names[number], rows]
