"""From a trained model to an exported file that says what the model says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.checkpoint.model_source import ModelSource
from maskrcnn_repro.engine.trained import load_trained
from maskrcnn_repro.errors import ExportError, OutputError, UserError, check_choice
from maskrcnn_repro.export.formats import WRITERS, convert_to_openvino, write_onnx
from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.export.metadata import Target, metadata
from maskrcnn_repro.export.pictures import model_inputs
from maskrcnn_repro.export.precision import keep_weights_in_16_bits, quantize
from maskrcnn_repro.export.verify import Comparison, compare_on
from maskrcnn_repro.inference.exported import ExportedModel, file_input, open_exported
from maskrcnn_repro.inference.settings import settings
from maskrcnn_repro.utils.files import check_output, other_than_file, replaced
from maskrcnn_repro.utils.held_signals import raise_signals

PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "pt2": ("fp32",),
    "torchscript": ("fp32",),
}
"""Format -> the precisions that it is offered in."""
OPSETS = range(16, 21)
"""Of ONNX: from RoIAlign as the paper has it on, to the last that PyTorch writes."""


class Exporter:
    """Writes a trained model in other formats.

    Args:
        trained: the model.
        target: what to write.
        pictures: files to compare with; without any, pictures are drawn.

    Attributes:
        source: the model with the config that it is compared with.
        model: in evaluation mode, on the CPU, in float32.

    Raises:
        CheckpointError: the weights do not fill the model.
        ConfigError: a threshold that cannot be.
        ExportError: the model cannot be exported.
        ImageError: a picture cannot be read.
    """

    def __init__(self, trained: ModelSource, target: Target, pictures: Sequence[Path] = ()) -> None:
        cfg = settings(trained, target.threshold, "cpu", "float32", False)
        if cfg.INPUT.FORMAT == "L":
            raise ExportError(
                "INPUT.FORMAT L: exported files take images of three channels; train with BGR or RGB, which grey images have, too."
            )
        # Panoptic maps are compared as the config fuses them: a low score that is a tie would change them.
        cfg.defrost()
        cfg.MODEL.PANOPTIC_FPN.COMBINE = trained.cfg.MODEL.PANOPTIC_FPN.COMBINE.clone()
        cfg.freeze()
        self.trained, self.target = trained, target
        self.source = replace(trained, cfg=cfg)
        self.model = load_trained(cfg, str(trained.weights))[0].eval().requires_grad_(False)
        self.pictures = model_inputs(cfg, pictures)
        pixels = self.pictures[0]["image"].dtype
        self.graph = ExportGraph(
            self.model, threshold=target.threshold, pasted=target.pasted, pixels=pixels
        )

    def write(self, out: Path, calibration: Sequence[Path] = ()) -> Comparison:
        """Write the file, compare it with the model, and only then give it its name; return the comparison.

        Args:
            out: of the file; see :func:`check_target`.
            calibration: pictures that tell ``int8`` the ranges of activations.

        Raises:
            ExportError: in ``fp32`` the file differs from the model; it is not kept.
            OutputError: it cannot be written; what was there stays.
        """
        with _stage_beside(out) as stage:
            self._write(stage, calibration)
            exported = open_exported(stage, trust=True)
            comparison = self._compare(exported)
            # Lower precisions differ on purpose; their AP tells by how much.
            if self.target.precision == "fp32" and not comparison.holds:
                raise ExportError(
                    f"The exported file differs from the model and was not kept: {comparison}. Where the pictures are "
                    "no typical ones, name others (--images)."
                )
        return comparison

    def _write(self, stage: Path, calibration: Sequence[Path]) -> None:
        target, writer = self.target, WRITERS[self.target.format][1]
        if target.precision == "fp32":
            writer(self.graph, target, stage, self._metadata)
            return
        onnx_file = stage.with_suffix(".onnx")
        write_onnx(self.graph, target, onnx_file, self._metadata)
        if target.precision == "int8":
            inputs = model_inputs(self.source.cfg, calibration) if calibration else self.pictures
            channels = self.source.cfg.INPUT.FORMAT
            quantize(onnx_file, [file_input(model_input, channels) for model_input in inputs])
        elif target.format == "onnx":
            keep_weights_in_16_bits(onnx_file)
        if target.format == "openvino":
            fp16 = target.precision == "fp16"
            convert_to_openvino(onnx_file, stage, self._metadata, fp16)
            onnx_file.unlink()

    def _metadata(self, packages: tuple[str, ...]) -> dict[str, str]:
        return metadata(self.trained, self.target, self.graph, packages)

    def _compare(self, exported: ExportedModel) -> Comparison:
        # The first call of either allocates memory, and its time is not that of the others.
        compare_on(self.pictures[:1], self.model, exported)
        return compare_on(self.pictures, self.model, exported)


def check_target(target: Target, out: Path) -> None:
    """Raise a user's error unless a target exists and a file may have this name.

    Raises:
        ConfigError: an unknown format or opset.
        ExportError: the format is not offered in this precision.
        OutputError: the file's ending is not that of the format, or something else than a file has its name.
    """
    check_choice("--format", target.format, WRITERS)
    check_choice("--opset", target.opset, OPSETS)
    if target.precision not in PRECISIONS[target.format]:
        offered = ", ".join(PRECISIONS[target.format])
        raise ExportError(
            f"--precision {target.precision!r} is not offered for {target.format}, which has {offered}; onnx and "
            "openvino have fp32, fp16, int8."
        )
    ending = WRITERS[target.format][0]
    check_output("--out", out, ending, ())
    if out.suffix != ending:
        # OpenVINO and PyTorch tell a file by an ending in lower case.
        raise OutputError(f"--out {str(out)!r}: let its name end in {ending}, in lower case.")
    for file in (out, out.with_suffix(".bin")) if target.format == "openvino" else (out,):
        if kind := other_than_file(file):
            raise OutputError(f"--out {str(file)!r} cannot be written: it is {kind}; name a file.")


@contextmanager
def _stage_beside(out: Path) -> Iterator[Path]:
    """Yield a path of the same name in a folder beside ``out``; on success its files take their places there."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A fixed name, so that the next attempt removes what a killed process left.
        folder = out.with_name(f".export-{out.name}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            with raise_signals():
                yield folder / out.name
                # The .xml last: it is what a reader looks for.
                for file in sorted(folder.iterdir()):
                    with replaced(out.with_name(file.name)) as beside:
                        os.replace(file, beside)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except UserError:
        raise
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from error
