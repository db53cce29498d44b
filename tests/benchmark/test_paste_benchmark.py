"""The benchmark of pasting on small images; the measurements themselves are no test."""

from maskrcnn_repro.benchmark import pasting, roi_memory

import pytest

from tests.helpers.commands import benchmark


@pytest.fixture(autouse=True)
def _without_memory(monkeypatch):
    monkeypatch.setattr(roi_memory, "can_measure", lambda: False)


def test_both_are_timed_on_the_same_masks():
    masks, boxes = pasting.scene((60, 80), 7)
    assert (masks.shape, boxes.shape) == ((7, 28, 28), (7, 4))
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    result = pasting.measure((60, 80), 7, rounds=2)
    assert {name: len(times) for name, times in result["seconds"].items()} == {
        "detectron2": 2,
        "ours": 2,
    }
    line = pasting.table({"60 x 80": result}).splitlines()[-1]
    assert line.startswith("60 x 80")
    assert f"{result['ratio']['value']:.1f} [" in line


def test_other_pixels_are_an_error(monkeypatch):
    monkeypatch.setattr(pasting, "_detectron2", lambda *_: [])
    with pytest.raises(pasting.BenchmarkError, match=r"7 masks in \(60, 80\) are not Detectron2's"):
        pasting.measure((60, 80), 7, rounds=2)


def test_too_few_rounds_are_told(capsys):
    assert benchmark(["paste", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")
