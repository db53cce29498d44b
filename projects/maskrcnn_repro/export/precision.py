"""ONNX files of lower precision: weights in 16 bits, or convolutions in 8."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maskrcnn_repro.inference.exported import Arrays, import_library

import numpy as np

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operations whose weights are kept in 16 bits."""
QUANTIZED = ("Conv", "Gemm")
"""Operations that compute in 8 bits."""
EXACT = (
    "objectness_logits",
    "anchor_deltas",
    "cls_score",
    "bbox_pred",
    "predictor",
    "score_lowres",
)
"""Parts of the names of layers that stay in float32: their outputs are scores and coordinates."""


def keep_weights_in_16_bits(file: Path) -> None:
    """Rewrite an ONNX file: weights of at least 256 numbers become float16, and are cast when it is loaded.

    Computations stay in float32, as in OpenVINO's own compression: a runtime folds the casts.
    """
    onnx = import_library("onnx")
    model = onnx.load(str(file))
    graph = model.graph
    used = {name for node in graph.node if node.op_type in WEIGHTED for name in node.input}
    casts = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.name not in used or values.dtype != np.float32 or values.size < 256:
            continue
        name = tensor.name
        half = values.clip(-65504, 65504).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        to = onnx.TensorProto.FLOAT
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=to))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(file))


def quantize(file: Path, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Rewrite an ONNX file: convolutions and fully connected layers compute in 8 bits.

    Args:
        file: in float32.
        inputs: ``image`` and ``size`` of pictures; the ranges of activations are taken from them.
    """
    import_library("onnxruntime")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    stage = file.with_suffix(".prepared.onnx")
    with _quiet():
        quant_pre_process(str(file), str(stage), skip_symbolic_shape=True)
        names = [node.name for node in import_library("onnx").load(str(stage)).graph.node]
        quantize_static(
            str(stage),
            str(file),
            _Reader(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name in names if any(part in name for part in EXACT)],
        )
    stage.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the advice of onnxruntime's quantisation, which it gives by the root logger, and undo its setting up."""
    root = logging.getLogger()
    handlers, disabled = root.handlers[:], root.disabled
    root.disabled = True
    try:
        yield
    finally:
        root.handlers[:], root.disabled = handlers, disabled


class _Reader:
    """Inputs in the form that onnxruntime's calibration asks for."""

    def __init__(self, inputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.inputs = iter(inputs)

    def get_next(self) -> Arrays | None:
        """Return the next inputs, or None after the last."""
        pair = next(self.inputs, None)
        return None if pair is None else dict(zip(("image", "size"), pair, strict=True))
