"""Polygons cut at the border of their image."""

from __future__ import annotations


def clip_polygon(polygon: list[float], width: int, height: int) -> list[float]:
    """Return a polygon cut at the border of its image, one side after the other (Sutherland and Hodgman, 1974).

    Args:
        polygon: x and y of its points by turns, all finite.
        width: of the image in pixels.
        height: of the image in pixels.

    Returns:
        The same form, with as many vertices as are left: an empty list for a polygon beside the image.
    """
    points = list(zip(polygon[0::2], polygon[1::2], strict=True))
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        kept: list[tuple[float, float]] = []
        for before, point in zip(points[-1:] + points[:-1], points, strict=True):
            inside = [(limit - p[axis]) * sign <= 0 for p in (before, point)]
            if inside[0] != inside[1]:
                share = (limit - before[axis]) / (point[axis] - before[axis])
                crossing = [b + share * (p - b) for b, p in zip(before, point, strict=True)]
                crossing[axis] = limit
                kept.append((crossing[0], crossing[1]))
            if inside[1]:
                kept.append(point)
        points = kept
    return [value for point in points for value in point]
