"""What a model says of one image.

Shape legend: R detections, by falling score; H, W height and width of the upright image in pixels; K keypoints.
"Upright" is an image turned as its EXIF orientation asks. Boxes are xyxy in pixels of that image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.data.keypoints import limbs
from maskrcnn_repro.errors import ConfigError, UserError
from maskrcnn_repro.modeling.rle import RLEMasks
from maskrcnn_repro.visualization.densepose import draw_surfaces
from maskrcnn_repro.visualization.draw import Objects, Style, draw
from maskrcnn_repro.visualization.panoptic import draw_panoptic

import numpy as np
from pycocotools import mask as rle_codec

_FILES = ImageFiles()
_HALF_PIXEL = np.array([0.5, 0.5, 0.0], np.float32)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The detections in one image.

    Attributes:
        boxes: (R, 4) float32, xyxy in pixels of the upright image.
        scores: (R,) float32 in [0, 1], falling.
        class_ids: (R,) int64, places in ``class_names``.
        class_names: of all classes of the model.
        height, width: of the upright image, in pixels.
        rles: R masks as COCO's compressed run-length encodings of (H, W), or None from a model without masks.
        keypoints: (R, K, 3) float32: x and y in pixels of the upright image and a score; or None.
        keypoint_names: K names, or none.
        path: of the image, or None for an array.
        category_ids: of the classes in the COCO file that the model was trained on; empty: 1, 2, 3 …
        skeleton: names of the keypoints that a limb connects, for drawing.
        files: reads ``path`` as the model saw it, for drawing.
        mask_scores: (R,) float32, how good the masks are, from a model that scores them apart from boxes; or None.
        panoptic_seg: (H, W) int32 segment ids of a panoptic model, 0 where it says nothing; of the whole image, whatever
            rows are chosen of a prediction. None from other models.
        segments_info: of each segment ``id``, ``isthing``, ``category_id`` (a place in ``class_names`` or ``stuff_names``),
            ``name``, and ``score`` of things or ``area`` of stuff.
        stuff_names: of the semantic classes of a panoptic model, "things" first.
        surfaces: R of (3, h, w) uint8 from a DensePose model: chart (0 where there is no body), u and v in 255ths of the
            pixels of each box, which begin at the whole pixel of its left upper corner; or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    class_names: Sequence[str]
    height: int
    width: int
    rles: Sequence[Mapping[str, Any]] | None = None
    keypoints: np.ndarray | None = None
    keypoint_names: Sequence[str] = ()
    path: str | None = None
    category_ids: Sequence[int] = ()
    skeleton: Sequence[tuple[str, str]] = ()
    files: ImageFiles = _FILES
    mask_scores: np.ndarray | None = None
    panoptic_seg: np.ndarray | None = None
    segments_info: Sequence[Mapping[str, Any]] = ()
    stuff_names: Sequence[str] = ()
    surfaces: Sequence[np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.scores)

    def __getitem__(self, rows: Any) -> Prediction:
        """Return the detections of an index, a slice, an array of R bools, or an array of indices, in their order."""
        places = np.atleast_1d(np.arange(len(self))[rows])
        return replace(
            self,
            boxes=self.boxes[places],
            scores=self.scores[places],
            class_ids=self.class_ids[places],
            rles=None if self.rles is None else [self.rles[place] for place in places],
            mask_scores=None if self.mask_scores is None else self.mask_scores[places],
            keypoints=None if self.keypoints is None else self.keypoints[places],
            surfaces=None if self.surfaces is None else [self.surfaces[place] for place in places],
        )

    @property
    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[index] for index in self.class_ids]

    @property
    def masks(self) -> np.ndarray | None:
        """(R, H, W) bool, decoded at each call; or None from a model without masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self), self.height, self.width), bool)
        for mask, rle in zip(masks, self.rles, strict=True):
            mask[:] = rle_codec.decode(rle)
        return masks

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """Return the detections as entries of a COCO results file.

        Args:
            image_id: of the image in its data set; None: entries have the ``file_name`` instead.

        Returns:
            R dicts fit for JSON: ``image_id`` or ``file_name``, ``category_id``, ``bbox`` (x, y, width, height),
            ``score``, and where the model predicts them ``segmentation``, ``mask_score`` and ``keypoints``, whose
            pixels COCO counts from the centre of the first one.
        """
        place = {"file_name": self.path} if image_id is None else {"image_id": image_id}
        ids = self.category_ids or range(1, len(self.class_names) + 1)
        boxes = self.boxes.copy()
        boxes[:, 2:] -= boxes[:, :2]
        entries = [
            {**place, "category_id": int(ids[index]), "bbox": box.tolist(), "score": float(score)}
            for index, box, score in zip(self.class_ids, boxes, self.scores, strict=True)
        ]
        if self.rles is not None:
            for entry, rle in zip(entries, self.rles, strict=True):
                entry["segmentation"] = dict(rle)
        if self.mask_scores is not None:
            for entry, score in zip(entries, self.mask_scores, strict=True):
                entry["mask_score"] = float(score)
        if self.keypoints is not None:
            for entry, points in zip(entries, self.keypoints - _HALF_PIXEL, strict=True):
                entry["keypoints"] = points.ravel().tolist()
        return entries

    def to_supervision(self) -> Any:
        """Return the boxes, scores, classes and masks as ``supervision.Detections``.

        Raises:
            UserError: the package ``supervision`` is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                "Prediction.to_supervision needs the package supervision: pip install 'maskrcnn-repro[supervision]'."
            ) from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.class_ids,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def draw(
        self,
        image: np.ndarray | None = None,
        magnification: float = 1.0,
        colors: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Return the image with the detections, or a panoptic model's segments, drawn on it, (H, W, 3) RGB uint8.

        Args:
            image: (H, W, 3) RGB uint8, upright; by default it is read from ``path``.
            magnification: of the picture; lines and letters keep their size.
            colors: R numbers of colours; by default those of the classes, or, of a single class, by size.

        Raises:
            ConfigError: there are not R ``colors``.
            ImageError: ``path`` cannot be read, or there is none and no image is given; the image has another size.
        """
        if colors is not None and len(colors) != len(self):
            raise ConfigError(f"colors has {len(colors)} numbers, for {len(self)} detections.")
        if image is None:
            if self.path is None or "://" in self.path:
                raise ImageError(
                    "This prediction has no file to draw on; give its image: draw(image)."
                )
            image = self.files.read(self.path, "RGB")
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise ImageError(
                f"A prediction for {self.width} x {self.height} pixels is drawn on an array of "
                f"{(self.height, self.width, 3)} in uint8, not on {image.shape} in {image.dtype}."
            )
        if self.panoptic_seg is not None and colors is None:
            return self._draw_segments(image, magnification)
        if self.surfaces is not None:
            image = draw_surfaces(image, self.surfaces, self.boxes)
        return draw(image, self._objects(colors), self._style(), magnification)

    def _draw_segments(self, image: np.ndarray, magnification: float) -> np.ndarray:
        assert self.panoptic_seg is not None
        labels, colors = {}, {}
        for info in self.segments_info:
            score = f" {info['score']:.2f}" if "score" in info else ""
            labels[info["id"]] = f"{info['name']}{score}"
            first = 0 if info["isthing"] else len(self.class_names) - 1
            colors[info["id"]] = first + info["category_id"]
        return draw_panoptic(image, self.panoptic_seg, labels, colors, magnification)

    def _objects(self, colors: Sequence[int] | None) -> Objects:
        masks: Sequence[np.ndarray] = ()
        if self.rles is not None:
            # At full size one after the other.
            masks = RLEMasks([dict(rle) for rle in self.rles], (self.height, self.width))
        numbers = None if colors is None else np.array(colors, np.int64)
        return Objects(
            self.boxes, self.class_ids, masks, self.scores, self.keypoints, colors=numbers
        )

    def _style(self) -> Style:
        names = list(self.keypoint_names)
        edges = [(names.index(a), names.index(b), color) for a, b, color in limbs(self.skeleton)]
        return Style(self.class_names, edges)
