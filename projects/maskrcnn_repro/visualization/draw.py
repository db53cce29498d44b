"""Drawing of objects on their image: tinted masks with outlines, boxes, labels with scores, skeletons.

N = objects, K = keypoints of an object, H, W = height and width of the image in pixels, s = magnification.
Coordinates are continuous pixels of the image: (0, 0) is the outer corner of its first pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from maskrcnn_repro.visualization.labels import place_labels

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
WHITE, BLACK = (255, 255, 255), (20, 20, 20)
TINT = 0.42
FONT_SIZE = 13
SMALL_FONT = 10
CROWDED = 12
"""Images with more objects have small labels and, if there are masks, no boxes, which would hide them."""
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
    """N of (H, W) bool, or none; drawn one after the other, so that they may be decoded as they are read."""
    scores: np.ndarray | None = None
    """(N,) fractions; None for ground truth."""
    keypoints: np.ndarray | None = None
    """(N, K, 3) x, y and score, or COCO's visibility, where 0 is "not labelled"."""

    colors: np.ndarray | None = None
    """(N,) int, numbers of colours; None: those of the classes, or of a single class by size, the largest first."""
    numbered: bool = False
    """Whether the number of the colour, from 1, is written where there is a single class, whose name says nothing."""

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
    """Return the colour of a class or object; from the thirteenth on, colours repeat in darker shades."""
    shade = (1.0, 0.72, 0.5)[index // len(PALETTE) % 3]
    red, green, blue = (round(shade * value) for value in PALETTE[index % len(PALETTE)])
    return red, green, blue


def colored_as(objects: Objects, truth: Objects) -> Objects:
    """Return predictions with the colours of the objects that they fit, and other colours where they fit none, numbered."""
    taken = truth.color_numbers()
    iou = pairwise_iou(*(Boxes(torch.as_tensor(each.boxes.copy())) for each in (objects, truth)))
    best, index = iou.max(dim=1) if len(truth) else (iou.new_zeros(len(objects)), None)
    fits = best.numpy() >= SAME_OBJECT
    colors = len(truth) + np.cumsum(~fits) - 1
    if index is not None:
        colors = np.where(fits, taken[index.numpy()], colors)
    return replace(objects, colors=colors, numbered=True)


def number_objects(objects: Objects) -> Objects:
    """Return objects of which each has a colour of its own, the largest the first, and its number."""
    return replace(objects, colors=objects.color_numbers(), numbered=True)


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
        crowded: small labels and, if there are masks, no boxes; by default as these objects alone need it.

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
    numbers = _colors(objects, style)
    for index in order:
        color = class_color(int(numbers[index]))
        if len(objects.masks):
            _draw_mask(canvas, objects.masks[index], color, rim=not crowded)
        if not (crowded and len(objects.masks)):
            _draw_box(canvas, objects.boxes[index] * magnification, color)
    if objects.keypoints is not None:
        for index in order:
            _draw_skeleton(canvas, objects.keypoints[index], magnification, style)
    return _draw_labels(canvas, objects, style, magnification, small=crowded)


def _colors(objects: Objects, style: Style) -> np.ndarray:
    if objects.colors is None and len(style.names) != 1:
        return objects.classes
    # Darker shades, which class_color takes from the thirteenth on, are hard to see on dark images.
    return objects.color_numbers() % len(PALETTE)


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, color: Color, *, rim: bool) -> None:
    height, width = canvas.shape[:2]
    # Interpolated before the threshold, so that outlines stay smooth at any magnification.
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = soft >= 0.5
    canvas[inside] = ((1 - TINT) * canvas[inside] + TINT * np.array(color)).astype(np.uint8)
    outline, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark rim below the outline, as its colour may be the background's; small objects have no room for it.
    for ink, thickness in ((BLACK, 3), (color, 2)) if rim else ((color, 1),):
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
    canvas: np.ndarray, objects: Objects, style: Style, scale: float, *, small: bool
) -> np.ndarray:
    """Draw the label of each object, the largest first; in a crowd letters alone, which hide the least."""
    labels = [_label(objects, style, int(index)) for index in objects.by_size()]
    order = [index for index, label in zip(objects.by_size(), labels, strict=True) if label]
    labels = list(filter(None, labels))
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    letters = SMALL_FONT if small else FONT_SIZE
    sizes = np.array([chip_size(label, letters) for label in labels]).reshape(-1, 2)
    corners = place_labels(objects.boxes[order] * scale, sizes, picture.size).round()
    numbers = _colors(objects, style)
    for index, label, (x, y) in zip(order, labels, corners.astype(int).tolist(), strict=True):
        if small:
            pen.text((x + 3, y), label, WHITE, font(letters), stroke_width=1, stroke_fill=BLACK)
        else:
            draw_chip(pen, (x, y), label, class_color(int(numbers[index])))
    return np.asarray(picture)


def _label(objects: Objects, style: Style, index: int) -> str:
    """Return class and score; of a single class, whose name says nothing, the object's number if it is written."""
    name = style.names[int(objects.classes[index])] if len(style.names) != 1 else ""
    if not name and objects.numbered and objects.colors is not None:
        name = f"{int(objects.colors[index]) + 1}{':' if objects.scores is not None else ''}"
    score = "" if objects.scores is None else f"{objects.scores[index]:.2f}"
    return f"{name} {score}".strip()


@functools.cache
def font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, so that every machine draws the same letters."""
    return ImageFont.load_default(size)


def chip_size(text: str, letters: int = FONT_SIZE) -> tuple[int, int]:
    """Return width and height of a label of :func:`draw_chip`, in pixels."""
    return round(font(letters).getlength(text)) + 6, letters + 4


def draw_chip(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, color: Color) -> None:
    """Draw ``text`` on a coloured background with its upper left corner at ``corner``."""
    width, height = chip_size(text)
    x, y = corner
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    # Dark letters on a light background and the reverse, by Rec. 601 luma.
    luma = float(np.dot(color, (0.299, 0.587, 0.114)))
    ink = BLACK if luma > 130 else WHITE
    pen.text((x + 3, y + height / 2), text, fill=ink, font=font(), anchor="lm")
