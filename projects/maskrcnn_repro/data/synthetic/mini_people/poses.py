"""Random poses of a body: its joints in space, and their projection to the image.

All in integers (see :mod:`maskrcnn_repro.data.synthetic.draws`). A standing body is UNIT high. Axes of the
body: x to its left, y down, z forward; the origin is between the hips. Axes of the image: x to the right, y
down, depth towards the viewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maskrcnn_repro.data.synthetic.draws import ONE, Draws, cosine, sine

Vector = tuple[int, int, int]
"""x, y, z on the body's axes, or x, y, depth on those of the image."""

UNIT = 1000
"""Height of a body."""

SIDES = {"left": 1, "right": -1}
"""Side -> sign of its x on the body's axes."""

_SPINE, _HEAD = 300, 430
_HIP, _SHOULDER = 75, 118
_THIGH, _SHIN, _FOOT = 235, 225, 75
_UPPER_ARM, _FOREARM = 165, 155

# x, y, z from the centre of the head.
_HEAD_SPOTS = {"nose": (0, 22, 96), "face": (0, 16, 42), "hair": (0, -12, -8)}
_EYE, _EAR = (36, -2, 84), (86, 14, 8)


@dataclass(frozen=True)
class Limb:
    """Angles of an arm or a leg in degrees; with all 0 it hangs straight down."""

    swing: int
    """Forwards."""
    spread: int
    """Away from the body, to its own side."""
    bend: int
    """Of the elbow (forwards) or the knee (backwards)."""
    sideways: bool = False
    """Whether the elbow bends away from the body instead."""


@dataclass(frozen=True)
class Pose:
    """All angles of a body."""

    arms: dict[str, Limb]
    """By side."""
    legs: dict[str, Limb]
    lean: int
    """Degrees by which the trunk leans forwards."""


def draw_pose(draws: Draws) -> Pose:
    """Return a random pose: standing, walking, waving, ..."""
    return draws.choice(_KINDS)(draws)


def joints(pose: Pose) -> dict[str, Vector]:
    """Return the points of a body by name, on the body's axes.

    These are COCO's keypoints, the centres of ``head``, ``face`` and ``hair``, ``neck`` and both toes.
    """
    up = (0, -cosine(pose.lean), sine(pose.lean))
    neck, head = _along((0, 0, 0), up, _SPINE), _along((0, 0, 0), up, _HEAD)
    points = {"neck": neck, "head": head}
    points |= {name: _plus(head, spot) for name, spot in _HEAD_SPOTS.items()}
    for side, sign in SIDES.items():
        for name, (x, y, z) in (("eye", _EYE), ("ear", _EAR)):
            points[f"{side}_{name}"] = _plus(head, (sign * x, y, z))
        limbs = _arm(neck, pose.arms[side], sign) | _leg(pose.legs[side], sign)
        points |= {f"{side}_{name}": point for name, point in limbs.items()}
    return points


def _arm(neck: Vector, arm: Limb, sign: int) -> dict[str, Vector]:
    shoulder = _plus(neck, (sign * _SHOULDER, 12, 0))
    elbow = _along(shoulder, _direction(arm.swing, arm.spread, sign), _UPPER_ARM)
    swing, spread = arm.swing, arm.spread
    if arm.sideways:
        spread += arm.bend
    else:
        swing += arm.bend
    wrist = _along(elbow, _direction(swing, spread, sign), _FOREARM)
    return {"shoulder": shoulder, "elbow": elbow, "wrist": wrist}


def _leg(leg: Limb, sign: int) -> dict[str, Vector]:
    hip = (sign * _HIP, 0, 0)
    knee = _along(hip, _direction(leg.swing, leg.spread, sign), _THIGH)
    shin = leg.swing - leg.bend
    ankle = _along(knee, _direction(shin, leg.spread, sign), _SHIN)
    # The foot points forwards, at a right angle to the shin.
    toe = _along(ankle, (0, -sine(shin), cosine(shin)), _FOOT)
    return {"hip": hip, "knee": knee, "ankle": ankle, "toe": toe}


def view(point: Vector, yaw: int, roll: int) -> Vector:
    """Project a point of the body: return x, y and depth in the image.

    Args:
        point: on the body's axes.
        yaw: rotation of the body in degrees: with 0 it faces the viewer, with 90 the right of the image.
        roll: clockwise rotation in the image, degrees.
    """
    x, y, z = point
    across = (x * cosine(yaw) + z * sine(yaw)) // ONE
    depth = (z * cosine(yaw) - x * sine(yaw)) // ONE
    return (
        (across * cosine(roll) - y * sine(roll)) // ONE,
        (across * sine(roll) + y * cosine(roll)) // ONE,
        depth,
    )


def _direction(swing: int, spread: int, sign: int) -> Vector:
    """Return a direction of length ONE."""
    return (
        sign * sine(spread),
        cosine(spread) * cosine(swing) // ONE,
        cosine(spread) * sine(swing) // ONE,
    )


def _along(start: Vector, direction: Vector, length: int) -> Vector:
    return _plus(start, tuple(part * length // ONE for part in direction))


def _plus(a: Vector, b: tuple[int, ...]) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


# --- kinds of poses


def _hanging_arm(draws: Draws) -> Limb:
    return Limb(draws.between(-25, 30), draws.between(6, 25), draws.between(0, 50))


def _raised_arm(draws: Draws) -> Limb:
    return Limb(0, draws.between(75, 150), draws.between(0, 70), sideways=True)


def _standing_leg(draws: Draws) -> Limb:
    return Limb(draws.between(-8, 8), draws.between(1, 12), draws.between(0, 8))


def _stand(draws: Draws) -> Pose:
    return Pose(
        {side: _hanging_arm(draws) for side in SIDES},
        {side: _standing_leg(draws) for side in SIDES},
        draws.between(-4, 8),
    )


def _walk(draws: Draws) -> Pose:
    stride, first = draws.between(15, 45), draws.choice((1, -1))
    arms, legs = {}, {}
    for side, sign in SIDES.items():
        ahead = sign * first * stride
        arms[side] = Limb(
            -ahead + draws.between(-8, 8), draws.between(4, 15), draws.between(10, 90)
        )
        knee = draws.between(0, 25) if ahead > 0 else draws.between(10, 70)
        legs[side] = Limb(ahead, draws.between(0, 6), knee)
    return Pose(arms, legs, draws.between(0, 20))


def _wave(draws: Draws) -> Pose:
    base, side = _stand(draws), draws.choice(tuple(SIDES))
    return Pose({**base.arms, side: _raised_arm(draws)}, base.legs, base.lean)


def _cheer(draws: Draws) -> Pose:
    base = _stand(draws)
    return Pose({side: _raised_arm(draws) for side in SIDES}, base.legs, base.lean)


def _star(draws: Draws) -> Pose:
    arms = {
        side: Limb(0, draws.between(50, 140), draws.between(0, 15), sideways=True) for side in SIDES
    }
    legs = {side: Limb(0, draws.between(15, 40), draws.between(0, 15)) for side in SIDES}
    return Pose(arms, legs, 0)


def _reach(draws: Draws) -> Pose:
    arms = {
        side: Limb(draws.between(40, 120), draws.between(0, 20), draws.between(0, 40))
        for side in SIDES
    }
    return Pose(arms, {side: _standing_leg(draws) for side in SIDES}, draws.between(0, 35))


def _crouch(draws: Draws) -> Pose:
    legs = {}
    for side in SIDES:
        thigh = draws.between(40, 95)
        legs[side] = Limb(thigh, draws.between(4, 25), thigh + draws.between(-10, 30))
    return Pose({side: _hanging_arm(draws) for side in SIDES}, legs, draws.between(5, 40))


def _kick(draws: Draws) -> Pose:
    base, side = _stand(draws), draws.choice(tuple(SIDES))
    leg = Limb(draws.between(35, 85), draws.between(0, 20), draws.between(0, 25))
    arms = {
        s: Limb(draws.between(-30, 30), draws.between(30, 80), draws.between(0, 40)) for s in SIDES
    }
    return Pose(arms, {**base.legs, side: leg}, draws.between(-15, 5))


_KINDS: tuple[Callable[[Draws], Pose], ...] = (
    _stand, _stand, _walk, _walk, _wave, _cheer, _star, _reach, _crouch, _kick,
)  # fmt: skip
