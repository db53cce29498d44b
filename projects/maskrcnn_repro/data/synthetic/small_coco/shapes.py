"""Bodies of eight kinds with detail below a cell of stride 16, in integer arithmetic.

A body lies in the square from -UNIT to UNIT, y down. Its thin parts have their width in pixels at every size, so
that they are thin on large objects too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from maskrcnn_repro.data.synthetic.draws import ONE, Draws, cosine, sine
from maskrcnn_repro.data.synthetic.outlines import UNIT, Point, Ring, arc, polar

THINNEST, THICKEST = 8, 14
"""Width of a limb in pixels where it begins, before the body is narrowed."""


@dataclass
class Body:
    """What an object covers: all ``parts`` but the ``holes``."""

    length: int
    """Of the square in pixels."""
    parts: list[Ring] = field(default_factory=list)
    holes: list[Ring] = field(default_factory=list)

    def units(self, pixels: int) -> int:
        """Return a length in units of the square."""
        return pixels * 2 * UNIT // self.length

    def add_limb(
        self, draws: Draws, start: Point, degrees: int, reach: int, *, bend: int = 0
    ) -> Point:
        """Add a thin limb that becomes thinner by a quarter, and return the middle of its end.

        Args:
            draws: source of its width.
            start: the middle of its beginning.
            degrees: its direction at the beginning, from the x axis towards the y axis.
            reach: its length.
            bend: change of its direction up to its end, in degrees.
        """
        width = self.units(draws.between(THINNEST, THICKEST))
        ring, end = limb(start, degrees, reach, (width, width * 3 // 4), bend)
        self.parts.append(ring)
        return end


def limb(
    start: Point, degrees: int, reach: int, widths: tuple[int, int], bend: int = 0
) -> tuple[Ring, Point]:
    """Return the outline of a limb, and the middle of its end.

    Args:
        start: the middle of its beginning.
        degrees: its direction at the beginning.
        reach: its length.
        widths: at its beginning and its end.
        bend: change of its direction up to its end, in degrees.
    """
    steps = 1 + abs(bend) // 15
    left, right, (x, y) = [], [], start
    for step in range(steps + 1):
        heading = degrees + bend * step // steps
        half = (widths[0] * (steps - step) + widths[1] * step) // (2 * steps)
        off_x, off_y = polar(half, half, heading + 90)
        left.append((x - off_x, y - off_y))
        right.append((x + off_x, y + off_y))
        end = x, y
        stride = reach // steps
        x, y = x + stride * cosine(heading) // ONE, y + stride * sine(heading) // ONE
    return left + right[::-1], end


def _beetle(draws: Draws, body: Body) -> None:
    wide, high = draws.between(520, 660), draws.between(640, 720)
    body.parts.append(_shift(arc(wide, high, 0, 360, 10), (0, 130)))
    head = draws.between(240, 330)
    body.parts.append(_shift(arc(head, head, 0, 360, 20), (0, -high + 60)))
    for side in (0, 180):
        sign = 1 - side // 90
        for tilt, y in ((-35, -220), (0, 150), (40, 480)):
            start = sign * (wide * 7 // 10), y
            heading = side + sign * (tilt + draws.between(-10, 10))
            body.add_limb(
                draws, start, heading, draws.between(420, 540), bend=sign * draws.between(20, 60)
            )
        feeler = -90 + sign * draws.between(15, 40)
        body.add_limb(draws, (sign * 120, -high - 120), feeler, 320, bend=sign * 40)
    gap = draws.between(70, 130)
    body.holes.append([(-gap, 140 + high), (0, 130 + high // 3), (gap, 140 + high)])


def _chair(draws: Draws, body: Body) -> None:
    wide, seat = draws.between(520, 640), draws.between(100, 300)
    body.parts.append([(-wide, -UNIT), (wide, -UNIT), (wide, seat), (-wide, seat)])
    slots = draws.between(2, 4)
    bar = body.units(draws.between(THINNEST, THICKEST))
    pitch = (2 * wide - bar) // slots
    top, bottom = -UNIT + draws.between(180, 330), seat - draws.between(150, 250)
    for slot in range(slots):
        left = -wide + bar + slot * pitch
        right = max(left + pitch - bar, left + bar // 2)
        body.holes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    front = wide + draws.between(80, 200)
    slope = [(wide, seat), (front, seat + 230), (front, seat + 300)]
    body.parts.append([*slope, *((-x, y) for x, y in reversed(slope))])
    for sign in (-1, 1):
        for x, y in ((front - 40, seat + 250), (wide // 2, seat + 250)):
            body.add_limb(draws, (sign * x, y), 90 - sign * draws.between(0, 10), UNIT - y)


def _fish(draws: Draws, body: Body) -> None:
    high = draws.between(430, 580)
    body.parts.append(_shift(arc(720, high, 0, 360, 10), (200, 0)))
    notch = draws.between(-850, -700)
    tail = draws.between(330, 520)
    body.parts.append([(-330, -90), (-UNIT, -tail), (notch, 0), (-UNIT, tail), (-330, 90)])
    teeth = draws.between(4, 7)
    step = 800 // teeth
    crest = high + draws.between(140, 260)
    fin = [(-200, -high // 2)]
    for tooth in range(teeth):
        fin += [
            (-200 + tooth * step, -crest),
            (-200 + tooth * step + step * 2 // 3, -high * 3 // 4),
        ]
    body.parts.append([*fin, (600, -high // 2)])
    body.parts.append([(100, high // 2), (-120, high + 240), (360, high * 3 // 4)])
    mouth = draws.between(50, 110)
    body.holes.append([(940, -mouth), (700, 20), (930, mouth)])
    for heading in (35, 75):
        body.add_limb(draws, (680, high // 2), heading + draws.between(-12, 12), 420, bend=35)


def _gear(draws: Draws, body: Body) -> None:
    teeth, root = draws.between(9, 15), draws.between(760, 850)
    ring = []
    for tooth in range(teeth):
        first = 360 * tooth // teeth
        for radius, part in ((root, 0), (UNIT, 12), (UNIT, 45), (root, 57)):
            ring.append(polar(radius, radius, first + 360 * part // (100 * teeth)))
    body.parts.append(ring)
    hub = draws.between(110, 190)
    body.holes.append(arc(hub, hub, 0, 360, 15))
    windows, inner = draws.between(3, 5), hub + 220
    outer = draws.between(470, 580)
    for window in range(windows):
        first, last = 360 * window // windows, 360 * (window + 1) // windows - 30
        edge = arc(outer, outer, first, last, 6)
        body.holes.append(edge + arc(inner, inner, first, last, 6)[::-1])


def _key(draws: Draws, body: Body) -> None:
    bow, hole = draws.between(500, 620), draws.between(150, 240)
    body.parts.append(_shift(arc(bow, bow, 0, 360, 12), (0, bow - UNIT)))
    body.holes.append(_shift(arc(hole, hole, 0, 360, 15), (0, bow - UNIT - draws.between(0, 90))))
    half = draws.between(170, 250)
    body.parts.append([(-half, 0), (half, 0), (half, UNIT), (0, UNIT - 80), (-half, UNIT)])
    y = 240 + draws.between(0, 100)
    while y < 880:
        width = body.units(draws.between(THINNEST, THICKEST))
        reach = half + draws.between(140, 330)
        bottom = min(y + width, UNIT)
        body.parts.append([(0, y), (reach, y), (reach, bottom), (0, bottom)])
        y = bottom + max(width, draws.between(90, 170))


def _leaf(draws: Draws, body: Body) -> None:
    wide, teeth = draws.between(680, 860), draws.between(7, 12)
    side = []
    for tooth in range(teeth):
        for share, degrees in ((100, 180 * tooth // teeth), (84, (180 * tooth + 110) // teeth)):
            x, y = polar(wide, 800, degrees - 90)
            side.append((x * share // 100 if tooth else x, y - 200))
    body.parts.append([*side, (0, 600), *((-x, y) for x, y in reversed(side))])
    body.add_limb(draws, (0, 540), 90 + draws.between(-15, 15), 450, bend=draws.between(-50, 50))
    for _ in range(draws.between(1, 4)):
        radius = body.units(draws.between(4, 8))
        spot = draws.between(-wide // 2, wide // 2), draws.between(-600, 300)
        body.holes.append(_shift(arc(radius, radius, 0, 360, 30), spot))


def _snake(draws: Draws, body: Body) -> None:
    swing, phase = draws.between(240, 400), draws.below(360)
    turns, half = draws.between(300, 500), draws.between(230, 310)
    top, bottom, steps = [], [], 48
    for step in range(steps + 1):
        x = -UNIT + 1750 * step // steps
        y = swing * sine(phase + turns * step // steps) // ONE
        # A tail as thin as a limb, then quickly as thick as the body.
        thick = max(min(half, half * step // 16), body.units(THINNEST) // 2)
        top.append((x, y - thick))
        bottom.append((x, y + thick))
    body.parts.append(top + bottom[::-1])
    head = 750, swing * sine(phase + turns) // ONE
    body.parts.append(_shift(arc(250, 340, 0, 360, 20), head))
    for heading in (-25, 25):
        body.add_limb(draws, (950, head[1]), heading, 230)


def _umbrella(draws: Draws, body: Body) -> None:
    scallops, hem = draws.between(4, 7), draws.between(40, 120)
    dome = [(x, y + hem) for x, y in arc(UNIT, 900, 180, 361, 10)]
    width = 2 * UNIT // scallops
    edge = []
    for scallop in range(scallops):
        bow = arc(width // 2, draws.between(110, 200), 180, 361, 30)
        right = UNIT - scallop * width
        edge += [(x + right - width // 2, y + hem) for x, y in reversed(bow)]
    body.parts.append(dome + edge)
    body.add_limb(draws, (0, hem - 850), -90, 150)
    half = body.units(draws.between(THINNEST, THICKEST)) // 2
    body.parts.append([(-half, 0), (half, 0), (half, 850), (-half, 850)])
    sign = draws.choice((1, -1))
    body.add_limb(draws, (0, 820), 90, draws.between(480, 640), bend=sign * 190)


def _stone(draws: Draws, body: Body) -> None:
    """No class: a lump that lies about."""
    knots = [draws.between(550, UNIT) for _ in range(12)]
    body.parts.append([polar(r, r, 30 * i) for i, r in enumerate(knots)])


def _shift(ring: Ring, by: Point) -> Ring:
    return [(x + by[0], y + by[1]) for x, y in ring]


_BUILDERS: dict[str, Callable[[Draws, Body], None]] = {
    "beetle": _beetle,
    "chair": _chair,
    "fish": _fish,
    "gear": _gear,
    "key": _key,
    "leaf": _leaf,
    "snake": _snake,
    "umbrella": _umbrella,
    "stone": _stone,
}
SHAPES = tuple(name for name in _BUILDERS if name != "stone")
"""Kinds of bodies that a class may have."""


def draw_body(draws: Draws, shape: str, length: int) -> Body:
    """Return a random body.

    Args:
        draws: source of its proportions.
        shape: one of :data:`SHAPES`, or ``"stone"``, which is none of them.
        length: of its square in pixels.
    """
    body = Body(length)
    _BUILDERS[shape](draws, body)
    return body
