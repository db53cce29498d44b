"""Bodies of the generated people: joints by hand, mirrored poses, strokes as pixels."""

from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS, flip_map
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people.figures import (
    ARMS,
    EIGHTHS,
    Figure,
    Stroke,
    draw_figure,
)
from maskrcnn_repro.data.synthetic.mini_people.poses import (
    UNIT,
    Limb,
    Pose,
    draw_pose,
    joints,
    view,
)
from maskrcnn_repro.data.synthetic.mini_people.rasters import render

import numpy as np
import pytest

HANGING = Limb(swing=0, spread=0, bend=0)
STRAIGHT = Pose({"left": HANGING, "right": HANGING}, {"left": HANGING, "right": HANGING}, lean=0)


def posed(**limbs):
    """A body that stands straight but for some limbs, such as ``left_arm``."""
    arms, legs = dict(STRAIGHT.arms), dict(STRAIGHT.legs)
    for name, limb in limbs.items():
        side, _, kind = name.partition("_")
        (arms if kind == "arm" else legs)[side] = limb
    return joints(Pose(arms, legs, lean=0))


def figure_of(*strokes, seam=0, part=ARMS["left"]):
    return Figure(size=10, joints={}, parts=[(part, list(strokes))], seam=seam)


def mirrored(name):
    pairs = {a: b for pair in flip_map(COCO_KEYPOINTS) for a, b in (pair, pair[::-1])}
    return pairs.get(name, name)


# --- joints


def test_straight_body_by_hand():
    body = joints(STRAIGHT)
    assert body["left_hip"] == (75, 0, 0)
    assert body["left_knee"] == (75, 235, 0)
    assert body["right_ankle"] == (-75, 460, 0)
    assert body["neck"] == (0, -300, 0)
    assert body["right_wrist"] == (-118, -300 + 12 + 165 + 155, 0)
    # From the top of the hair to the soles.
    assert -(body["hair"][1] - 92) + body["left_ankle"][1] + 30 == pytest.approx(UNIT, abs=30)


def test_limbs_bend_as_they_are_told():
    body = posed(
        left_arm=Limb(swing=0, spread=90, bend=90, sideways=True),
        right_arm=Limb(swing=0, spread=0, bend=90),
        right_leg=Limb(swing=90, spread=0, bend=90),
    )
    # Stretched out to the left, the forearm straight up; the right forearm and thigh straight ahead.
    assert body["left_elbow"] == (118 + 165, -288, 0)
    assert body["left_wrist"] == (118 + 165, -288 - 155, 0)
    assert body["right_wrist"] == (-118, -288 + 165, 155)
    assert body["right_knee"] == (-75, 0, 235)
    assert body["right_ankle"] == (-75, 225, 235)


def test_sides_appear_where_the_body_turns_them():
    left, nose = (100, 0, 0), (0, 0, 100)
    assert view(left, yaw=0, roll=0) == (100, 0, 0)  # face to face its left is on the right
    assert view(nose, yaw=0, roll=0) == (0, 0, 100)  # towards the viewer
    assert view(nose, yaw=90, roll=0) == (100, 0, 0)
    assert view(left, yaw=90, roll=0) == (0, 0, -100)  # the far side
    assert view(left, yaw=180, roll=0) == (-100, 0, 0)
    assert view(left, yaw=0, roll=90) == (0, 100, 0)  # fallen over to the right


def test_mirrored_pose_is_the_mirror_image_with_the_sides_swapped():
    draws = Draws(5)
    for _ in range(40):
        pose, yaw, roll = draw_pose(draws), draws.below(360), draws.between(-20, 20)
        swapped = Pose(
            {"left": pose.arms["right"], "right": pose.arms["left"]},
            {"left": pose.legs["right"], "right": pose.legs["left"]},
            pose.lean,
        )
        body, other = joints(pose), joints(swapped)
        for name in COCO_KEYPOINTS:
            x, y, depth = view(body[name], yaw, roll)
            twin = view(other[mirrored(name)], -yaw, -roll)
            # Each of up to five sums rounds down.
            np.testing.assert_allclose((-x, y, depth), twin, atol=5)


# --- pixels


def test_stroke_of_three_by_one_pixels():
    # From the middle of pixel (2, 5) to that of (4, 5), less than a pixel thick.
    stroke = Stroke((20, 44), (36, 44), radius=7, colour=(200, 100, 50))
    raster = render(Draws(0), figure_of(stroke))
    ys, xs = np.nonzero(raster.part)
    assert sorted(zip(xs + raster.left, ys + raster.top, strict=True)) == [(2, 5), (3, 5), (4, 5)]
    assert set(raster.part[ys, xs].tolist()) == {ARMS["left"]}


@pytest.mark.parametrize(("radius", "seam"), [(20, 0), (36, 8), (64, 5)])
def test_disc_has_the_pixels_whose_centres_it_covers(radius, seam):
    centre = 83, 90
    raster = render(Draws(0), figure_of(Stroke(centre, centre, radius, (200, 100, 50)), seam=seam))
    y, x = np.mgrid[-5:30, -5:30] * EIGHTHS + EIGHTHS // 2
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= (radius + seam) ** 2
    expected = {(int(a) - 5, int(b) - 5) for a, b in np.argwhere(inside)}
    covered = np.argwhere(raster.part) + np.array([raster.top, raster.left])
    assert {(int(a), int(b)) for a, b in covered} == expected


def test_thick_line_is_as_wide_at_every_angle():
    for end in ((800, 400), (700, 690), (410, 800), (100, 500), (0, 30)):
        raster = render(Draws(0), figure_of(Stroke((400, 400), end, 40, (9, 9, 9))))
        length = np.hypot(end[0] - 400, end[1] - 400) / EIGHTHS
        assert (raster.part > 0).sum() == pytest.approx(length * 10 + np.pi * 25, rel=0.03)


def test_later_parts_hide_earlier_ones():
    colours = (250, 0, 0), (0, 0, 250)
    dots = [Stroke((80, 80), (80, 80), 40, colour) for colour in colours]
    raster = render(Draws(0), Figure(10, {}, [(1, dots[:1]), (2, dots[1:])], seam=0))
    assert set(raster.part[raster.part > 0].tolist()) == {2}
    assert raster.image[5, 5, 2] > 200
    assert raster.image[5, 5, 0] < 20


def test_figure_stands_on_its_foot_at_its_size():
    for seed in range(20):
        figure = draw_figure(Draws(seed), 100, foot=(500, 900), ground=(90, 90, 90))
        assert max(y for _, y, _ in figure.joints.values()) == 900
        hips = [figure.joints[f"{side}_hip"][0] for side in ("left", "right")]
        assert abs(sum(hips) / 2 - 500) <= 2
        thigh = np.subtract(figure.joints["left_knee"], figure.joints["left_hip"])
        # In the image never longer than it is.
        assert np.hypot(*thigh[:2]) <= 235 * 100 * EIGHTHS / UNIT + 3


def test_figures_face_the_viewer_more_or_less_upright():
    for seed in range(60):
        joints = draw_figure(Draws(seed), 100, (500, 500), (90, 90, 90)).joints
        assert joints["nose"][2] > joints["head"][2]
        # Face to face, its left is on the right.
        for name in ("eye", "shoulder", "hip"):
            assert joints[f"left_{name}"][0] > joints[f"right_{name}"][0]
        assert joints["head"][1] < joints["neck"][1]


def test_left_and_right_limbs_differ_in_colour():
    for seed in range(30):
        parts = dict(draw_figure(Draws(seed), 80, (500, 500), (90, 90, 90)).parts)
        left, right = (np.array(parts[ARMS[side]][-1].colour) for side in ("left", "right"))
        assert np.abs(left - right).sum() > 40
