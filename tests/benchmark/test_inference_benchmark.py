"""The benchmark of inference: who takes part, what counts as the same work, how ratios are formed."""

from maskrcnn_repro.benchmark import inference
from maskrcnn_repro.benchmark.contest import summary

import pytest

from tests.helpers.commands import benchmark

BOXES = [[0.0, 0.0, 9.0, 9.0]] * 100


def facts(**changes):
    same = {"detections": [100], "masks": [[100, 60, 80]], "boxes": BOXES, "scores": [0.5] * 100}
    names = ("ours", "ours, float32", "ours, plain", "torchvision")
    return {name: same | changes.get(name, {}) for name in names}


def test_ratios_are_those_of_the_rounds():
    # Rounds of 2, 4 and 3: a slow round of both leaves its ratio.
    result = summary([2.0, 40.0, 3.0], [1.0, 10.0, 1.0])
    assert result["ratio"] == {"value": 3.0, "low": 2.5, "high": 3.5}
    assert result["median_seconds"] == 3.0


def test_only_float32_takes_part_with_fewer_instructions():
    one = [[800, 1088]]
    names = inference.contestants("R50-FPN", one, installed=True, isa="AVX2")
    assert names == ["ours, float32", "ours, plain", "torchvision", "Detectron2"]
    names = inference.contestants("R50-C4", one, installed=False, isa=None)
    assert names == ["ours", "ours, bitmaps", "ours, float32", "ours, plain"]


def test_torchvision_takes_part_where_it_resizes_no_image():
    names = [
        inference.contestants("R50-FPN", sizes, installed=False, isa=None)
        for sizes in ([[800, 1088], [1333, 800]], [[800, 1088], [640, 800]])
    ]
    assert ["torchvision" in present for present in names] == [True, False]


def test_a_size_is_height_and_width(capsys):
    for words in (["800"], ["800x"], ["0x800"], ["800x-1"]):
        assert benchmark(["inference", "--sizes", *words]) == 2
        assert f"{words[0]!r} is not HEIGHTxWIDTH" in capsys.readouterr().err


def test_other_work_is_refused():
    inference.check_same(facts())
    few = facts(torchvision={"detections": [99]})
    with pytest.raises(inference.BenchmarkError, match="torchvision gives 99 detections"):
        inference.check_same(few)
    moved = facts(**{"ours, float32": {"boxes": [[0.0, 0.0, 9.0, 9.02]] * 100}})
    with pytest.raises(inference.BenchmarkError, match=r"float32 differs from .*0\.02 pixels"):
        inference.check_same(moved)


def test_detections_of_equal_scores_may_change_places():
    ours = {"detections": [2, 1], "boxes": [[0, 0, 9, 9], [5, 5, 9, 9], [1, 1, 2, 2]]}
    ours["scores"] = [0.50001, 0.5, 0.7]
    theirs = ours | {"boxes": [[5, 5, 9, 9], [0, 0, 9, 9.001], [1, 1, 2, 2]]}
    boxes, scores = inference.largest_differences(ours, theirs)
    assert boxes == pytest.approx(0.001)
    assert scores == pytest.approx(1e-5)
    # Not across images.
    other = ours | {"boxes": [[1, 1, 2, 2], [5, 5, 9, 9], [0, 0, 9, 9]]}
    assert inference.largest_differences(ours, other)[0] == 7


def test_the_table_has_a_line_for_each():
    result = {"path": "fused float32", "first_seconds": 1.5, "peak_memory": 2**30}
    result |= summary([2.0, 2.0], [1.0, 1.0])
    assert "1024 MiB       2.00 [2.00, 2.00]" in inference.table({"ours": result})


def test_too_few_rounds_are_refused(capsys):
    assert benchmark(["inference", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")


@pytest.mark.slow
def test_five_rounds_of_small_images(capsys):
    words = ["--rounds", "5", "--sizes", "192x256", "224x192", "--threads", "1"]
    assert benchmark(["inference", *words]) == 0
    assert "torchvision, bfloat16" in capsys.readouterr().out
