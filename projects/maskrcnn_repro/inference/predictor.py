"""A trained model as a function: images in, predictions out.

H, W = height and width of an upright image, h, w those of the model's input, in pixels; R detections.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import ModelSource, find_model
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.inference.arguments import check_types
from maskrcnn_repro.inference.exported import (
    ExportedDetector,
    check_exported_use,
    check_sides,
    is_exported,
    open_exported,
)
from maskrcnn_repro.inference.inputs import (
    ImageReader,
    Source,
    is_single,
    name_of,
    path_of,
    sources_in,
)
from maskrcnn_repro.inference.pipeline import batches, compute_ahead
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.settings import (
    augmentations,
    build_detector,
    check_shape,
    class_ids,
    is_automatic,
    least_score,
    settings,
)
from maskrcnn_repro.inference.tiles import Box, check_tiles, merge_tiles, tiles_of
from maskrcnn_repro.inference.web_image import UrlLimits
from maskrcnn_repro.modeling.rle import encode_masks

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import nn

URL_LIMITS = UrlLimits()
OnError = Callable[[Source, ImageError], None]


@dataclass(frozen=True)
class Sample:
    """An image on its way through the model."""

    source: Source
    model_input: dict[str, Any]
    """``image``, (C, h, w) uint8; ``height`` and ``width``, H and W. Empty of a picture that is cut into tiles."""
    picture: np.ndarray | None = None
    """(H, W, C) uint8, to be cut into tiles."""


class Predictor:
    """Finds objects in images with a trained model; one may be used by several threads.

    On the CPU in float32 the results of an image are the same to the last bit whatever it is predicted with, and
    those of an evaluation of the same config if ``threshold`` is None and the path is ``plain``.

    Args:
        source: what :func:`maskrcnn_repro.checkpoint.model_source.find_model` takes, or a file that ``maskrcnn
            export`` wrote. Such a file has its own precision, looks at an image once, and runs on the CPU (ONNX on a
            GPU where onnxruntime has one).
        threshold: detections have a higher score, in [0, 1]; ``auto``: than 0.5, or than the lowest that an exported
            file knows; None: than the config's ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``, or that of the exported file.
            Things in a panoptic map, too; None: those that ``MODEL.PANOPTIC_FPN.COMBINE`` keeps.
        classes: names of the classes to keep; None keeps all. Stuff of a panoptic map is kept in any case.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16`` or ``float16`` of convolutions and matrix products; ``auto``: bfloat16
            where the device computes in it, by the fast path; None: the config's ``MODEL.INFERENCE.PRECISION``.
        fast: whether to compute float32 or bfloat16 on the CPU with fused layers, which gives other last bits; None:
            with the precision ``auto``.
        tta: whether to average several views of each image (``TEST.AUG``); None: as the config says.
        tiles: side in pixels of the tiles in which larger images are predicted, each resized as an image; 0: images
            are predicted whole. ``TEST.DETECTIONS_PER_IMAGE`` then limits the detections of a tile.
        overlap: least part of a tile's side that neighbours share, in [0, 0.75]; an object that is smaller than
            the overlap lies whole in one of the tiles.
        urls: limits of images that are fetched by address; None refuses addresses, which whoever takes inputs
            from strangers should do.
        max_pixels: images of more are refused before they are decoded; 0: of more than Pillow's own limit.
        config: see :func:`maskrcnn_repro.checkpoint.model_source.find_model`.
        trust: load an exported file that is a program (``.pt2``, ``.ts``), which may do anything on this machine.

    Attributes:
        cfg: the config of the model as it is used here.
        labels: names of classes and keypoints.
        origin: what the file says of where its weights come from.
        facts: what an exported file says of its export; of other models empty.
        path: how it computes: ``plain``, or of the fast path ``fused`` (``folded`` where torch lacks oneDNN's fused
            operators), and the precision, such as ``fused bfloat16``.

    Raises:
        CheckpointError: there is no such model, or it finds no objects by itself.
        ConfigError: an argument or the config has a value that cannot be.
        ExportError: an exported file cannot be opened, or is a program that is not trusted.
    """

    def __init__(
        self,
        source: str | Path | ModelSource,
        threshold: float | str | None = "auto",
        *,
        classes: Sequence[str] | None = None,
        device: str = "auto",
        precision: str | None = None,
        fast: bool | None = None,
        tta: bool | None = None,
        tiles: int = 0,
        overlap: float = 0.25,
        urls: UrlLimits | None = URL_LIMITS,
        max_pixels: int = 0,
        config: str | Path = "",
        trust: bool = False,
    ) -> None:
        check_types(
            source=source,
            threshold=threshold,
            classes=classes,
            device=device,
            precision=precision,
            fast=fast,
            tta=tta,
            tiles=tiles,
            overlap=overlap,
            urls=urls,
            max_pixels=max_pixels,
            config=config,
            trust=trust,
        )
        if max_pixels < 0:
            raise ConfigError(f"max_pixels {max_pixels} must be at least 0.")
        exported = None
        if is_exported(source):
            check_exported_use(device, precision, tta)
            exported = open_exported(Path(source), trust=trust)
        lowest = float(exported.facts["threshold"]) if exported else None
        asked, threshold = threshold, least_score(threshold, lowest)
        if exported:
            model, device, precision, tta = exported.source, "cpu", "float32", False
        else:
            model = source if isinstance(source, ModelSource) else find_model(source, config)
        self.labels: Labels = model.labels
        self.origin = model.origin
        self.facts = exported.facts if exported else {}
        self._classes = class_ids(classes, model.class_names)
        self.cfg = settings(model, threshold, device, precision, tta)
        check_tiles(tiles, overlap, self.cfg.INPUT.MAX_SIZE_TEST)
        self._model: nn.Module
        if exported:
            self._model = ExportedDetector(exported, None if asked is None else threshold)
            self._divisor = 1
            self.path = f"exported {exported.facts.get('format', '')}".strip()
        else:
            fast = is_automatic(model, precision) if fast is None else fast
            detector = build_detector(self.cfg, model, fast=fast)
            self._model, self._divisor, self.path = detector.model, detector.divisor, detector.path
        # One at a time: two models at once would share the cores, and augmentation switches branches of the heads.
        self._lock = threading.Lock()
        self._tiles, self._overlap = tiles, round(tiles * overlap)
        self._resize = augmentations(self.cfg)
        files = ImageFiles(tuple(self.cfg.INPUT.PIXEL_RANGE), max_pixels)
        self._reader = ImageReader(files, self.cfg.INPUT.FORMAT, urls)

    @property
    def makes_panoptic(self) -> bool:
        """Whether predictions have panoptic maps, as far as the model says: one that says nothing may have."""
        if self._tiles:
            return False
        architecture = META_ARCH_REGISTRY.get(self.cfg.MODEL.META_ARCHITECTURE)
        return bool(getattr(architecture, "makes_panoptic", True))

    def __call__(self, x: Any, batch_size: int = 1) -> Prediction | list[Prediction]:
        """Return the predictions of one image, or a list of those of several.

        Args:
            x: a path, an ``http(s)`` address, the bytes of a file, an array (RGB), or a Pillow image: one image; a
                folder (with its sub-folders), a pattern such as ``"photos/*.jpg"``, a list or a generator: several.
                Hidden files and folders are left out.
            batch_size: images of one size that a GPU computes at once; on the CPU it changes nothing.

        Raises:
            ImageError: an image cannot be read; :meth:`stream` can go on after one.
            DataError: there is no image in ``x``; of a generator that ends at once the list is empty.
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
            DataError: there is no image in ``inputs``, and they are no generator.
        """
        check_types(batch_size=batch_size, on_error=on_error)
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} must be at least 1.")
        pool = ThreadPoolExecutor(1, thread_name_prefix="decode images")
        try:
            samples = compute_ahead(pool, self._load, sources_in(inputs), batch_size + 1)
            for batch in batches(_readable(samples, on_error), batch_size, self._kind):
                yield from self._predict(batch, batch_size)
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, source: Source) -> Sample:
        image = self._reader.read(source)
        if not self._tiles or max(image.shape[:2]) <= self._tiles:
            return self._sample(source, image)
        # All tiles have one size: what the model cannot take is told here, where it concerns this image alone.
        self._sample(source, image[: self._tiles, : self._tiles])
        return Sample(source, {}, image)

    def _sample(self, source: Source, image: np.ndarray) -> Sample:
        height, width = image.shape[:2]
        check_shape(self.cfg, name_of(source), height, width)
        seen = T.AugInput(image)
        self._resize(seen)
        check_sides(seen.image, self.facts)
        pixels = torch.as_tensor(seen.image.transpose(2, 0, 1).copy())
        return Sample(source, {"image": pixels, "height": height, "width": width})

    def _kind(self, sample: Sample) -> object:
        """Return what the images of a batch have in common: their padded size; pictures in tiles go alone."""
        if sample.picture is not None:
            return object()
        sides = sample.model_input["image"].shape[1:]
        return tuple(-(-side // self._divisor) for side in sides)

    def _predict(self, samples: Sequence[Sample], batch_size: int) -> Iterator[Prediction]:
        if samples[0].picture is not None:
            yield self._predict_tiles(samples[0].source, samples[0].picture, batch_size)
            return
        # On the CPU a convolution of several images rounds otherwise than that of one, and is not faster.
        alone = self.cfg.MODEL.DEVICE == "cpu" or self.cfg.TEST.AUG.ENABLED
        for group in [[sample] for sample in samples] if alone else [samples]:
            with self._lock, torch.inference_mode():
                outputs = self._model([sample.model_input for sample in group])
            for sample, output in zip(group, outputs, strict=True):
                prediction = self._prediction(output["instances"], sample.source)
                if "panoptic_seg" in output:
                    prediction = with_segments(
                        prediction, output["panoptic_seg"], self.labels, self._classes
                    )
                yield prediction

    def _predict_tiles(self, source: Source, image: np.ndarray, batch_size: int) -> Prediction:
        height, width = image.shape[:2]
        tiles = tiles_of(height, width, self._tiles, self._overlap)
        samples = (
            self._sample(source, image[tile.slices(Box(0, 0, width, height))]) for tile in tiles
        )
        predictions = [
            prediction
            for batch in batches(samples, batch_size, self._kind)
            for prediction in self._predict(batch, batch_size)
        ]
        return merge_tiles(
            list(zip(tiles, predictions, strict=True)), height, width, path_of(source)
        )

    def _prediction(self, instances: Instances, source: Source) -> Prediction:
        height, width = instances.image_size
        absent = dict.fromkeys(("pred_masks", "mask_scores", "pred_keypoints", "pred_densepose"))
        fields = {**absent, **instances.get_fields()}
        masks, points = fields["pred_masks"], fields["pred_keypoints"]
        mask_scores, maps = fields["mask_scores"], fields["pred_densepose"]
        boxes = instances.pred_boxes.tensor
        prediction = Prediction(
            boxes=boxes.cpu().numpy(),
            scores=instances.scores.cpu().numpy(),
            class_ids=instances.pred_classes.cpu().numpy(),
            class_names=self.labels.class_names,
            height=int(height),
            width=int(width),
            rles=None if masks is None else encode_masks(masks),
            mask_scores=None if mask_scores is None else mask_scores.cpu().numpy(),
            keypoints=None if points is None else points.cpu().numpy(),
            keypoint_names=self.labels.keypoint_names,
            path=path_of(source),
            category_ids=self.labels.category_ids,
            skeleton=self.labels.skeleton,
            files=self._reader.files,
            surfaces=None if maps is None else [s.cpu().numpy() for s in maps.surfaces(boxes)],
        )
        if self._classes is None:
            return prediction
        return prediction[np.isin(prediction.class_ids, self._classes)]


def with_segments(
    prediction: Prediction,
    panoptic: tuple[torch.Tensor, list[dict[str, Any]]],
    labels: Labels,
    classes: Sequence[int] | None = None,
) -> Prediction:
    """Return a prediction with a panoptic map, as a panoptic model gives it, and names of its segments.

    Things of other ``classes`` are taken out of the map, which says nothing there; None keeps all.
    """
    ids, infos = panoptic[0].cpu().numpy(), panoptic[1]
    if classes is not None:
        chosen = [i for i in infos if not i["isthing"] or i["category_id"] in classes]
        ids, infos = np.where(np.isin(ids, [i["id"] for i in chosen]), ids, 0), chosen
    names = {True: labels.class_names, False: labels.stuff_names}
    segments = []
    for info in infos:
        place, listed = info["category_id"], names[info["isthing"]]
        name = listed[place] if place < len(listed) else f"stuff {place}"
        # Detections may be chosen from and put in another order.
        kept = {key: value for key, value in info.items() if key != "instance_id"}
        segments.append({**kept, "name": name})
    return replace(
        prediction, panoptic_seg=ids, segments_info=segments, stuff_names=labels.stuff_names
    )


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
