"""YOLO's data.yaml, whose words stay words, and labels of poses."""

from maskrcnn_repro.data.formats.convert import Request, convert
from maskrcnn_repro.errors import DataError

import pytest

from tests.helpers.label_files import blank, converted, lost, written

BOX = "0 0.5 0.5 0.4 0.4"


def yolo(folder, text, label=BOX, name="data.yaml"):
    """Write a data set of one image, and return its description."""
    blank(folder / "images" / "a.png", 20, 10)
    written(folder, "labels/a.txt", label)
    return written(folder, name, f"train: images\n{text}\n")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[no, yes, on]", ["no", "yes", "on"]),
        ("{0: Off, 1: y}", ["Off", "y"]),
        ("[1e3, 010, 1.50, 2024-01-31, .inf]", ["1e3", "010", "1.50", "2024-01-31", ".inf"]),
        ("{'0': ' a ', 1: 'null'}", ["a", "null"]),
    ],
)
def test_names_are_the_words_of_the_file(tmp_path, names, expected):
    _, trees = converted(yolo(tmp_path / "in", f"names: {names}"), tmp_path / "out")
    assert [c["name"] for c in trees["data"]["categories"]] == expected


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "sub.YML"])
def test_the_description_may_be_named_itself_by_either_ending(tmp_path, name):
    file = yolo(tmp_path / "in", "names: [a]", name=name)
    assert converted(file, tmp_path / "out")[0].form == "yolo"


@pytest.mark.parametrize("empty", ["test:", "test: ~", "test: null", "val:", "valid: []"])
def test_a_part_that_is_left_empty_is_none(tmp_path, empty):
    _, trees = converted(yolo(tmp_path / "in", f"names: [a]\n{empty}"), tmp_path / "out")
    assert len(trees["data"]["images"]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a]\nvalid: 5", "'val' is '5', which does not exist below"),
        ("names: [a]\nvalid: {a: b}", r"'valid' is \{'a': 'b'\}, not of type str or list"),
        ("names: [a, null]", r"'names' is \['a', None\], not a list of names"),
        ("names: {1: a}", r"numbers its classes \['1'\], not from 0"),
        ("names: [a]\nkpt_shape: 17", "'kpt_shape' is '17', not of type list"),
        ("names: [a]\nkpt_shape: [17]", "not a number of keypoints and 2 or 3 numbers of each"),
        ("names: [a]\nkpt_shape: [3, 4]", "not a number of keypoints and 2 or 3"),
        ("names: [a]\nkpt_shape: [many, 2]", "not a number of keypoints and 2 or 3"),
        (
            "names: [a]\nkpt_shape: [3, 2]",
            r"a\.txt: line 1 has 4 numbers behind its class, not the 10 of a box and its keypoints",
        ),
    ],
)
def test_what_it_cannot_say_is_told(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        convert(Request(yolo(tmp_path / "in", text), tmp_path / "out"))


@pytest.mark.parametrize(
    ("shape", "points"),
    [("[3, 2]", "0.31 0.31 0.5 0.4 0.6 0.62"), ("[2, 3]", "0.31 0.31 2 0.5 0.4 1")],
)
def test_of_a_pose_the_box_is_the_outline_and_the_keypoints_are_named_as_lost(
    tmp_path, shape, points
):
    file = yolo(tmp_path / "in", f"names: [a]\nkpt_shape: {shape}", f"{BOX} {points}\n" * 2)
    result, trees = converted(file, tmp_path / "out")
    assert lost(result) == {"keypoints": 2, "box": 2, "again": 1}
    (record,) = trees["data"]["annotations"]
    assert record["bbox"] == pytest.approx([6, 3, 8, 4])
    assert "keypoints" not in record
    assert any("keypoints of YOLO's poses: 2 left out" in line for line in result.losses.lines())
