"""The benchmark of scaling: its points, table and plot; the measurements themselves are no test."""

from dataclasses import asdict

from maskrcnn_repro.benchmark import scaling

import pytest

from tests.helpers.commands import benchmark


def results():
    """Made up: ours takes as many seconds as the place of its point says."""
    return [
        {
            "axis": axis,
            "point": asdict(point),
            "path": "fused float32",
            "detections": [100] * point.batch,
            "seconds": [float(place)],
            "median_seconds": float(place),
            "peak_memory": 2**30,
            "dearest": {"operator": "aten::linear", "share": 0.25},
        }
        for place, (axis, point) in enumerate(scaling.points(quick=True, threads=1), start=1)
    ]


def test_along_an_axis_one_property_varies():
    base = asdict(scaling.Point("ours", threads=2))
    values: dict[str, list[int]] = {}
    for axis, point in scaling.points(quick=False, threads=2):
        changed = {key for key, value in asdict(point).items() if value != base[key]}
        assert changed - {"contestant"} <= (
            {"height", "width"} if axis == "image height" else {axis.lower()}
        )
        if point.contestant == "ours":
            values.setdefault(axis, []).append(
                scaling.value_of({"axis": axis, "point": asdict(point)})
            )
    assert values == {
        "image height": [400, 800, 1200],
        "RoIs": [100, 300, 1000, 2000],
        "classes": [80, 1203],
        "batch": [1, 2, 4],
        "processes": [1, 2],
    }


def test_images_per_second_count_batch_and_processes():
    lines = scaling.table(results()).splitlines()
    assert len(lines) == 2 + 14
    [pair] = [line for line in lines if line.startswith("processes") and line.split()[1] == "2"]
    assert pair.split()[5:8] == ["14.00", "s", "0.14"]
    assert pair.endswith("aten::linear 25%")


@pytest.mark.parametrize("name", ["plot.svg", pytest.param("plot.png", marks=pytest.mark.slow)])
def test_the_plot_is_one_picture(tmp_path, name):
    scaling.draw(results(), tmp_path / name)
    head = (tmp_path / name).read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if name.endswith("png") else b"<?xml" in head


def test_another_picture_is_refused(capsys):
    assert benchmark(["scaling", "--plot", "plot.gif"]) == 2
    expected = "Error: --plot is plot.gif; its ending must be .svg or .png.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.slow
def test_a_point_of_two_processes():
    point = scaling.Point("ours", height=128, width=160, rois=50, processes=2)
    result = scaling.measure(point, rounds=1)
    assert result["median_seconds"] > 0
    assert result["peak_memory"] > 2**27
    assert 0 < result["dearest"]["share"] <= 1
