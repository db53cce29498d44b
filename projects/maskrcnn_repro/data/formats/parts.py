"""Outlines of an object that a source has in several shapes, joined under one group."""

from __future__ import annotations

from maskrcnn_repro.data.formats.contents import Losses, Shape


def join_groups(shapes: list[tuple[Shape, str]], losses: Losses) -> list[Shape]:
    """Return shapes with those of one class and one group joined, as LabelMe and CVAT mean groups.

    Args:
        shapes: each with its group; empty: none.
        losses: gets a note of each group.
    """
    result: list[Shape] = []
    first: dict[tuple[str, str], Shape] = {}
    for shape, group in shapes:
        whole = first.setdefault((shape.label, group), shape) if group else shape
        if whole is shape:
            result.append(shape)
        elif isinstance(whole.outline, list) and isinstance(shape.outline, list):
            whole.outline = whole.outline + shape.outline
            losses.add("joined", shape.place)
        else:  # a mask and a polygon, or two masks: each stays an object
            result.append(shape)
    return result
