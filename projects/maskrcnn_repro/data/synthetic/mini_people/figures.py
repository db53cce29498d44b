"""A human figure as thick strokes between its joints, with clothes and a face, its parts sorted by depth.

Positions in the image are integers in EIGHTHS of a pixel, depths in UNITs of the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people.poses import (
    SIDES,
    UNIT,
    Vector,
    draw_pose,
    joints,
    view,
)
from maskrcnn_repro.data.synthetic.textures import Colour, colour_unlike

EIGHTHS = 8

TORSO, HEAD = 1, 2
ARMS = {"left": 3, "right": 4}
LEGS = {"left": 5, "right": 6}
"""Numbers of the body parts; a part is in front of another, or behind it, as a whole."""

CHARTS = (
    "torso", "head", "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm",
    "left_thigh", "right_thigh", "left_shin", "right_shin", "left_foot", "right_foot",
)  # fmt: skip
"""Pieces of the surface; the first is chart 1."""

_SKIN = (
    (241, 199, 166), (224, 172, 130), (198, 134, 90), (150, 98, 64), (104, 66, 44), (255, 214, 186),
)  # fmt: skip
_HAIR = ((38, 28, 24), (82, 54, 34), (140, 92, 48), (212, 176, 96), (120, 46, 28), (150, 150, 152))
_EYES, _SHOES = (25, 25, 35), (40, 36, 40)
# Limits, in degrees to either side, of the rotation from facing the viewer and of the tilt in the image.
_TURN, _TILT = 60, 15
# Least radius of a stroke and of an eye, and least width of a seam: small figures must not fall apart.
_THIN, _DOT, _SEAM = 8, 5, 5


@dataclass(frozen=True)
class Stroke:
    """A thick line with round ends; a disc if the ends are the same."""

    start: tuple[int, int]
    end: tuple[int, int]
    radius: int
    """In EIGHTHS of a pixel."""
    colour: Colour
    is_cloth: bool = False
    chart: int = 0
    """The piece of the surface that it shows, see CHARTS."""


@dataclass(frozen=True)
class Figure:
    """A body as seen by the viewer, if nothing occludes it."""

    size: int
    """Height of the standing body in pixels."""
    joints: dict[str, Vector]
    """x, y and depth of COCO's keypoints and of some further points."""
    parts: list[tuple[int, list[Stroke]]]
    """Number and strokes of each part, from back to front."""
    seam: int
    """Width of the dark outline of each part, in EIGHTHS of a pixel; it belongs to the part."""
    yaw: int = 0
    """Degrees by which the body is turned to the right of the image."""

    def depth(self, name: str) -> int:
        """Return how far a joint is in front of the body's middle axis, negative behind it."""
        middle = {"nose": "head", "eye": "head", "ear": "head", "shoulder": "neck"}
        reference = middle.get(name.rpartition("_")[2])
        return self.joints[name][2] - (self.joints[reference][2] if reference else 0)


@dataclass(frozen=True)
class _Clothes:
    skin: Colour
    hair: Colour
    shirt: Colour
    sleeve: dict[str, Colour]
    leg: dict[str, Colour]
    short_sleeves: bool
    short_legs: bool


def draw_figure(draws: Draws, size: int, foot: tuple[int, int], ground: Colour) -> Figure:
    """Return a random figure.

    Args:
        draws: source of pose, view and colours.
        size: height of the standing body in pixels.
        foot: column of the middle of its hips, and row of its lowest joint, in EIGHTHS of a pixel.
        ground: colour of the background.
    """
    yaw, roll = draws.between(-_TURN, _TURN), draws.between(-_TILT, _TILT)
    scale = size * EIGHTHS
    viewed = {name: view(point, yaw, roll) for name, point in joints(draw_pose(draws)).items()}
    lowest = max(y for _, y, _ in viewed.values())
    points = {
        name: (foot[0] + x * scale // UNIT, foot[1] + (y - lowest) * scale // UNIT, depth)
        for name, (x, y, depth) in viewed.items()
    }
    figure = Figure(size, points, [], max(_SEAM, 9 * scale // UNIT), yaw)
    figure.parts.extend(_parts(figure, _clothes(draws, ground)))
    return figure


def _clothes(draws: Draws, ground: Colour) -> _Clothes:
    colours: list[Colour] = []
    for _ in range(5):
        colours.append(colour_unlike(draws, ground, colours))
    return _Clothes(
        skin=draws.choice(_SKIN),
        hair=draws.choice(_HAIR),
        shirt=colours[0],
        # Left and right differ, but no colour stands for left: a mirrored image would contradict it.
        sleeve=dict(zip(SIDES, colours[1:3], strict=True)),
        leg=dict(zip(SIDES, colours[3:], strict=True)),
        short_sleeves=draws.one_in(3),
        short_legs=draws.one_in(4),
    )


def _parts(figure: Figure, clothes: _Clothes) -> list[tuple[int, list[Stroke]]]:
    points = figure.joints
    # Depth, number, strokes. The head is in front of the torso unless it leans away; shirts hang over trousers.
    parts = [
        (-15, TORSO, _torso(figure, clothes)),
        (points["head"][2] // 2, HEAD, _head(figure, clothes)),
    ]
    for side in SIDES:
        arm = (points[f"{side}_elbow"][2] + points[f"{side}_wrist"][2]) // 2
        leg = (points[f"{side}_knee"][2] + points[f"{side}_ankle"][2]) // 2
        parts.append((arm, ARMS[side], _arm(figure, clothes, side)))
        parts.append((leg - 40, LEGS[side], _leg(figure, clothes, side)))
    parts.sort(key=lambda part: part[0])
    return [(number, strokes) for _, number, strokes in parts]


def _charted(strokes: list[Stroke], *charts: str) -> list[Stroke]:
    """Return the strokes of a part with their charts; the last one is that of all further strokes."""
    numbers = [CHARTS.index(name) + 1 for name in charts]
    numbers += [numbers[-1]] * (len(strokes) - len(numbers))
    return [replace(stroke, chart=n) for stroke, n in zip(strokes, numbers, strict=True)]


def _stroke(
    figure: Figure, ends: tuple[str, str], radius: int, colour: Colour, is_cloth: bool = True
) -> Stroke:
    start, end = (figure.joints[name][:2] for name in ends)
    return Stroke(start, end, _pixels(figure, radius, _THIN), colour, is_cloth)


def _disc(figure: Figure, name: str, radius: int, colour: Colour, least: int = _THIN) -> Stroke:
    centre = figure.joints[name][:2]
    return Stroke(centre, centre, _pixels(figure, radius, least), colour)


def _pixels(figure: Figure, units: int, least: int) -> int:
    return max(least, units * figure.size * EIGHTHS // UNIT)


def _torso(figure: Figure, clothes: _Clothes) -> list[Stroke]:
    def between(name: str, share: int) -> tuple[int, int]:
        """Return the point ``share`` percent of the way from the left joint to the right one."""
        a, b = figure.joints[f"left_{name}"], figure.joints[f"right_{name}"]
        return a[0] + (b[0] - a[0]) * share // 100, a[1] + (b[1] - a[1]) * share // 100

    radius = _pixels(figure, 52, _THIN)
    strokes = [
        Stroke(between("shoulder", top), between("hip", hem), radius, clothes.shirt, True)
        for top, hem in ((18, 12), (82, 88), (50, 50))
    ]
    return _charted(strokes, "torso")


def _arm(figure: Figure, clothes: _Clothes, side: str) -> list[Stroke]:
    shoulder, elbow, wrist = (f"{side}_{name}" for name in ("shoulder", "elbow", "wrist"))
    bare, sleeve = clothes.short_sleeves, clothes.sleeve[side]
    strokes = [
        _stroke(figure, (wrist, wrist), 36, clothes.skin, is_cloth=False),
        _stroke(figure, (elbow, wrist), 31, clothes.skin if bare else sleeve, is_cloth=not bare),
        _stroke(figure, (shoulder, elbow), 38, sleeve),
    ]
    forearm = f"{side}_forearm"
    return _charted(strokes, forearm, forearm, f"{side}_upper_arm")


def _leg(figure: Figure, clothes: _Clothes, side: str) -> list[Stroke]:
    hip, knee, ankle, toe = (f"{side}_{name}" for name in ("hip", "knee", "ankle", "toe"))
    bare, cloth = clothes.short_legs, clothes.leg[side]
    strokes = [
        _stroke(figure, (ankle, toe), 30, _SHOES),
        _stroke(figure, (knee, ankle), 38, clothes.skin if bare else cloth, is_cloth=not bare),
        _stroke(figure, (hip, knee), 50, cloth),
    ]
    return _charted(strokes, *(f"{side}_{name}" for name in ("foot", "shin", "thigh")))


def _head(figure: Figure, clothes: _Clothes) -> list[Stroke]:
    skin = clothes.skin
    ears = {f"{side}_ear": _disc(figure, f"{side}_ear", 24, skin) for side in SIDES}
    # An ear on the far side of the head is not drawn.
    before = [ear for name, ear in ears.items() if figure.depth(name) > 40]
    beside = [ear for name, ear in ears.items() if -40 <= figure.depth(name) <= 40]
    neck = _stroke(figure, ("neck", "head"), 34, skin, is_cloth=False)
    hair, face = _disc(figure, "hair", 92, clothes.hair), _disc(figure, "face", 70, skin)
    shade = (skin[0] * 3 // 4, skin[1] * 3 // 5, skin[2] * 3 // 5)
    nose = _disc(figure, "nose", 17, shade, _DOT)
    eyes = [_disc(figure, f"{side}_eye", 13, _EYES, _DOT) for side in SIDES]
    return _charted([neck, *beside, hair, face, *before, nose, *eyes], "head")
