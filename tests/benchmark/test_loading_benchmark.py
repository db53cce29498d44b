"""The benchmark of data loading refuses other samples than Detectron2's, and data given by half."""

from maskrcnn_repro.benchmark import loading
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


@pytest.mark.slow
def test_two_rounds_of_the_generated_set(capsys):
    assert benchmark(["loading", "--rounds", "2", "--count", "2"]) == 0
    assert "of the values differ, by at most 1" in capsys.readouterr().out
