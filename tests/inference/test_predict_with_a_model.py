"""``maskrcnn predict`` with a real, tiny model: the predictor's numbers, a sound COCO file, an interrupted process."""

import json
import os
import signal
import subprocess
import sys
import time

from maskrcnn_cli.dispatch import main
from maskrcnn_repro import Predictor

import numpy as np
import pytest
from PIL import Image

from tests.helpers.paths import ROOT
from tests.helpers.tiny_predictor import LABELS, write_pictures, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"), "both")


def predict(model, *words):
    return main(["predict", str(model), *map(str, words), "--threshold", "0", "--device", "cpu"])


def test_the_file_has_the_numbers_of_the_predictor_and_is_sound(tmp_path, capsys, model):
    paths = write_pictures(tmp_path / "photos")
    assert predict(model, tmp_path / "photos", "--out", tmp_path / "out", "--batch", 2) == 0
    tree = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [category["id"] for category in tree["categories"]] == list(LABELS.category_ids)
    assert tree["categories"][0]["skeleton"] == [[1, 2]]
    predictor = Predictor(model, 0, device="cpu", precision="auto")
    rows = iter(tree["annotations"])
    for number, prediction in enumerate(predictor.stream(paths), start=1):
        areas = np.zeros(0) if prediction.masks is None else prediction.masks.sum((1, 2))
        for entry, area in zip(prediction.to_coco(number), areas, strict=True):
            if area:  # empty masks are left out
                row = next(rows)
                same = ("image_id", "category_id", "bbox", "score", "segmentation")
                assert {key: row[key] for key in same} == {key: entry[key] for key in same}
    assert next(rows, None) is None
    assert len(tree["annotations"])
    words = [str(tmp_path / "out/predictions.json"), str(tmp_path / "photos"), "--test"]
    assert main(["check", *words]) == 0
    assert "error" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["box", "keypoint"])
@pytest.mark.parametrize("form", ["coco", "labelme", "cvat", "labelstudio"])
def test_models_without_masks_in_every_format(tmp_path, kind, form):
    model = write_tiny_model(tmp_path, kind)
    write_pictures(tmp_path / "photos", [(64, 80)])
    assert predict(model, tmp_path / "photos", "--out", tmp_path / "out", "--format", form) == 0


def test_odd_sizes_and_one_of_which_resizing_leaves_nothing(tmp_path, capsys, model):
    photos = tmp_path / "photos"
    photos.mkdir()
    for size in ((1, 1), (3, 200), (2, 3000), (200, 3), (40, 40)):
        Image.new("RGB", size, (200, 10, 90)).save(photos / f"{size[0]:03d}x{size[1]}.png")
    assert predict(model, photos, "--out", tmp_path / "out", "--batch", 3) == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("Skipped: ")]
    assert len(lines) == 1
    assert "002x3000.png" in lines[0]
    images = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    sizes = [(image["width"], image["height"]) for image in images]
    assert sizes == [(1, 1), (3, 200), (40, 40), (200, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2)])
@pytest.mark.parametrize("more", [["--tiles", "64"], ["--tta"]])
def test_odd_sizes_in_tiles_and_in_several_views(tmp_path, model, size, more):
    Image.new("RGB", size, (200, 10, 90)).save(tmp_path / "x.png")
    assert predict(model, tmp_path / "x.png", "--out", tmp_path / "out", *more) == 0
    assert (tmp_path / "out/overlays/x.png").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing", "x.png"], "Model 'missing' is no folder, no file and no model"),
        (["MODEL", "x.png", "--classes", "dics"], "no class 'dics'. Did you mean 'disc'?"),
        (["MODEL", "x.png", "--precision", "float8"], "precision 'float8' does not exist."),
        (["MODEL", "x.png", "--device", "tpu"], "'tpu'"),
    ],
)
def test_what_the_model_refuses_is_one_sentence(
    tmp_path, capsys, monkeypatch, model, words, sentence
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("x.png")
    words = [str(model) if word == "MODEL" else word for word in words]
    assert main(["predict", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_ended_leaves_whole_files(tmp_path, model, number, status):
    write_pictures(tmp_path / "photos", [(64, 80)] * 400)
    out = tmp_path / "out"
    words = [model, tmp_path / "photos", "--out", out, "--threshold", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "maskrcnn_cli", "predict", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "projects"), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (out / "overlays/005.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == status
    assert "Traceback" not in process.stderr.read()
    images = json.loads((out / "predictions.json").read_text())["images"]
    assert 5 < len(images) < 400
    assert len(list((out / "overlays").iterdir())) >= len(images)
    assert not list(out.rglob(".part-*"))
