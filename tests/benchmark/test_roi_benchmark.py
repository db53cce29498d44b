"""The RoI benchmark: its scenes, what it times, its tables; the measurements themselves are no test."""

import os
import subprocess
import sys

from maskrcnn_repro.benchmark import roi_memory, roi_ops, roi_scenes
from maskrcnn_repro.benchmark.roi_scenes import OPERATIONS, Scene

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.commands import benchmark

TINY = Scene(channels=4, strides=(32, 64), rois=6, cells=2)


def test_scenes_are_the_papers():
    names = [scene.name for scene in roi_scenes.PAPER]
    assert names[0] == "C4 64 RoIs 7x7"
    assert names[-1] == "P2-5 100 RoIs 14x14"
    assert len(set(names)) == 6
    assert [
        tuple(feature_map.shape) for feature_map in roi_scenes.random_maps(roi_scenes.C4[0])
    ] == [(1, 1024, 50, 84)]
    shapes = [
        tuple(feature_map.shape[2:]) for feature_map in roi_scenes.random_maps(roi_scenes.FPN[0])
    ]
    assert shapes == [(200, 336), (100, 168), (50, 84), (25, 42)]
    assert {scene.rois for scene in roi_scenes.COUNTS} == {16, 64, 250, 1000}
    assert set(roi_scenes.QUICK) <= set(roi_scenes.PAPER)


def test_rois_lie_in_the_image_on_the_level_of_their_size():
    levels = roi_scenes.random_rois(roi_scenes.FPN[0])
    assert sum(map(len, levels)) == 512
    rois = torch.cat(levels)
    height, width = roi_scenes.IMAGE
    assert rois[:, 1:].min() >= 0
    assert (rois[:, 3:] <= torch.tensor([width, height])).all()
    sides = [((r[:, 3] - r[:, 1]) * (r[:, 4] - r[:, 2])).sqrt() for r in levels]
    assert all(len(side) > 20 for side in sides)
    assert sides[0].max() < 112 <= sides[1].min()
    assert sides[2].max() < 448 <= sides[3].min()


def test_all_contenders_pool_the_same_samples():
    ways = ("channels-last", "bfloat16", "contiguous")
    pooling_of = roi_scenes.poolings(TINY, OPERATIONS, ways)
    assert len(pooling_of) == 3 + 5 * 3
    for operation in ("RoIAlignAve", "RoIAlignMax", "RoIPool"):
        reference = pooling_of[roi_scenes.reference_of(operation)]
        for way in ways:
            ours = pooling_of[f"{operation} {way}"]
            for mine, theirs in zip(ours.work, reference.work, strict=True):
                out, expected = mine[0](*mine[1:]), theirs[0](*theirs[1:])
                tolerance = 2e-2 if way == "bfloat16" else 1e-4
                assert_close(out.float(), expected, rtol=tolerance, atol=tolerance)


def test_one_scene_from_measurement_to_table():
    ways = ("channels-last", "bfloat16", "contiguous")
    result = roi_ops.measure(TINY, OPERATIONS, ways, rounds=2)
    assert len(result["seconds"]["roi_align"]["step"]) == 2
    assert result["seconds"]["RoIPool bfloat16"]["step"] == []
    ratio = result["ratios"]["RoIPool"]["channels-last step"]
    assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
    names = [*map(roi_scenes.reference_of, OPERATIONS), *result["seconds"]]
    peaks = {name: {"forward": 100, "step": 200} for name in names}
    peaks["RoIPool channels-last"] = {"forward": 125, "step": 210}
    text = roi_ops.table({TINY.name: result}, {TINY.name: peaks})
    assert len(text.splitlines()) == 3 + 5
    assert text.splitlines()[-1].split()[-2:] == ["1.25", "1.00"]
    assert text.splitlines()[0].endswith("ours / theirs")
    assert "RoIAlignMax" in roi_ops.contiguous_table({TINY.name: result})
    assert roi_ops.table({TINY.name: result}, {}).splitlines()[-1].endswith("]")


HOLD = """
import torch
from maskrcnn_repro.benchmark.roi_memory import extra_bytes

def hold():
    first = torch.ones(16 << 20, dtype=torch.uint8)
    del first
    torch.ones(48 << 20, dtype=torch.uint8)

hold()
print(extra_bytes(hold))
"""


@pytest.mark.slow
@pytest.mark.skipif(not roi_memory.can_measure(), reason="the system tells no peak of memory")
def test_extra_memory_is_what_is_held_at_the_highest():
    # In a process of its own, as in the benchmark: this one keeps freed memory and would reuse it.
    environment = {**os.environ, **roi_memory.ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOLD],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 46 << 20 < int(done.stdout) < 60 << 20


def test_messages(capsys):
    assert benchmark(["roi-ops", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")
