"""A trained model as a function: images in, predictions out.

H, W = height and width of an upright image, h, w those of the model's input, in pixels; R detections.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import ModelSource, find_model
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.run import load_trained
from maskrcnn_repro.errors import CheckpointError, ConfigError, check_choice, did_you_mean, listing
from maskrcnn_repro.inference.inputs import ImageReader, Source, is_single, path_of, sources_in
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.web_image import UrlLimits
from maskrcnn_repro.modeling.meta_arch import PRECISIONS
from maskrcnn_repro.modeling.rle import RLE, RLEMasks
from maskrcnn_repro.modeling.tta import TestTimeAugmentation

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.structures import Instances
from pycocotools import mask as rle_codec
from torch import nn

A = TypeVar("A")
B = TypeVar("B")
URL_LIMITS = UrlLimits()
OnError = Callable[[Source, ImageError], None]


@dataclass(frozen=True)
class Sample:
    """An image on its way through the model."""

    source: Source
    model_input: dict[str, Any]
    """``image``, (C, h, w) uint8; ``height`` and ``width``, H and W."""


class Predictor:
    """Finds objects in images with a trained model; one may be used by several threads.

    On the CPU in float32 the results of an image are the same to the last bit whatever it is predicted with, and
    those of an evaluation of the same config if ``threshold`` is None.

    Args:
        source: what :func:`maskrcnn_repro.checkpoint.model_source.find_model` takes.
        threshold: detections have a higher score, in [0, 1]; None: than the config's
            ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``.
        classes: names of the classes to keep; None keeps all.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16`` or ``float16`` of convolutions and matrix products; ``auto``: bfloat16
            where the device computes in it; None: the config's ``MODEL.INFERENCE.PRECISION``.
        tta: whether to average several views of each image (``TEST.AUG``); None: as the config says.
        urls: limits of images that are fetched by address; None refuses addresses, which whoever takes inputs
            from strangers should do.
        max_pixels: images of more are refused before they are decoded; 0: of more than Pillow's own limit.
        config: see :func:`maskrcnn_repro.checkpoint.model_source.find_model`.

    Attributes:
        cfg: the config of the model as it is used here.
        labels: names of classes and keypoints.
        origin: what the file says of where its weights come from.

    Raises:
        CheckpointError: there is no such model, or it finds no objects by itself.
        ConfigError: an argument or the config has a value that cannot be.
    """

    def __init__(
        self,
        source: str | Path | ModelSource,
        threshold: float | None = 0.5,
        *,
        classes: Sequence[str] | None = None,
        device: str = "auto",
        precision: str | None = None,
        tta: bool | None = None,
        urls: UrlLimits | None = URL_LIMITS,
        max_pixels: int = 0,
        config: str | Path = "",
    ) -> None:
        model = source if isinstance(source, ModelSource) else find_model(source, config)
        self.labels: Labels = model.labels
        self.origin = model.origin
        self._classes = _class_ids(classes, model.class_names)
        self.cfg = _settings(model, threshold, device, precision, tta)
        trained, _ = load_trained(self.cfg, str(model.weights))
        self._model = _detector_of(self.cfg, trained.eval(), self.labels)
        self._divisor = max(1, int(getattr(trained.backbone, "size_divisibility", 1)))
        # One at a time: two models at once would share the cores, and augmentation switches branches of the heads.
        self._lock = threading.Lock()
        self._resize = _augmentations(self.cfg)
        files = ImageFiles(tuple(self.cfg.INPUT.PIXEL_RANGE), max_pixels)
        self._reader = ImageReader(files, self.cfg.INPUT.FORMAT, urls)

    def __call__(self, x: Any, batch_size: int = 1) -> Prediction | list[Prediction]:
        """Return the predictions of one image, or a list of those of several.

        Args:
            x: a path, an ``http(s)`` address, the bytes of a file, an array (RGB), or a Pillow image: one image; a
                folder (with its sub-folders), a pattern such as ``"photos/*.jpg"``, a list or a generator: several.
            batch_size: images of one size that a GPU computes at once; on the CPU it changes nothing.

        Raises:
            ImageError: an image cannot be read; :meth:`stream` can go on after one.
            DataError: there is no image in ``x``.
        """
        predictions = list(self.stream(x, batch_size=batch_size))
        return predictions[0] if is_single(x) else predictions

    def stream(
        self, inputs: Any, *, batch_size: int = 1, on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """Yield the predictions in the order of the inputs, while a thread decodes the next images.

        Args:
            inputs: see :meth:`__call__`.
            batch_size: see there.
            on_error: is called with an image that cannot be read, and why; it is then left out. None raises.

        Raises:
            ImageError: an image cannot be read, and ``on_error`` is None.
            DataError: there is no image in ``inputs``.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} must be at least 1.")
        with ThreadPoolExecutor(1, thread_name_prefix="decode images") as pool:
            samples = _ahead(pool, self._load, sources_in(inputs), batch_size + 1)
            for batch in _batches(_readable(samples, on_error), batch_size, self._padded_size):
                yield from self._predict(batch)

    def _load(self, source: Source) -> Sample:
        image = self._reader.read(source)
        height, width = image.shape[:2]
        seen = T.AugInput(image)
        self._resize(seen)
        pixels = torch.as_tensor(seen.image.transpose(2, 0, 1).copy())
        return Sample(source, {"image": pixels, "height": height, "width": width})

    def _padded_size(self, sample: Sample) -> tuple[int, ...]:
        return tuple(
            -(-side // self._divisor) * self._divisor
            for side in sample.model_input["image"].shape[1:]
        )

    def _predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        # On the CPU a convolution of several images rounds otherwise than that of one, and is not faster.
        alone = self.cfg.MODEL.DEVICE == "cpu" or self.cfg.TEST.AUG.ENABLED
        groups = [[sample] for sample in samples] if alone else [samples]
        return list(itertools.chain.from_iterable(map(self._run, groups)))

    def _run(self, samples: Sequence[Sample]) -> list[Prediction]:
        with self._lock, torch.no_grad():
            outputs = self._model([sample.model_input for sample in samples])
        return [
            self._prediction(output["instances"], sample.source)
            for output, sample in zip(outputs, samples, strict=True)
        ]

    def _prediction(self, instances: Instances, source: Source) -> Prediction:
        height, width = instances.image_size
        fields = {"pred_masks": None, "pred_keypoints": None, **instances.get_fields()}
        masks, points = fields["pred_masks"], fields["pred_keypoints"]
        prediction = Prediction(
            boxes=instances.pred_boxes.tensor.cpu().numpy(),
            scores=instances.scores.cpu().numpy(),
            class_ids=instances.pred_classes.cpu().numpy(),
            class_names=self.labels.class_names,
            height=int(height),
            width=int(width),
            rles=None if masks is None else _encoded(masks),
            keypoints=None if points is None else points.cpu().numpy(),
            keypoint_names=self.labels.keypoint_names,
            path=path_of(source),
            category_ids=self.labels.category_ids,
            skeleton=self.labels.skeleton,
        )
        if self._classes is None:
            return prediction
        return prediction[np.isin(prediction.class_ids, self._classes)]


def _settings(
    model: ModelSource,
    threshold: float | None,
    device: str,
    precision: str | None,
    tta: bool | None,
) -> CfgNode:
    """Return the config of a model with a predictor's arguments.

    Raises:
        CheckpointError: the model finds no objects by itself.
        ConfigError: an argument cannot have its value.
    """
    cfg = model.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = resolve_device(device)
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold {threshold} must be at least 0 and at most 1.")
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(threshold)
    cfg.MODEL.INFERENCE.PRECISION = _precision(cfg, precision)
    cfg.MODEL.INFERENCE.MASK_OUTPUT = "rle"
    cfg.MODEL.INFERENCE.KEEP_IMAGES = False
    if tta is not None:
        cfg.TEST.AUG.ENABLED = tta
    cfg.freeze()
    return cfg


def _precision(cfg: CfgNode, name: str | None) -> str:
    if name is None:
        return str(cfg.MODEL.INFERENCE.PRECISION)
    if name != "auto":
        check_choice("precision", name, (*PRECISIONS, "auto"))
        return name
    if cfg.MODEL.DEVICE != "cpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # Where the processor has no instructions for it, bfloat16 is many times slower than float32.
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _detector_of(cfg: CfgNode, model: nn.Module, labels: Labels) -> nn.Module:
    """Return the model, or with ``TEST.AUG.ENABLED`` many views of it.

    Raises:
        CheckpointError: it finds no objects by itself.
        ConfigError: see :class:`TestTimeAugmentation`.
    """
    if not hasattr(model, "roi_heads") or model.proposal_generator is None:
        raise CheckpointError(
            "This model finds no objects by itself: it proposes boxes only, or needs stored proposals; name a "
            "detector with a region proposal network."
        )
    if not cfg.TEST.AUG.ENABLED:
        return model
    return TestTimeAugmentation(
        model=model,
        min_sizes=cfg.TEST.AUG.MIN_SIZES,
        max_size=cfg.TEST.AUG.MAX_SIZE,
        flip=cfg.TEST.AUG.FLIP,
        nms_threshold=cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        flip_indices=_flip_indices(labels),
    )


def _flip_indices(labels: Labels) -> list[int] | None:
    """Return the index of each keypoint's mirror image; None if the model does not name its keypoints."""
    names = list(labels.keypoint_names)
    other = {a: b for pair in labels.flip_pairs for a, b in (pair, pair[::-1])}
    return [names.index(other.get(name, name)) for name in names] or None


def _class_ids(chosen: Sequence[str] | None, names: Sequence[str]) -> list[int] | None:
    """Return the places of the chosen classes; None for all.

    Raises:
        ConfigError: the model has no such class, or none is chosen.
    """
    if chosen is None:
        return None
    if isinstance(chosen, str) or not chosen:
        raise ConfigError(
            f"classes {chosen!r} must be a list of names of classes, or None for all."
        )
    for name in chosen:
        if name not in names:
            raise ConfigError(
                f"classes: the model has no class {name!r}.{did_you_mean(name, names)} It has {listing(names)}."
            )
    return [index for index, name in enumerate(names) if name in chosen]


def _augmentations(cfg: CfgNode) -> T.AugmentationList:
    """Return what resizes an image as in an evaluation; with several views each is made of the file's pixels."""
    return T.AugmentationList([] if cfg.TEST.AUG.ENABLED else build_augmentation(cfg, False))


def _encoded(masks: Any) -> list[RLE]:
    """Return masks as run-length encodings; a ``GeneralizedRCNN`` of Detectron2 gives (R, H, W) bool."""
    if isinstance(masks, RLEMasks):
        return masks.rles
    rles = [
        rle_codec.encode(np.asfortranarray(mask.cpu().numpy().view(np.uint8))) for mask in masks
    ]
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[A], B], values: Iterator[A], count: int
) -> Iterator[tuple[A, Future[B]]]:
    """Yield each value with the future of its result, while the next ``count`` are computed."""
    waiting: deque[tuple[A, Future[B]]] = deque()
    try:
        for value in values:
            waiting.append((value, pool.submit(function, value)))
            if len(waiting) > count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()


def _readable(
    samples: Iterator[tuple[Source, Future[Sample]]], on_error: OnError | None
) -> Iterator[Sample]:
    for source, future in samples:
        try:
            sample = future.result()
        except ImageError as error:
            if on_error is None:
                raise
            on_error(source, error)
        else:
            yield sample


def _batches(values: Iterator[A], size: int, key: Callable[[A], object]) -> Iterator[list[A]]:
    """Yield up to ``size`` values at a time that follow each other and have the same key."""
    for _, group in itertools.groupby(values, key):
        while batch := list(itertools.islice(group, size)):
            yield batch
