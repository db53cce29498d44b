"""The benchmark of a folder of photos: what counts as the same work, what is shown."""

from maskrcnn_repro.benchmark import folder
from maskrcnn_repro.benchmark.contest import summary

import pytest

from tests.helpers.commands import benchmark


def test_ours_find_the_same_and_peers_about_as_much():
    same = {"model alone": 100, "Predictor": 100, "Predictor, overlays": 100}
    folder.check_same(same | {"DefaultPredictor": 105})
    with pytest.raises(folder.BenchmarkError, match="DefaultPredictor finds 106 objects"):
        folder.check_same(same | {"DefaultPredictor": 106})
    with pytest.raises(folder.BenchmarkError, match="model alone finds 101 objects"):
        folder.check_same(same | {"model alone": 101})


def test_images_without_objects_are_refused():
    with pytest.raises(folder.BenchmarkError, match="Predictor 0"):
        folder.check_same({"Predictor": 0, "torchvision": 0})


def test_the_table_has_images_per_second():
    result = {"path": "fused bfloat16", "objects_per_image": 7.0, "peak_memory": 2**30}
    result |= summary([4.0, 4.0], [2.0, 2.0])
    shown = folder.table({"DefaultPredictor": result}, count=20)
    expected = "DefaultPredictor fused bfloat16 5.00 7.0 1024 MiB 2.00 [2.00, 2.00]"
    assert shown.splitlines()[-1].split() == expected.split()


def test_generated_photos_are_files_of_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "GENERATED", 2)
    monkeypatch.setattr(folder, "SIZE", (48, 64))
    photos = folder.generated(tmp_path / "photos")
    assert sorted(path.name for path in photos.iterdir()) == ["0.jpg", "1.jpg"]


def test_too_few_rounds_are_refused(capsys):
    assert benchmark(["predict", "--rounds", "4"]) == 2
    assert capsys.readouterr().err.startswith("Error: --rounds is 4; it must be at least 5")


@pytest.mark.slow
def test_five_rounds_with_a_small_model(capsys):
    words = ["--model", "mini-fpn", "--rounds", "5", "--count", "2", "--threads", "1"]
    assert benchmark(["predict", *words]) == 0
    assert "Predictor, overlays" in capsys.readouterr().out
