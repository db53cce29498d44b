"""Files that a folder may hold beside the labels, rows that are cut off, and values that only look wrong."""

import os

from maskrcnn_repro.data.formats.convert import Request, convert
from maskrcnn_repro.data.formats.reading import Trees
from maskrcnn_repro.data.formats.registry import recognise
from maskrcnn_repro.errors import DataError

import pytest

from tests.data.formats.test_hostile_files import BOX, CVAT, VIA, coco
from tests.helpers.label_files import blank, converted, lost, written

ROW = 'a.png,0,"{""name"": ""rect"", ""x"": 1, ""y"": 1, ""width"": 5, ""height"": 5}",{}\n'


@pytest.mark.parametrize("name", ["a.xml", "a.csv", "a.json"])
def test_a_pipe_and_a_dangling_link_are_told(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=rf"{name} does not exist"):
        recognise(tmp_path, None, Trees())
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} cannot be read: it is a pipe or a device"):
        recognise(tmp_path, None, Trees())


@pytest.mark.parametrize("name", ["a.xml", "a.csv"])
def test_a_file_that_may_not_be_read_is_told(tmp_path, name, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    written(tmp_path, name, "")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=rf"{name} cannot be read: Permission denied"):
        recognise(tmp_path / name, None, Trees())


def test_a_dangling_link_beside_labels_of_another_format_is_no_matter(tmp_path):
    blank(tmp_path / "b.png", 20, 10)
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone")
    written(tmp_path, "b.xml", CVAT.format('<box label="a" xtl="1" ytl="1" xbr="5" ybr="5"/>'))
    assert recognise(tmp_path, None, Trees())[0] == "cvat"


@pytest.mark.parametrize(
    "text",
    [
        VIA + ROW + "b.png,1\n",
        "region_id,region_shape_attributes,region_attributes,filename\n1,{}\n",
    ],
)
def test_a_row_of_vias_csv_that_is_cut_off_is_named(tmp_path, text):
    blank(tmp_path / "a.png", 20, 10)
    with pytest.raises(DataError, match=r"a\.csv: region 1 of .*: its row is cut off"):
        convert(Request(written(tmp_path, "a.csv", text), tmp_path / "out"))


@pytest.mark.parametrize(("flag", "crowd"), [(False, 0), (True, 1), (0, 0), (1, 1), (None, 0)])
def test_a_crowd_may_be_marked_by_a_boolean(tmp_path, flag, crowd):
    blank(tmp_path / "a.png", 20, 10)
    single = {**BOX, "id": 2, "bbox": [2, 2, 5, 5]}
    file = written(tmp_path, "a.json", coco(annotations=[{**BOX, "iscrowd": flag}, single]))
    _, trees = converted(file, tmp_path / "out")
    assert [a["iscrowd"] for a in trees["data"]["annotations"]] == [crowd, 0]


def test_a_true_id_is_none(tmp_path):
    file = written(tmp_path, "a.json", coco(annotations=[{**BOX, "image_id": True}]))
    with pytest.raises(DataError, match="'image_id' is True, not of type int or str"):
        convert(Request(file, tmp_path / "out"))


def test_numbers_beyond_all_bounds_leave_an_object_out(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    huge = [[10**400, -(10**400), 0, 0, 1, 1]]
    objects = [BOX, {**BOX, "id": 2, "segmentation": huge}]
    result, trees = converted(
        written(tmp_path, "a.json", coco(annotations=objects)), tmp_path / "out"
    )
    assert len(trees["data"]["annotations"]) == 1
    assert lost(result) == {"box": 1, "outline": 1}
