"""Objects drawn over their image: tinted masks with outlines, boxes, names and scores, skeletons.

N = objects, K = keypoints of an object, H, W = height and width of the image in pixels, s = magnification.
Coordinates are continuous pixels of the image: (0, 0) is the outer corner of its first pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""
# Neighbours differ in hue and in brightness.
PALETTE: tuple[Color, ...] = (
    (255, 82, 61), (66, 120, 255), (255, 196, 37), (190, 80, 220),
    (60, 220, 130), (255, 130, 190), (40, 205, 235), (255, 140, 30),
    (150, 205, 50), (120, 110, 240), (205, 150, 110), (0, 165, 145),
)  # fmt: skip
TINT = 0.42
FONT_SIZE = 13
CROWDED = 12
"""With more objects than that in an image, labels and boxes would hide what they name."""
# Up to it Detectron2's own drawing takes a keypoint for not found. COCO's AP counts it all the same: it is drawn finer.
KEYPOINT_SCORE = 0.05


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
    """(N, K, 3) x, y and score (or COCO's visibility, of which 0 is "not labelled")."""

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Style:
    """Names and skeleton of a data set."""

    names: Sequence[str]
    edges: Sequence[tuple[int, int, Color]] = field(default_factory=tuple)
    """Limbs: two keypoint numbers and a colour."""


def class_color(index: int) -> Color:
    """Return the colour of a class: always the same; classes from the thirteenth on are darker."""
    shade = (1.0, 0.72, 0.5)[index // len(PALETTE) % 3]
    red, green, blue = (round(shade * value) for value in PALETTE[index % len(PALETTE)])
    return red, green, blue


def draw(image: np.ndarray, objects: Objects, style: Style, magnification: float) -> np.ndarray:
    """Return the image magnified with the objects over it.

    Args:
        image: (H, W, 3) RGB uint8.
        objects: what to draw.
        style: names by class and the skeleton.
        magnification: s; lines and letters keep their size whatever it is.

    Returns:
        (sH, sW, 3) RGB uint8, at least 1 pixel each way.
    """
    height, width = (max(1, round(side * magnification)) for side in image.shape[:2])
    method = cv2.INTER_AREA if magnification < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(image, (width, height), interpolation=method)
    areas = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(axis=1)
    # Large ones first, or they would cover the small ones.
    order = np.argsort(-areas, kind="stable")
    crowded = len(objects) > CROWDED
    for rank, index in enumerate(order):
        # A single class needs no colour of its own: colours then tell touching objects apart.
        color = class_color(rank % len(PALETTE) if _single(style) else int(objects.classes[index]))
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
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = soft >= 0.5
    canvas[inside] = ((1 - TINT) * canvas[inside] + TINT * np.array(color)).astype(np.uint8)
    outline, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark rim first: the colour may be the background's. Small objects would drown in it.
    for ink, thickness in (((20, 20, 20), 3), (color, 2)) if rim else ((color, 1),):
        cv2.drawContours(canvas, outline, -1, ink, thickness, cv2.LINE_AA)


def _draw_box(canvas: np.ndarray, box: np.ndarray, color: Color) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    far = min(x2, width) - 1, min(y2, height) - 1
    cv2.rectangle(canvas, (max(x1, 0), max(y1, 0)), far, color, thickness=1)


def _draw_skeleton(canvas: np.ndarray, points: np.ndarray, scale: float, style: Style) -> None:
    labelled, certain = points[:, 2] > 0, points[:, 2] > KEYPOINT_SCORE
    places = [(round(float(x)), round(float(y))) for x, y in points[:, :2] * scale]
    for first, second, color in style.edges:
        if labelled[first] and labelled[second]:
            width = 2 if certain[first] and certain[second] else 1
            cv2.line(canvas, places[first], places[second], color, width, cv2.LINE_AA)
    for index in np.flatnonzero(labelled):
        radius = 3 if certain[index] else 2
        cv2.circle(canvas, places[index], radius, (25, 25, 25), -1, cv2.LINE_AA)
        cv2.circle(canvas, places[index], radius - 1, (255, 255, 255), -1, cv2.LINE_AA)


def _draw_labels(
    canvas: np.ndarray, objects: Objects, order: np.ndarray, style: Style, scale: float
) -> np.ndarray:
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for index in order:
        kind = int(objects.classes[index])
        text = style.names[kind]
        if objects.scores is not None:
            text += f" {objects.scores[index]:.2f}"
        draw_chip(
            pen, _place(objects.boxes[index] * scale, text, picture.size), text, class_color(kind)
        )
    return np.asarray(picture)


def _place(box: np.ndarray, text: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return where a label goes: on the box's upper edge, inside the image."""
    width, height = chip_size(text)
    x = min(max(round(float(box[0])), 0), max(size[0] - width, 0))
    y = round(float(box[1])) - height
    return x, y if y >= 0 else min(max(round(float(box[1])), 0), max(size[1] - height, 0))


@functools.cache
def font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow, so that every machine draws the same letters."""
    return ImageFont.load_default(size)


def chip_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels of a label made by :func:`draw_chip`."""
    return round(font().getlength(text)) + 6, FONT_SIZE + 4


def draw_chip(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, color: Color) -> None:
    """Draw ``text`` on a coloured ground with its upper left corner at ``place``."""
    width, height = chip_size(text)
    pen.rectangle((*place, place[0] + width - 1, place[1] + height - 1), fill=color)
    # Rec. 601 luma: dark letters on a light ground, light ones on a dark ground.
    luma = float(np.dot(color, (0.299, 0.587, 0.114)))
    ink = (20, 20, 20) if luma > 130 else (255, 255, 255)
    pen.text((place[0] + 3, place[1] + height / 2), text, fill=ink, font=font(), anchor="lm")
