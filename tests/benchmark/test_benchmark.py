"""Recipes and statistics of the benchmarks; the measurements themselves are no test."""

from maskrcnn_repro.benchmark import backend, evaluation, models, recipe, scenes, start
from maskrcnn_repro.benchmark.contest import summary
from maskrcnn_repro.benchmark.statistics import check_rounds, ratio_of_medians
from maskrcnn_repro.errors import ConfigError

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.commands import benchmark

NAMES = backend.WORKERS
# In units of 2**-15, on every machine.
NUMBERS = [-23874.0, -12541.0, 22643.0, -32392.0, 10155.0]


def built(embedded_detections=80, embedded_scores=12.0):
    workers = {name: {"detections": 80, "score_sum": 12.0} for name in NAMES}
    workers["embedded"] = {"detections": embedded_detections, "score_sum": embedded_scores}
    return workers


def test_numbers_depend_on_the_name_alone():
    numbers = recipe.uniform("0:conv1.weight", 5)
    assert (numbers * 2**15).tolist() == NUMBERS
    assert recipe.uniform("0:conv1.weight", 3).tolist() == numbers[:3].tolist()
    assert recipe.uniform("1:conv1.weight", 5).tolist() != numbers.tolist()


def test_weights_keep_the_second_moment():
    weights = recipe.values("fc.weight", (400, 300))
    assert np.square(weights).mean() == pytest.approx(2 / 300, rel=0.02)
    assert recipe.values("fc.weight", (400, 300), gain=3.0) == pytest.approx(3 * weights)
    variances = recipe.values("norm.running_var", (1000,))
    assert 0.8 <= variances.min() < 0.85
    assert 1.15 < variances.max() <= 1.2


def test_fill_leaves_integers_and_multiplies_gains():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    recipe.fill(model, {"0.": 2.0, "0.bias": 5.0})
    assert model[1].num_batches_tracked == 0
    expected = recipe.values("0.bias", (3,), gain=10.0)
    assert torch.equal(model[0].bias, torch.from_numpy(expected))


def test_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"'R50-FPM' is not one of R50-C4, .* Did you mean 'R50-FPN"
    ):
        models.config("R50-FPM")


def test_scene_holds_its_objects():
    scene = scenes.scene(2, 90, 120, objects=6)
    assert scene.image.shape == (3, 90, 120)
    assert (scene.boxes[:, :2] >= 0).all()
    assert (scene.boxes[:, 2:] <= [120, 90]).all()
    for box, polygon, points in zip(scene.boxes, scene.polygons, scene.keypoints, strict=True):
        corners = np.array(polygon).reshape(-1, 2)
        assert [*corners.min(axis=0), *corners.max(axis=0)] == box.tolist()
        seen = points[points[:, 2] > 0]
        assert len(seen) == 11
        assert (seen[:, :2] >= box[:2]).all()
        assert (seen[:, :2] <= box[2:]).all()


def test_ratio_of_paired_rounds():
    # A round that is slow for both leaves the ratio exact.
    exact = ratio_of_medians([2.0, 4.0, 20.0], [1.0, 2.0, 10.0])
    assert (exact.value, exact.low, exact.high) == (2.0, 2.0, 2.0)
    noisy = ratio_of_medians([1.0, 1.1, 0.9, 1.2, 1.0], [1.0, 0.9, 1.1, 1.0, 1.2])
    assert noisy.low < noisy.value == 1.0 < noisy.high
    with pytest.raises(ValueError, match="2 timings cannot be paired with 1"):
        ratio_of_medians([1.0, 2.0], [1.0])


def test_rounds_whose_quartiles_say_nothing_are_refused():
    # Of two rounds that differ by half, the quartiles look steady.
    ratio = summary([0.75, 1.15], [1.0, 1.0])["ratio"]
    assert ratio == pytest.approx({"value": 0.95, "low": 0.85, "high": 1.05})
    for rounds in (1, 2, 4):
        with pytest.raises(backend.BenchmarkError, match=f"--rounds is {rounds}; .* at least 5"):
            check_rounds(rounds)
    check_rounds(5)


def test_every_worker_is_first_as_often():
    orders = [backend.rotate(NAMES, turn) for turn in range(3)]
    assert sorted(order[0] for order in orders) == sorted(NAMES)
    assert all(sorted(order) == sorted(NAMES) for order in orders)


def test_backends_that_differ_are_refused():
    backend.check_same(built())
    with pytest.raises(backend.BenchmarkError, match="embedded worker finds 79 objects"):
        backend.check_same(built(embedded_detections=79))
    with pytest.raises(backend.BenchmarkError, match=r"12\.0500"):
        backend.check_same(built(embedded_scores=12.05))


def test_few_detections_are_refused():
    few = {name: {"detections": 9, "score_sum": 1.0} for name in NAMES}
    with pytest.raises(backend.BenchmarkError, match="Only 9 detections, 50 are needed"):
        backend.check_same(few)


def test_table_shows_medians_and_intervals():
    timed = backend.summary(dict(zip(NAMES, ([1.0, 3.0], [1.0, 3.0], [2.0, 6.0]), strict=True)))
    memory = {"bytes": dict.fromkeys(NAMES, 2**30), "ratio": 1.0, "itself": 1.0}
    text = backend.table({"R50-FPN": {"train": timed, "infer": timed, "peak_memory": memory}})
    assert "2.000 s      4.000 s     2.000 [2.000, 2.000]" in text
    assert "1024 MiB" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backend", "--pairs", "4"], "--pairs is 4; it must be at least 5"),
        (["backend", "--installed", "/no/such/python"], "Cannot start /no/such/python: No such"),
        (["evaluation", "--installed", "/no/such/python"], "Cannot start /no/such/python: No such"),
        (["start", "--installed", "/no/such/python"], "Cannot start /no/such/python: No such"),
        (["start", "--rounds", "4"], "--rounds is 4; it must be at least 5"),
        (["evaluation", "--rounds", "4"], "--rounds is 4; it must be at least 5"),
        (["loading", "--rounds", "4"], "--rounds is 4; it must be at least 5"),
    ],
)
def test_mistakes_are_told_before_anything_is_timed(words, message, capsys, monkeypatch):
    for module, timing in ((start, "_seconds"), (evaluation, "Contest")):
        monkeypatch.setattr(module, timing, lambda *_: pytest.fail("timed"))
    assert benchmark(words) == 2
    assert capsys.readouterr().err.startswith(f"Error: {message}")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("backend", "--pairs"),
        ("backend", "--size"),
        ("backend", "--threads"),
        ("inference", "--threads"),
        ("training", "--size"),
        ("predict", "--count"),
        ("predict", "--threads"),
        ("roi-ops", "--rounds"),
        ("roi-ops", "--threads"),
        ("paste", "--masks"),
        ("paste", "--threads"),
        ("scaling", "--rounds"),
        ("scaling", "--threads"),
        ("loading", "--count"),
        ("loading", "--start"),
        ("loading", "--workers"),
        ("evaluation", "--images"),
        ("evaluation", "--detections"),
        ("heads", "--threads"),
    ],
)
@pytest.mark.parametrize("number", ["0", "-5"])
def test_sizes_and_counts_are_positive(name, option, number, capsys):
    assert benchmark([name, option, number, *(["800"] if option == "--size" else [])]) == 2
    assert f"argument {option}: {number!r} is no number from 1 upwards" in capsys.readouterr().err


def test_output_is_refused_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").touch()
    # With fewer pairs than an interval needs: what is told first is tried first.
    for output, told in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "out.json", "File exists"),
    ):
        assert benchmark(["backend", "--pairs", "1", "--output", str(output)]) == 2
        assert capsys.readouterr().err.startswith(f"Error: {output} cannot be written: {told}")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file"]
