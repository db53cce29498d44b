"""``maskrcnn check``: what it prints, writes and returns."""

import json

from maskrcnn_cli.dispatch import main

import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import put, write


@pytest.fixture
def check(tmp_path, capsys):
    def run(spoil=None, *options):
        path, images = write(tmp_path, spoil)
        status = main(["check", str(path), str(images), *map(str, options)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_sound_file(check, tmp_path):
    status, printed, errors = check()
    assert (status, errors) == (0, "")
    assert (
        f"{tmp_path / 'a.json'}, to train and test: 2 images, 6 annotations, 2 classes" in printed
    )
    assert "error" not in printed


def test_an_error_is_one_sentence_with_status_2(check):
    status, printed, errors = check(CORPUS["outline flat"][0])
    assert status == 2
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert (
        "error outline-flat: 'segmentation' of annotation 4 is one flat list of numbers" in printed
    )
    assert "cure: put it into a list" in printed


def test_a_mended_copy_a_report_and_a_page(check, tmp_path):
    options = (
        "--fix",
        tmp_path / "b.json",
        "--json",
        tmp_path / "r.json",
        "--html",
        tmp_path / "p.html",
    )
    status, printed, errors = check(CORPUS["box outside"][0], *options)
    assert (status, errors) == (0, "")
    assert "mended or left out: box-outside (1)" in printed
    assert json.loads((tmp_path / "b.json").read_text())["annotations"][0]["bbox"] == [
        50,
        32,
        30,
        30,
    ]
    (finding,) = [
        finding
        for finding in json.loads((tmp_path / "r.json").read_text())["files"][0]["findings"]
        if finding["severity"] == "warning"
    ]
    assert (finding["code"], finding["count"], finding["ids"]) == ("box-outside", 1, [4])
    page = (tmp_path / "p.html").read_text()
    assert "warning: box-outside (1)" in page
    assert page.count("data:image/jpeg;base64,") >= 1
    # The copy is sound.
    assert main(["check", str(tmp_path / "b.json"), str(tmp_path / "images")]) == 0


@pytest.mark.parametrize("option", ["--fix", "--json"])
@pytest.mark.parametrize("name", ["a.json", "val.json", "soft.json", "hard.json"])
def test_what_is_read_is_not_overwritten(check, tmp_path, option, name):
    original, val = write(tmp_path, None)[0].read_bytes(), tmp_path / "val.json"
    val.write_bytes(original)
    (tmp_path / "soft.json").symlink_to("a.json")
    (tmp_path / "hard.json").hardlink_to(val)
    status, _, errors = check(None, "--val", val, tmp_path / "images", option, tmp_path / name)
    assert status == 2
    assert "is the file itself" in errors
    assert (tmp_path / "a.json").read_bytes() == val.read_bytes() == original


@pytest.mark.parametrize("option", ["--fix", "--json", "--html"])
@pytest.mark.parametrize(
    ("name", "sentence"), [("images/im2.png", "let its name end in ."), ("", "is empty")]
)
def test_an_output_of_another_ending_is_refused(check, tmp_path, option, name, sentence):
    status, _, errors = check(None, option, name and tmp_path / name)
    assert status == 2
    assert sentence in errors


def test_two_outputs_in_one_file_are_refused(check, tmp_path):
    status, _, errors = check(None, "--fix", tmp_path / "b.json", "--json", tmp_path / "b.json")
    assert status == 2
    assert f"read or written as '{tmp_path / 'b.json'}'" in errors


def test_a_set_to_test_on_needs_no_annotations(check):
    spoil = CORPUS["no annotations"][0]
    assert check(spoil)[0] == 2
    status, printed, _ = check(spoil, "--test")
    assert status == 0
    assert "note annotations-absent" in printed


def test_val_is_checked_too_and_against_train(check, tmp_path):
    (tmp_path / "val").mkdir()
    val = write(tmp_path / "val", CORPUS["area NaN"][0])
    status, printed, _ = check(None, "--val", *val, "--full")
    assert status == 0
    assert "warning area-not-finite" in printed
    assert "warning sets-same-pixels" in printed


def test_records_are_counted_whatever_their_fields(check):
    _, printed, _ = check(put("images", 0, "id", to="a"))
    assert "2 images, 6 annotations, 2 classes" in printed
    assert "Nothing else was looked at" in printed


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"shapes": [], "imagePath": "a.png"}, "it is of labelme: maskrcnn convert-data"),
        ({"_via_img_metadata": {}}, "it is of VIA: maskrcnn convert-data"),
        ([{"image_id": 2, "score": 0.5}], "these are predictions"),
    ],
)
def test_a_file_of_another_format_is_named(check, content, told):
    status, _, errors = check(lambda tree, images: content)
    assert status == 2
    assert told in errors
    assert "2 files" not in errors


def test_images_from_another_folder(check, tmp_path):
    _, _, errors = check(put("images", 0, "file_name", to="images/im2.png"))
    assert f"it lies where it should from {tmp_path}: give that folder" in errors
    _, _, errors = check(put("images", 0, "file_name", to="D:\\scans\\im2.png"))
    assert f"(there is {tmp_path / 'images' / 'im2.png'})" in errors


@pytest.mark.parametrize(("value", "flag"), [(True, 1), (False, 0), (None, 0)])
def test_how_a_crowd_is_understood(check, value, flag):
    _, printed, _ = check(put("annotations", 0, "iscrowd", to=value))
    assert f"'iscrowd' of annotation 4 is {json.dumps(value)}; it is taken as {flag}" in printed
