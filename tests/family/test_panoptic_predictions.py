"""Panoptic FPN as a file that is used: predictions, what is written and refused, own data."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

from maskrcnn_cli.dispatch import main
from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.panoptic.files import read_ids, write_ids
from maskrcnn_repro.data.panoptic.truth import PanopticTruth
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.inference.formats.item import Item
from maskrcnn_repro.inference.formats.panoptic import PanopticWriter
from maskrcnn_repro.inference.predictor import Predictor

import numpy as np
import pytest
from PIL import Image

from tests.family.test_panoptic_fpn import CONFIG, KEYS
from tests.helpers.code_blocks import blocks_of
from tests.helpers.paths import ROOT
from tests.helpers.tiny_predictor import write_tiny_model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    labels = Labels(
        ("disc", "bar", "ring"), (4, 7, 9), stuff_names=("things", "sky", "sea", "sand")
    )
    load_config(CONFIG, [])
    return write_tiny_model(tmp_path_factory.mktemp("model"), "mask", labels, **KEYS)


def picture(height=64, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_predictor_gives_segments_with_names(file):
    predictor = Predictor(file, threshold=0.2, device="cpu", precision="float32")
    prediction = predictor(picture())
    assert prediction.panoptic_seg.shape == (64, 80)
    names = {info["isthing"]: info["name"] for info in prediction.segments_info}
    assert names[True] in predictor.labels.class_names
    assert names[False] in ("sky", "sea", "sand")
    assert {i["id"] for i in prediction.segments_info} == set(
        np.unique(prediction.panoptic_seg)
    ) - {0}
    # Choosing detections leaves the map of the image.
    assert prediction[:0].panoptic_seg is prediction.panoptic_seg
    drawn = prediction.draw(picture())
    assert drawn.shape == (64, 80, 3)
    changed = (drawn != picture()).any(axis=2)
    assert changed[prediction.panoptic_seg > 0].mean() > 0.9


def test_chosen_classes_are_the_things_of_the_map_and_stuff_stays(file):
    options = {"threshold": 0.2, "device": "cpu", "precision": "float32"}
    whole = Predictor(file, **options)(picture())
    things = {info["name"] for info in whole.segments_info if info["isthing"]}
    assert things
    for name in ("disc", "bar", "ring"):
        part = Predictor(file, classes=[name], **options)(picture())
        kept = [i for i in whole.segments_info if not i["isthing"] or i["name"] == name]
        assert part.segments_info == kept
        same = np.isin(whole.panoptic_seg, [info["id"] for info in kept])
        assert np.array_equal(part.panoptic_seg, np.where(same, whole.panoptic_seg, 0))


def test_the_threshold_is_that_of_things_in_the_map(tmp_path):
    strict = {"MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.9}
    labels = Labels(("disc", "bar", "ring"), stuff_names=("things", "sky", "sea", "sand"))
    file = write_tiny_model(tmp_path, "mask", labels, **KEYS | strict)

    def scores(threshold):
        predictor = Predictor(file, threshold, device="cpu", precision="float32")
        return [i["score"] for i in predictor(picture()).segments_info if i["isthing"]]

    assert 0.2 < min(scores(0.2)) < 0.9
    assert scores(None) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--tiles", "64"], "--tiles 64: segments of neighbouring tiles are not joined"),
        (["--shapes", "masks"], "--shapes masks: --format panoptic has each segment as pixels"),
        ([], "--format panoptic is for models that make panoptic maps, and .* makes none"),
    ],
)
def test_what_has_no_map_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, words, sentence
):
    monkeypatch.chdir(tmp_path)
    # As of a Hybrid Task Cascade: names of stuff, and no map.
    labels = Labels(("disc", "bar", "ring"), stuff_names=("things", "sky"))
    model = write_tiny_model(tmp_path, "mask", labels)
    Image.fromarray(picture()).save("a.png")
    assert main(["predict", str(model), "a.png", "--format", "panoptic", *words]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "predictions").exists()


def test_the_command_counts_the_segments_of_the_file(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("a.png")
    words = ["--format", "panoptic", "--threshold", "0.2", "--classes", "bar", "--device", "cpu"]
    assert main(["predict", str(file), "a.png", *words]) == 0
    tree = json.loads((tmp_path / "predictions/panoptic.json").read_text())
    (entry,) = tree["annotations"]
    assert f"1 image, {len(entry['segments_info'])} segment" in capsys.readouterr().out
    things = {c["id"]: c["name"] for c in tree["categories"] if c["isthing"]}
    assert {things.get(s["category_id"], "bar") for s in entry["segments_info"]} == {"bar"}


@pytest.mark.slow
def test_the_fast_path_replaces_parts_of_the_model_and_answers_alike(file):
    options = {"threshold": 0.2, "device": "cpu", "precision": "float32"}
    plain, fast = (Predictor(file, fast=f, **options) for f in (False, True))
    assert type(fast._model.backbone) is not type(plain._model.backbone)
    same = fast(picture()).panoptic_seg == plain(picture()).panoptic_seg
    assert same.mean() > 0.99


@pytest.mark.slow
def test_a_picture_in_tiles_has_no_map(file):
    tiled = Predictor(file, threshold=0.2, device="cpu", precision="float32", tiles=48)
    assert tiled(picture(96, 96)).panoptic_seg is None


@pytest.mark.slow
def test_segments_are_written_in_coco_s_format(file, tmp_path):
    predictor = Predictor(file, threshold=0.2, device="cpu", precision="float32")
    writer = PanopticWriter(tmp_path / "panoptic.json", predictor.labels)
    prediction = predictor(picture())
    for name in ("a.jpg", "a.png"):
        writer.add(Item(name, Path(name), prediction))
    writer.close()
    truth = PanopticTruth.read(tmp_path / "panoptic.json", tmp_path / "panoptic", results=True)
    assert truth.names == {4: "disc", 7: "bar", 9: "ring", 10: "sky", 11: "sea", 12: "sand"}
    entry = truth.of("a.jpg")
    ids = read_ids(truth.folder / entry["file_name"])
    assert np.array_equal(ids, prediction.panoptic_seg)
    names = [truth.names[segment["category_id"]] for segment in entry["segments_info"]]
    assert names == [info["name"] for info in prediction.segments_info]
    assert [s["area"] for s in entry["segments_info"]] == np.bincount(ids.ravel())[1:].tolist()
    assert sorted(path.name for path in truth.folder.iterdir()) == ["a.png", "a.png.png"]
    with pytest.raises(DataError, match=r"b.jpg has no panoptic map"):
        writer.add(Item("b.jpg", Path("b.jpg"), replace(prediction, panoptic_seg=None)))
    with pytest.raises(ConfigError, match=r"--format panoptic is for models that make panoptic"):
        PanopticWriter(tmp_path / "panoptic.json", Labels(("disc",)))


def test_the_documented_command_takes_data_of_one_s_own(tmp_path, monkeypatch):
    blocks = [block for block in blocks_of(ROOT / "docs/family.md", ROOT) if "mine" in block.code]
    (command,) = (command for block in blocks for command in block.commands)
    own = shlex.split(command)[4:]
    write_own_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path / "cache"))
    cfg = resolve_config(load_config(CONFIG, own), training=True)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1


def write_own_data(folder):
    """One image of 8 x 6 pixels with a square of 3, ``instances.json``, and panoptic files with two classes of stuff."""
    for name in ("images", "panoptic"):
        (folder / name).mkdir()
    Image.fromarray(picture(6, 8)).save(folder / "images" / "a.png")
    ids = np.array([[1] * 8] * 3 + [[2] * 8] * 3)
    ids[:3, :3] = 3
    write_ids(folder / "panoptic" / "a.png", ids)
    image = {"id": 1, "file_name": "a.png", "height": 6, "width": 8}
    square = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 3], "area": 9}
    square |= {"iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 3, 0, 3]]}
    things = [{"id": 1, "name": "dog", "isthing": 1}]
    stuff = [{"id": n, "name": name, "isthing": 0} for n, name in ((2, "sky"), (3, "sea"))]
    areas = ((1, 2, 15), (2, 3, 24), (3, 1, 9))
    segments = [{"id": n, "category_id": c, "area": area} for n, c, area in areas]
    entry = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    instances = {"images": [image], "annotations": [square], "categories": things}
    panoptic = {"images": [image], "annotations": [entry], "categories": things + stuff}
    for name, tree in (("instances", instances), ("panoptic", panoptic)):
        (folder / f"{name}.json").write_text(json.dumps(tree))
