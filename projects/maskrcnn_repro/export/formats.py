"""Writers of the formats: each records the graph and writes a file with its metadata."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.export.metadata import Target
from maskrcnn_repro.inference.exported import METADATA_FILE, SECTION, import_library

import torch

EXAMPLE = (320, 448)
"""h, w of the image with which the graph is recorded: no map of it has a side of one cell, and no two are alike."""

Metadata = Callable[[tuple[str, ...]], Mapping[str, str]]
"""From the packages that write a format to the metadata."""


def example(graph: ExportGraph) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs to record the graph with."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (*EXAMPLE, 3), generator=generator, dtype=torch.uint8)
    return image.to(graph.pixels), torch.tensor(EXAMPLE)


def write_onnx(graph: ExportGraph, target: Target, file: Path, metadata: Metadata) -> None:
    """Write an ONNX model."""
    onnx = import_library("onnx")
    with warnings.catch_warnings(), torch.no_grad():
        # The newer exporter takes a minute where this one takes a second, and its files failed on other sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            example(graph),
            str(file),
            dynamo=False,
            opset_version=target.opset,
            input_names=["image", "size"],
            output_names=graph.outputs,
            dynamic_axes={"image": {0: "height", 1: "width"}},
        )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, dict(metadata(("onnx",))))
    onnx.save(model, str(file))


def write_openvino(graph: ExportGraph, target: Target, file: Path, metadata: Metadata) -> None:
    """Write OpenVINO's ``.xml`` and, beside it, ``.bin``."""
    stage = file.with_suffix(".onnx")
    write_onnx(graph, target, stage, metadata)
    convert_to_openvino(stage, file, metadata)
    stage.unlink()


def convert_to_openvino(
    onnx_file: Path, file: Path, metadata: Metadata, fp16: bool = False
) -> None:
    """Write the ``.xml`` and ``.bin`` of an ONNX file; ``fp16`` keeps weights in 16 bits."""
    openvino = import_library("openvino")
    model = openvino.Core().read_model(str(onnx_file))
    for name, text in metadata(("onnx", "openvino")).items():
        model.set_rt_info(text, [SECTION, name])
    openvino.save_model(model, str(file), compress_to_fp16=fp16)


def write_pt2(graph: ExportGraph, target: Target, file: Path, metadata: Metadata) -> None:
    """Write the program of ``torch.export``."""
    sides = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            graph, example(graph), dynamic_shapes=(sides, None), strict=False
        )
        texts = json.dumps(metadata(()))
        torch.export.save(program, str(file), extra_files={METADATA_FILE: texts})


def write_torchscript(graph: ExportGraph, target: Target, file: Path, metadata: Metadata) -> None:
    """Write a TorchScript module."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(graph, example(graph), check_trace=False)
        texts = json.dumps(metadata(()))
        torch.jit.save(traced, str(file), _extra_files={METADATA_FILE: texts})


WRITERS = {
    "onnx": (".onnx", write_onnx),
    "openvino": (".xml", write_openvino),
    "pt2": (".pt2", write_pt2),
    "torchscript": (".ts", write_torchscript),
}
"""Format -> the ending of its files and its writer."""
