"""What published weights hold: names and shapes of their tensors, which take no memory (device "meta")."""

import pickle

import torch

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def blocks(depth, groups=1, width=64):
    """Yield stage (2 to 5), block, and layer to shape of each bottleneck of a ResNet or ResNeXt."""
    inputs = 64
    for stage, count in enumerate(BLOCKS[depth]):
        inner, outputs = groups * width << stage, 256 << stage
        for block in range(count):
            layers = {} if block else {0: (outputs, inputs, 1, 1)}
            layers[1] = (inner, inputs, 1, 1)
            layers[2] = (inner, inner // groups, 3, 3)
            layers[3] = (outputs, inner, 1, 1)
            yield stage + 2, block, layers
            inputs = outputs


def caffe2(depth, groups=1, width=64):
    """Names and shapes of Detectron's ImageNet backbones, whose batch norm is merged to scale and offset."""
    shapes = {"conv1_w": (64, 3, 7, 7), "res_conv1_bn_s": (64,), "res_conv1_bn_b": (64,)}
    branches = ("branch1", "branch2a", "branch2b", "branch2c")
    for stage, block, layers in blocks(depth, groups, width):
        for layer, shape in layers.items():
            name = f"res{stage}_{block}_{branches[layer]}"
            shapes |= {f"{name}_w": shape, f"{name}_bn_s": shape[:1], f"{name}_bn_b": shape[:1]}
    return shapes | {"fc1000_w": (1000, 2048), "fc1000_b": (1000,)}


def detectron(*, pyramid):
    """Names and shapes of Detectron's Mask R-CNN of COCO on ResNet-50, with an FPN or C4."""
    shapes = {name: shape for name, shape in caffe2(50).items() if not name.startswith("fc1000")}
    layers = {"cls_score": (81, 1024), "bbox_pred": (324, 1024), "mask_fcn_logits": (81, 256, 1, 1)}
    width, anchors, end = (256, 3, "_fpn2") if pyramid else (1024, 15, "")
    layers |= {
        f"conv_rpn{end}": (width, width, 3, 3),
        f"rpn_cls_logits{end}": (anchors, width, 1, 1),
        f"rpn_bbox_pred{end}": (4 * anchors, width, 1, 1),
        "conv5_mask": (256 if pyramid else 2048, 256, 2, 2),
    }
    if pyramid:
        layers |= {f"_[mask]_fcn{i}": (256, 256, 3, 3) for i in range(1, 5)}
        layers |= {"fc6": (1024, 256 * 49), "fc7": (1024, 1024)}
        for stage, last in zip(range(2, 6), (2, 3, 5, 2), strict=True):
            lateral = "" if stage == 5 else "_lateral"
            layers[f"fpn_inner_res{stage}_{last}_sum{lateral}"] = (256, 128 << (stage - 1), 1, 1)
            layers[f"fpn_res{stage}_{last}_sum"] = (256, 256, 3, 3)
    else:
        layers |= {"cls_score": (81, 2048), "bbox_pred": (324, 2048)}
    for name, shape in layers.items():
        bias = shape[1] if name == "conv5_mask" else shape[0]
        shapes |= {f"{name}_w": shape, f"{name}_b": (bias,)}
    return shapes


def torchvision(depth, prefix="", **widths):
    """Names and shapes of torchvision's ResNet, timm's and MMDetection's."""
    shapes = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    for stage, block, layers in blocks(depth, **widths):
        place = f"layer{stage - 1}.{block}"
        for layer, shape in layers.items():
            names = (f"conv{layer}", f"bn{layer}") if layer else ("downsample.0", "downsample.1")
            shapes[f"{place}.{names[0]}.weight"] = shape
            shapes |= _norm(f"{place}.{names[1]}", shape[0])
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def _norm(name, channels):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def pickled(weights, path):
    """Write arrays by name as a ``.pkl`` of Detectron2's model zoo, and return its path."""
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "tests"}))
    return path
