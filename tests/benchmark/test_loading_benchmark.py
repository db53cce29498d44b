"""The benchmark of data loading refuses other samples than Detectron2's, and data given by half."""

import json

from maskrcnn_repro.benchmark import loading, loading_start
from maskrcnn_repro.benchmark.loading_worker import FAST, OURS, PEER

import pytest

from tests.helpers.commands import benchmark


def facts(theirs=("a", "b"), far=0.0):
    fast = {"changed": 0.002, "largest": 1, "far": far}
    return {OURS: {"samples": ["a", "b"]}, PEER: {"samples": list(theirs)}, FAST: fast}


def test_other_samples_are_refused():
    assert loading.check_same(facts()) == (0.002, 1)
    with pytest.raises(loading.BenchmarkError, match="1 of 2 samples are not Detectron2's"):
        loading.check_same(facts(theirs=("a", "c")))
    with pytest.raises(loading.BenchmarkError, match=r"2\.00e-03 of the values by more than 1"):
        loading.check_same(facts(far=0.002))


def test_a_file_without_its_images_is_refused(capsys):
    assert benchmark(["loading", "--json", "x.json"]) == 2
    expected = "Error: --json and --images go together: a COCO JSON and its images.\n"
    assert capsys.readouterr().err == expected


def test_simulated_annotations_have_the_proportions_of_train2017(tmp_path):
    # 3 * 860,001 / 118,287 = 21.8
    assert loading_start.write(tmp_path / "a.json", 3) == 22
    content = json.loads((tmp_path / "a.json").read_text())
    annotations = content["annotations"]
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert [each["id"] for each in annotations] == [*range(1, 23)]
    assert [each["image_id"] for each in annotations].count(1) == 8
    assert all(len(each["segmentation"][0]) == 48 for each in annotations)
    assert 480 < len(json.dumps(annotations)) / 22 < 560


@pytest.mark.slow
def test_the_start_of_a_training_tells_seconds_and_memory(tmp_path, capsys):
    words = ["--start", "50", "--workers", "2", "--output", str(tmp_path / "a.json")]
    assert benchmark(["loading", *words]) == 0
    assert "50 images with 364 objects" in capsys.readouterr().out
    start = json.loads((tmp_path / "a.json").read_text())["start"]
    assert len(start["own"]) == 2
    assert start["main"] < start["together"]


@pytest.mark.slow
def test_five_rounds_of_the_generated_set(capsys):
    assert benchmark(["loading", "--rounds", "5", "--count", "2"]) == 0
    assert "of the values differ, by at most 1" in capsys.readouterr().out
