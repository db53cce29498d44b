"""Drawing of objects on their image: tinted masks with outlines, boxes, labels with scores, skeletons.

N = objects, K = keypoints of an object, H, W = height and width of the image in pixels, s = magnification.
Coordinates are continuous pixels of the image: (0, 0) is the outer corner of its first pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""
# Neighbouring colours differ in hue and in brightness.
PALETTE: tuple[Color, ...] = (
    (255, 82, 61), (66, 120, 255), (255, 196, 37), (190, 80, 220),
    (60, 220, 130), (255, 130, 190), (40, 205, 235), (255, 140, 30),
    (150, 205, 50), (120, 110, 240), (205, 150, 110), (0, 165, 145),
)  # fmt: skip
TINT = 0.42
FONT_SIZE = 13
CROWDED = 12
"""Images with more objects are drawn without labels and (if there are masks) boxes, which would hide them."""
SAME_OBJECT = 0.5
"""IoU of boxes from which on a prediction has the colour of an object."""
KEYPOINT_SCORE = 0.05
"""Keypoints up to this score are drawn smaller; Detectron2 omits them in pictures, but COCO's AP counts them."""


@dataclass
class Objects:
    """Ground truth or predictions of one image."""

    boxes: np.ndarray
    """(N, 4) xyxy."""
    classes: np.ndarray
    """(N,) int, contiguous."""
    masks: Sequence[np.ndarray] = ()
    """N of (H, W) bool, or none."""
    scores: np.ndarray | None = None
    """(N,) fractions; None for ground truth."""
    keypoints: np.ndarray | None = None
    """(N, K, 3) x, y and score, or COCO's visibility, where 0 is "not labelled"."""

    colors: np.ndarray | None = None
    """(N,) int, numbers of colours where there is a single class; None numbers by size, the largest first."""

    def __len__(self) -> int:
        return len(self.boxes)

    def by_size(self) -> np.ndarray:
        """Return the numbers of the objects, the largest box first, (N,) int."""
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return np.argsort(-areas, kind="stable")

    def color_numbers(self) -> np.ndarray:
        """Return ``colors``, or the place of each object by size, (N,) int."""
        return np.argsort(self.by_size()) if self.colors is None else self.colors


@dataclass(frozen=True)
class Style:
    """Class names and skeleton of a data set."""

    names: Sequence[str]
    edges: Sequence[tuple[int, int, Color]] = field(default_factory=tuple)
    """Limbs: two keypoint numbers and a colour."""


def class_color(index: int) -> Color:
    """Return the colour of a class; from the thirteenth class on, colours repeat in darker shades."""
    shade = (1.0, 0.72, 0.5)[index // len(PALETTE) % 3]
    red, green, blue = (round(shade * value) for value in PALETTE[index % len(PALETTE)])
    return red, green, blue


def colored_as(objects: Objects, truth: Objects) -> Objects:
    """Return predictions with the colours of the objects that they fit, and other colours where they fit none."""
    taken = truth.color_numbers()
    iou = pairwise_iou(*(Boxes(torch.as_tensor(each.boxes.copy())) for each in (objects, truth)))
    best, index = iou.max(dim=1) if len(truth) else (iou.new_zeros(len(objects)), None)
    fits = best.numpy() >= SAME_OBJECT
    colors = len(truth) + np.cumsum(~fits) - 1
    if index is not None:
        colors = np.where(fits, taken[index.numpy()], colors)
    return replace(objects, colors=colors)


def is_crowded(*sides: Objects) -> bool:
    """Tell whether one of the pictures of an image, which are all drawn alike, has too many objects."""
    return any(len(side) > CROWDED for side in sides)


def draw(
    image: np.ndarray,
    objects: Objects,
    style: Style,
    magnification: float,
    *,
    crowded: bool | None = None,
) -> np.ndarray:
    """Return the resized image with the objects drawn on it.

    Args:
        image: (H, W, 3) RGB uint8.
        objects: ground truth or predictions.
        style: class names and skeleton.
        magnification: s; lines and letters have the same size at any magnification.
        crowded: leave out labels and, if there are masks, boxes; by default of these objects alone.

    Returns:
        (sH, sW, 3) RGB uint8, at least 1 pixel each way.
    """
    height, width = (max(1, round(side * magnification)) for side in image.shape[:2])
    # INTER_AREA averages pixels where it shrinks the image, which avoids aliasing.
    method = cv2.INTER_AREA if magnification < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(image, (width, height), interpolation=method)
    # Large objects first: they would cover small ones.
    order = objects.by_size()
    crowded = is_crowded(objects) if crowded is None else crowded
    # With a single class, colours distinguish touching objects instead of classes.
    numbers = objects.color_numbers() % len(PALETTE) if _single(style) else objects.classes
    for index in order:
        color = class_color(int(numbers[index]))
        if len(objects.masks):
            _draw_mask(canvas, objects.masks[index], color, rim=not crowded)
        if not (crowded and len(objects.masks)):
            _draw_box(canvas, objects.boxes[index] * magnification, color)
    if objects.keypoints is not None:
        for index in order:
            _draw_skeleton(canvas, objects.keypoints[index], magnification, style)
    if crowded or _single(style):
        return canvas
    return _draw_labels(canvas, objects, order, style, magnification)


def _single(style: Style) -> bool:
    return len(style.names) == 1


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, color: Color, *, rim: bool) -> None:
    height, width = canvas.shape[:2]
    # Interpolated before the threshold, so that outlines stay smooth at any magnification.
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = soft >= 0.5
    canvas[inside] = ((1 - TINT) * canvas[inside] + TINT * np.array(color)).astype(np.uint8)
    outline, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark rim below the outline, as its colour may be the background's; small objects have no room for it.
    for ink, thickness in (((20, 20, 20), 3), (color, 2)) if rim else ((color, 1),):
        cv2.drawContours(canvas, outline, -1, ink, thickness, cv2.LINE_AA)


def _draw_box(canvas: np.ndarray, box: np.ndarray, color: Color) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    # Boxes end at the outer corner of their last pixel, OpenCV's rectangles at the pixel itself.
    far = min(x2, width) - 1, min(y2, height) - 1
    cv2.rectangle(canvas, (max(x1, 0), max(y1, 0)), far, color, thickness=1)


def _draw_skeleton(canvas: np.ndarray, points: np.ndarray, scale: float, style: Style) -> None:
    labelled, certain = points[:, 2] > 0, points[:, 2] > KEYPOINT_SCORE
    pixels = [(round(float(x)), round(float(y))) for x, y in points[:, :2] * scale]
    for first, second, color in style.edges:
        if labelled[first] and labelled[second]:
            width = 2 if certain[first] and certain[second] else 1
            cv2.line(canvas, pixels[first], pixels[second], color, width, cv2.LINE_AA)
    for index in np.flatnonzero(labelled):
        radius = 3 if certain[index] else 2
        cv2.circle(canvas, pixels[index], radius, (25, 25, 25), -1, cv2.LINE_AA)
        cv2.circle(canvas, pixels[index], radius - 1, (255, 255, 255), -1, cv2.LINE_AA)


def _draw_labels(
    canvas: np.ndarray, objects: Objects, order: np.ndarray, style: Style, scale: float
) -> np.ndarray:
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for index in order:
        category = int(objects.classes[index])
        text = style.names[category]
        if objects.scores is not None:
            text += f" {objects.scores[index]:.2f}"
        corner = _label_corner(objects.boxes[index] * scale, text, picture.size)
        draw_chip(pen, corner, text, class_color(category))
    return np.asarray(picture)


def _label_corner(box: np.ndarray, text: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return the upper left corner of a label: above the box, or at its upper edge if there is no room."""
    width, height = chip_size(text)
    x = min(max(round(float(box[0])), 0), max(size[0] - width, 0))
    y = round(float(box[1])) - height
    return x, y if y >= 0 else min(max(round(float(box[1])), 0), max(size[1] - height, 0))


@functools.cache
def font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, so that every machine draws the same letters."""
    return ImageFont.load_default(size)


def chip_size(text: str) -> tuple[int, int]:
    """Return width and height of a label of :func:`draw_chip`, in pixels."""
    return round(font().getlength(text)) + 6, FONT_SIZE + 4


def draw_chip(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, color: Color) -> None:
    """Draw ``text`` on a coloured background with its upper left corner at ``corner``."""
    width, height = chip_size(text)
    x, y = corner
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    # Dark letters on a light background and the reverse, by Rec. 601 luma.
    luma = float(np.dot(color, (0.299, 0.587, 0.114)))
    ink = (20, 20, 20) if luma > 130 else (255, 255, 255)
    pen.text((x + 3, y + height / 2), text, fill=ink, font=font(), anchor="lm")
