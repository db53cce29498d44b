"""Exported files in use: ONNX, OpenVINO, ``torch.export`` and TorchScript, in the place of a trained model.

h, w = height and width of the network's input, H, W those that results are wanted in, in pixels; R detections,
m side of a mask in cells.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import EXPORTED, ModelSource
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config.files import stored_config
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.errors import ConfigError, ExportError, listing
from maskrcnn_repro.inference.exported_branches import branches_of_file
from maskrcnn_repro.modeling.paste import paste_to_rles

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

PROGRAMS = (".pt2", ".ts")
"""Endings of files that can make PyTorch run what they say."""
METADATA_FILE = "metadata.json"
"""Name of the metadata within a program."""
SECTION = "maskrcnn"
"""Where OpenVINO's runtime information keeps the metadata."""
DETECTIONS = ("boxes", "scores", "classes")
"""Outputs of every file."""
Arrays = dict[str, np.ndarray]
Run = Callable[[np.ndarray, np.ndarray], Arrays]
"""From (h, w, 3) RGB, in the ``pixels`` of the facts, and (2,) int64 H, W to the outputs by name."""


@dataclass(frozen=True)
class ExportedModel:
    """An exported file that was opened.

    Attributes:
        source: the config and the names that it was exported with.
        facts: what its metadata say of the export: format, precision, threshold, outputs, versions …
        run: computes the outputs.
    """

    source: ModelSource
    facts: Mapping[str, Any]
    run: Run


def is_exported(source: Any) -> TypeGuard[str | Path]:
    """Tell whether a model is named by an exported file."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in EXPORTED


def check_exported_use(device: str, precision: str | None, tta: bool | None) -> None:
    """Raise ConfigError for arguments of a predictor that an exported file has decided on."""
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device {device!r}: an exported file takes 'auto' or 'cpu'.")
    if precision not in (None, "auto", "float32"):
        raise ConfigError(
            f"precision {precision!r}: an exported file has its own; export with --precision."
        )
    if tta:
        raise ConfigError("tta True: an exported file looks at an image once; use the checkpoint.")


def open_exported(file: Path, *, trust: bool = False, threads: int | None = None) -> ExportedModel:
    """Open an exported file on the CPU; an ONNX file on a GPU where onnxruntime has one.

    Args:
        file: ``.onnx``, ``.xml`` (with its ``.bin``), ``.pt2`` or ``.ts``.
        trust: allow files that are programs (``.pt2``, ``.ts``).
        threads: of the runtime; None: as many as PyTorch uses.

    Raises:
        ExportError: the file is missing or damaged, was not written by ``maskrcnn export``, or is a program that is
            not trusted; its runtime is not installed.
        ConfigError: its config cannot be read.
    """
    if not file.is_file():
        raise ExportError(f"There is no exported file {file}.")
    ending = file.suffix.lower()
    if ending in PROGRAMS and not trust:
        raise ExportError(
            f"{file} is a program, which may do anything on this machine when it is loaded; if you know where it "
            "comes from, load it with --trust (trust=True in Python), or use an .onnx file."
        )
    try:
        texts, run = _OPENERS[ending](file, threads or torch.get_num_threads())
    except ExportError:
        raise
    except Exception as error:  # each runtime has its own
        raise ExportError(f"{file} cannot be opened: {error}") from error
    return ExportedModel(*_described(file, texts), run)


def _described(file: Path, texts: Mapping[str, str]) -> tuple[ModelSource, dict[str, Any]]:
    if not {"config", "export"} <= texts.keys():
        raise ExportError(f"{file} was not written by maskrcnn export: its metadata are missing.")
    try:
        # Tools that change an ONNX file add metadata of their own.
        names = {"export", "origin", *(field.name for field in fields(Labels))} & texts.keys()
        facts = {name: json.loads(texts[name]) for name in names}
        labels = Labels.of(facts)
    except (TypeError, ValueError, RecursionError) as error:
        raise ExportError(f"The metadata of {file} are damaged: {error}.") from error
    damage = _damage(facts)
    if damage:
        raise ExportError(f"The metadata of {file} are damaged: {damage}.")
    cfg = load_config(stored_config(file, texts["config"]))
    return ModelSource(cfg, file, labels, facts.get("origin") or {}), facts["export"]


def _damage(facts: Mapping[str, Any]) -> str:
    """Return what is wrong with the forms of metadata, or nothing."""
    for name in ("class_names", "stuff_names"):
        names = facts.get(name, [])
        if not (isinstance(names, list) and all(isinstance(word, str) for word in names)):
            return f"{name!r} is no list of names"
    export = facts["export"]
    if not isinstance(export, dict):
        return "'export' is no object"
    if type(export.get("threshold")) not in (int, float):
        return "'export' has no number as its 'threshold'"
    outputs = export.get("outputs") or []
    if not (isinstance(outputs, list) and all(isinstance(name, str) for name in outputs)):
        return "the 'outputs' of 'export' are no list of names"
    missing = set(DETECTIONS) - set(outputs)
    return f"'export' lacks the outputs {listing(sorted(missing))}" if missing else ""


class ExportedDetector(nn.Module):
    """An exported file in the form of a detector: inputs and outputs are those of ``MaskRCNN`` with RLE masks.

    Args:
        exported: the file.
        threshold: detections have a higher score, things in a panoptic map, too; None: than the file's, and things as its
            config says.

    Raises:
        ConfigError: the file has no detections of scores that low.
    """

    def __init__(self, exported: ExportedModel, threshold: float | None = None) -> None:
        super().__init__()
        lowest = float(exported.facts["threshold"])
        if threshold is not None and threshold < lowest:
            raise ConfigError(
                f"threshold {threshold} is below {lowest}, with which {exported.source.weights} was exported; "
                f"choose one from {lowest} on, or export with --threshold {threshold}."
            )
        self.run = exported.run
        self.asked, self.threshold = threshold, lowest if threshold is None else threshold
        self.input_format = exported.source.cfg.INPUT.FORMAT
        self.facts, self.source = exported.facts, exported.source
        self.branches = branches_of_file(exported.source.cfg, exported.facts)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect objects, image after image; see ``MaskRCNN.inference``."""
        return [self._detect(model_input) for model_input in batched_inputs]

    def _detect(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        image, size = file_input(model_input, self.input_format)
        check_sides(image, self.facts)
        outputs = self.run(image, size)
        self._check_outputs(outputs)
        return self.result_of(outputs, size)

    def _check_outputs(self, outputs: Arrays) -> None:
        """Raise ExportError if the file does not put out what its metadata say."""
        promised = {*self.facts["outputs"], *(n for b in self.branches for n in b.outputs)}
        missing, file = promised - outputs.keys(), self.source.weights
        if missing:
            raise ExportError(
                f"{file} does not put out {listing(sorted(missing))}, as its metadata say; export the model anew."
            )
        labels = self.source.labels
        for output, names, kind in (
            ("classes", labels.class_names, "class_names"),
            ("semantic", labels.stuff_names, "stuff_names"),
        ):
            number = int(outputs[output].max(initial=-1)) if output in promised else -1
            if names and number >= len(names):
                raise ExportError(
                    f"The metadata of {file} are damaged: {kind!r} has {len(names)} names, but {output!r} the number "
                    f"{number}; export the model anew."
                )

    def result_of(self, outputs: Arrays, size: np.ndarray) -> dict[str, Any]:
        """Return the result of an image of ``size`` (H, W), as the model gives it, that the file's outputs stand for."""
        kept = outputs["scores"] > self.threshold
        whole = {name for branch in self.branches if branch.of_image for name in branch.outputs}
        tensors = {
            name: torch.from_numpy(array if name in whole else array[kept])
            for name, array in outputs.items()
        }
        result = {"instances": _instances(tensors, (int(size[0]), int(size[1])))}
        for branch in self.branches:
            branch.add(result, tensors, self.facts, self.asked)
        return result


def file_input(model_input: Mapping[str, Any], channels: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the input of a model as those of its file: ``image`` (h, w, 3) RGB and ``size`` (H, W).

    Args:
        model_input: ``image`` (3, h, w) uint8 or float32, and ``height`` and ``width`` where they are not h and w.
        channels: of its image, ``RGB`` or ``BGR``.
    """
    pixels = model_input["image"].permute(1, 2, 0).cpu().numpy()
    height, width = pixels.shape[:2]
    pixels = pixels[:, :, ::-1] if channels == "BGR" else pixels
    size = [model_input.get("height", height), model_input.get("width", width)]
    return np.ascontiguousarray(pixels), np.array(size, np.int64)


def check_sides(image: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Raise ImageError if an input (h, w, 3) is smaller than a file takes, by the ``facts`` of its export."""
    (height, width), least = image.shape[:2], facts.get("least_side", 1)
    if min(height, width) < least:
        raise ImageError(
            f"An input of {width} x {height} px is too small for a file in the format {facts['format']}, which takes "
            f"sides from {least} px on; export the model as ONNX."
        )


def _instances(outputs: Mapping[str, torch.Tensor], size: tuple[int, int]) -> Instances:
    instances = Instances(
        size,
        pred_boxes=Boxes(outputs["boxes"]),
        scores=outputs["scores"],
        pred_classes=outputs["classes"],
    )
    if "masks" in outputs:
        instances.pred_masks = paste_to_rles(outputs["masks"], outputs["boxes"], size)
    if "mask_scores" in outputs:
        instances.mask_scores = outputs["mask_scores"]
    if "keypoints" in outputs:
        instances.pred_keypoints = outputs["keypoints"]
    return instances


def import_library(name: str) -> Any:
    """Import a library of the extra ``export``.

    Raises:
        ExportError: it is not installed.
    """
    try:
        with _silent_openvino():
            return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"{name.partition('.')[0]} is needed here and not installed: pip install 'maskrcnn-repro[export]'."
        ) from error


@contextmanager
def _silent_openvino() -> Iterator[None]:
    """Keep OpenVINO from reporting its import to its makers: without this package it has nothing to do so with."""
    name, absent = "openvino_telemetry", object()
    before = sys.modules.get(name, absent)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is absent:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # type: ignore[assignment]


def _open_onnx(file: Path, threads: int) -> tuple[Mapping[str, str], Run]:
    runtime = import_library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    session = runtime.InferenceSession(str(file), options, providers=providers)
    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray, size: np.ndarray) -> Arrays:
        return dict(zip(names, session.run(None, {"image": image, "size": size}), strict=True))

    return session.get_modelmeta().custom_metadata_map, run


def _open_openvino(file: Path, threads: int) -> tuple[Mapping[str, str], Run]:
    openvino = import_library("openvino")
    core = openvino.Core()
    model = core.read_model(str(file))
    texts: Mapping[str, str] = {}
    if model.has_rt_info([SECTION]):
        texts = {name: str(text) for name, text in model.get_rt_info([SECTION]).value.items()}
    # Without the hint OpenVINO computes in bfloat16 where a processor has it.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", hints)
    names = _outputs_in(texts)

    def run(image: np.ndarray, size: np.ndarray) -> Arrays:
        results = compiled({"image": image, "size": size})
        return {name: results[index].copy() for index, name in enumerate(names)}

    return texts, run


def _open_pt2(file: Path, threads: int) -> tuple[Mapping[str, str], Run]:
    extra = {METADATA_FILE: ""}
    program = torch.export.load(str(file), extra_files=extra)
    return _of_torch(extra, program.module())


def _open_torchscript(file: Path, threads: int) -> tuple[Mapping[str, str], Run]:
    extra = {METADATA_FILE: ""}
    with warnings.catch_warnings():
        # torch 2.14 warns of TorchScript's age.
        warnings.simplefilter("ignore", FutureWarning)
        return _of_torch(extra, torch.jit.load(str(file), "cpu", _extra_files=extra))


def _of_torch(extra: Mapping[str, Any], module: Callable[..., Any]) -> tuple[dict[str, str], Run]:
    texts = json.loads(extra[METADATA_FILE] or "{}")
    names = _outputs_in(texts)

    def run(image: np.ndarray, size: np.ndarray) -> Arrays:
        with torch.no_grad():
            outputs = module(torch.from_numpy(image), torch.from_numpy(size))
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return texts, run


def _outputs_in(texts: Mapping[str, str]) -> list[str]:
    """Return the names of the outputs in their order, or none of a file of another origin."""
    return list(json.loads(texts.get("export", "{}")).get("outputs", []))


_OPENERS = {
    ".onnx": _open_onnx,
    ".xml": _open_openvino,
    ".pt2": _open_pt2,
    ".ts": _open_torchscript,
}
