"""``maskrcnn convert-data`` as it is typed: what it prints and writes, its status, its splits."""

import json
import os
from pathlib import Path

from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.data.formats.registry import FORMATS

import pytest

from tests.helpers.commands import convert_data
from tests.helpers.label_files import blank, stored, written
from tests.helpers.paths import ROOT

TRIANGLE = [[2, 2], [8, 2], [8, 8]]


@pytest.fixture
def source(tmp_path):
    """Six images of three patients as LabelMe writes them; one class is in the first alone."""
    folder = tmp_path / "in"
    for patient in range(3):
        for number in range(2):
            name = f"p{patient}_{number}"
            blank(folder / f"{name}.png", 20, 10)
            label = "rare" if patient == number == 0 else "cell"
            shapes = [{"label": label, "points": TRIANGLE}]
            tree = {"shapes": shapes, "imagePath": f"{name}.png"}
            written(folder, f"{name}.json", tree)
    return folder


def names(file):
    return {image["file_name"] for image in json.loads(file.read_text())["images"]}


def test_what_it_prints_is_what_to_type_next(source, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(source), str(out), "--split", "0.7", "--group-by", r"^(p\d)_"]
    assert convert_data(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{source} is LabelMe."
    assert lines[1] == f"Written: {out}/train.json, 4 images, 4 objects, 2 classes"
    assert lines[2] == f"Written: {out}/val.json, 2 images, 2 objects, 2 classes"
    assert "6 images in 3 groups, none of them divided." in lines[3]
    line = f"maskrcnn train --data {out}/train.json {source} --val {out}/val.json {source}"
    assert lines[-1] == f"Next: {line}"
    train, val = names(out / "train.json"), names(out / "val.json")
    assert not {name[:2] for name in train} & {name[:2] for name in val}


def test_the_same_seed_writes_the_same_bytes_and_another_another_split(source, tmp_path):
    outs = [tmp_path / name for name in ("a", "b", "c")]
    for out, seed in zip(outs, ("1", "1", "5"), strict=True):
        assert convert_data([str(source), str(out), "--split", "0.5", "--seed", seed]) == 0
    first, second, third = ((out / "train.json").read_bytes() for out in outs)
    assert first == second != third


def test_both_files_pass_the_check_of_a_training(source, tmp_path):
    out = tmp_path / "out"
    assert convert_data([str(source), str(out), "--split", "0.5"]) == 0
    for name in ("train", "val"):
        scan = scan_coco(out / f"{name}.json", source)
        assert scan.complete
        assert set(scan.findings.codes()) <= {"class-rare", "class-without-object"}


def test_an_image_that_is_missing_gives_status_1_and_its_name(source, tmp_path, capsys):
    (source / "p0_1.png").unlink()
    assert convert_data([str(source), str(tmp_path / "out")]) == 1
    assert "images that are missing: 1 left out (p0_1.json: p0_1.png)" in capsys.readouterr().out


def test_images_in_another_folder(source, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for path in source.glob("*.png"):
        path.rename(tmp_path / "photos" / path.name)
    words = [str(source), str(tmp_path / "out")]
    assert convert_data(words) == 2
    assert "None of the 6 images was found" in capsys.readouterr().err
    assert convert_data([*words, "--images", str(tmp_path / "photos")]) == 0
    assert names(tmp_path / "out" / "data.json") == {
        f"p{p}_{n}.png" for p in range(3) for n in (0, 1)
    }


def test_unused_classes_are_left_out_of_a_whole_set_alone(tmp_path, capsys):
    images = {"images/train/a.jpg": (10, 5), "images/val/b.jpg": (5, 10)}
    source = stored("cvat_coco", tmp_path, images)
    assert convert_data([str(source), str(tmp_path / "whole")]) == 0
    assert "left out: classes without objects: 'c'" in capsys.readouterr().out
    assert convert_data([str(source), str(tmp_path / "kept"), "--keep-unused"]) == 0
    assert "kept: classes without objects: 'c'" in capsys.readouterr().out
    one = source / "annotations" / "instances_train.json"
    words = [str(one), str(tmp_path / "one"), "--images", str(source / "images")]
    assert convert_data(words) == 0
    text = capsys.readouterr().out
    assert "kept: classes without objects: 'a', 'c'" in text
    assert "All outlines are boxes: train with MODEL.MASK_ON False." in text
    line = f"maskrcnn train --data {tmp_path}/one/data.json {source / 'images'}"
    assert text.splitlines()[-1] == f"Next: {line}"
    assert "Written: " + f"{tmp_path}/one/data.json, 1 image, 1 object, 3 classes" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "1.5"], "--split 1.5 is to be between 0 and 1"),
        (["--group-by", "folder"], "give --split, too"),
        (["--split", "0.5", "--group-by", "folder"], "there is only one: change --group-by"),
        (["--format", "yollo"], "Did you mean 'yolo'?"),
        (["--images", "nowhere"], "Image folder nowhere does not exist."),
        (["--images", os.devnull], f"Image folder {os.devnull} is no folder."),
    ],
)
def test_options_that_cannot_be(source, tmp_path, capsys, options, words):
    assert convert_data([str(source), str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(source, tmp_path, capsys):
    assert convert_data([str(source), str(tmp_path / "out.json")]) == 2
    assert "is to be a folder" in capsys.readouterr().err


@pytest.mark.parametrize("out", [os.devnull, "loop"])
def test_an_output_that_can_be_no_folder(source, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert convert_data([str(source), out]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_file_that_was_read_is_not_overwritten(source, tmp_path, capsys):
    assert convert_data([str(source), str(tmp_path / "out")]) == 0
    file = tmp_path / "out/data.json"
    before = file.read_bytes()
    words = [str(tmp_path / "out"), str(tmp_path / "out"), "--images", str(source)]
    assert convert_data(words) == 2
    assert "is the file itself that is read" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read_over(source, tmp_path, encoding):
    file = source / "p0_0.json"
    file.write_text(file.read_text().replace("rare", "née"), encoding=encoding)
    assert convert_data([str(source), str(tmp_path / "out")]) == 0
    classes = json.loads((tmp_path / "out/data.json").read_text())["categories"]
    assert [record["name"] for record in classes] == ["cell", "née"]
    file.write_text("{", encoding=encoding)
    assert convert_data([str(source), str(tmp_path / "out")]) == 2


def test_a_file_without_images_is_named(tmp_path, capsys):
    file = tmp_path / "none.json"
    file.write_text('{"images": [], "annotations": [], "categories": []}')
    assert convert_data([str(file), str(tmp_path / "out")]) == 2
    assert f"{file} lists no images." in capsys.readouterr().err


def test_nothing_there(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert convert_data([str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert "has no file of any format that is read" in capsys.readouterr().err
    assert convert_data([str(tmp_path / "gone"), str(tmp_path / "out")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_page_has_every_format_in_its_table():
    page = (ROOT / "docs/convert_data.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(FORMATS)
