"""Outlines of the classes in integer arithmetic.

Shapes fill about half of their boxes, so that AP depends on the outlines: for ``mini_coco_val``, exact boxes
as masks have 4.4 mask AP, the ellipses inside them 12.4.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.outlines import UNIT, Ring, arc, polar


# Parts are thick enough for a quantised RoI of stride 16, which misses thinner ones.
def _bar(draws: Draws) -> list[Ring]:
    w = draws.between(320, 460)
    return [[(-UNIT, -w), (UNIT, -w), (UNIT, w), (-UNIT, w)]]


def _cross(draws: Draws) -> list[Ring]:
    w = draws.between(340, 460)
    quarter = [(w, UNIT), (w, w), (UNIT, w)]
    ring = quarter + [(x, -y) for x, y in reversed(quarter)]
    return [ring + [(-x, -y) for x, y in ring]]


def _ring(draws: Draws) -> list[Ring]:
    hole = draws.between(350, 500)
    return [arc(UNIT, UNIT, 0, 360, 15), arc(hole, hole, 0, 360, 15)]


def _star(draws: Draws) -> list[Ring]:
    inner = draws.between(480, 580)
    return [
        [polar(r, r, d + turn) for d in range(0, 360, 72) for r, turn in ((UNIT, 0), (inner, 36))]
    ]


def _crescent(draws: Draws) -> list[Ring]:
    bulge = draws.between(200, 380)
    outer = arc(UNIT, UNIT, -90, 91, 15)
    inner = arc(bulge, UNIT, -75, 90, 15)
    # Half a disc is half as wide as high; stretch it to the whole square.
    return [[(2 * x - UNIT, y) for x, y in outer + inner[::-1]]]


def _ell(draws: Draws) -> list[Ring]:
    w = draws.between(700, 900)
    return [
        [
            (-UNIT, -UNIT),
            (w - UNIT, -UNIT),
            (w - UNIT, UNIT - w),
            (UNIT, UNIT - w),
            (UNIT, UNIT),
            (-UNIT, UNIT),
        ]
    ]


def _arrow(draws: Draws) -> list[Ring]:
    w, neck = draws.between(260, 380), draws.between(-100, 200)
    half = [(-UNIT, -w), (neck, -w), (neck, -800)]
    return [[*half, (UNIT, 0), *((x, -y) for x, y in reversed(half))]]


def _horseshoe(draws: Draws) -> list[Ring]:
    hole = draws.between(330, 450)
    gap = draws.between(3, 4) * 15
    outer = arc(UNIT, UNIT, gap, 361 - gap, 15)
    inner = arc(hole, hole, gap, 361 - gap, 15)
    return [outer + inner[::-1]]


SHAPES: dict[str, Callable[[Draws], list[Ring]]] = {
    "arrow": _arrow,
    "bar": _bar,
    "crescent": _crescent,
    "cross": _cross,
    "ell": _ell,
    "horseshoe": _horseshoe,
    "ring": _ring,
    "star": _star,
}
"""Class name -> function that draws an outline: a ring, or an outer and an inner ring around a hole."""
