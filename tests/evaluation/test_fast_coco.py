"""COCO's evaluation in compiled code has pycocotools' numbers."""

import gc

from maskrcnn_repro.benchmark import evaluation
from maskrcnn_repro.benchmark.evaluation_worker import Bench, Task
from maskrcnn_repro.utils.collection import collected_later

import pytest


def test_numbers_are_pycocotools():
    numbers = {}
    for name in ("ours", "pycocotools"):
        bench = Bench(Task(name, images=12, detections=150))
        assert bench.bbox() > 0
        assert bench.segm() > 0
        numbers[name] = bench.numbers()
    assert 0 < numbers["ours"]["segm"][0] < 1
    assert evaluation.check_same(numbers) <= evaluation.TOLERANCE


def test_other_numbers_are_refused():
    numbers = {"ours": {"bbox": [0.5, 0.25]}, "pycocotools": {"bbox": [0.5, 0.26]}}
    with pytest.raises(evaluation.BenchmarkError, match=r"ours differs .* by 0\.01 in bbox"):
        evaluation.check_same(numbers)


def test_garbage_is_collected_again_after_an_error():
    with collected_later():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collected_later():
        raise KeyError
    assert gc.isenabled()
