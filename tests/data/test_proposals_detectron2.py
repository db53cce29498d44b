"""Detectron2's pickle of proposals: read by every protocol without running it, written as it was."""

import pathlib
import pickle

from maskrcnn_repro.data.proposals import detectron2_format
from maskrcnn_repro.data.proposals.detectron2_format import (
    export_pickle,
    import_pickle,
    keep_imported,
)
from maskrcnn_repro.errors import DataError, OutputError

import numpy as np
import pytest
from detectron2.data.build import load_proposals_into_dataset
from detectron2.structures import BoxMode

from tests.helpers.commands import convert_proposals
from tests.helpers.proposal_files import IDS, random_proposals, write_pickle

ONE = [(np.array([[1, 2, 4, 6]], np.float32), np.array([0.5], np.float32))]


def imported(tmp_path, proposals=ONE, ids=(7,), **extra):
    file = write_pickle(tmp_path / "a.pkl", proposals, ids=ids, **extra)
    return import_pickle(file, tmp_path / "a.proposals")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_protocol_gives_the_numbers(tmp_path, protocol):
    proposals = [(b.astype(">f8"), l.astype(np.float64)) for b, l in random_proposals()]
    store = imported(tmp_path, proposals, IDS, protocol=protocol)
    for row, (boxes, logits) in enumerate(proposals):
        order = logits.argsort()[::-1]
        assert store[row][0].tolist() == boxes[order].tolist()
        assert store[row][1].tolist() == logits[order].tolist()
    assert store.image_ids() == IDS
    assert store.dataset is None


def test_detectrons_older_names_and_numpy_ids_are_understood(tmp_path):
    boxes, logits = zip(*ONE, strict=True)
    content = {"indexes": [np.int64(7)], "boxes": boxes, "scores": logits, "cfg": "MODEL: ..."}
    file = tmp_path / "old.pkl"
    file.write_bytes(pickle.dumps(content))
    store = import_pickle(file, tmp_path / "a.proposals")
    assert store.image_ids() == [7]
    assert store[0][0].tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize("mode", [1, BoxMode.XYWH_ABS])
def test_boxes_with_width_and_height_become_corners(tmp_path, mode):
    assert imported(tmp_path, bbox_mode=mode)[0][0].tolist() == [[1, 2, 5, 8]]


def test_a_missing_mode_means_corners(tmp_path):
    assert imported(tmp_path, bbox_mode=None)[0][0].tolist() == [[1, 2, 4, 6]]


def test_columns_first_and_empty_arrays_are_read(tmp_path):
    boxes = np.asfortranarray([[1, 2, 4, 6], [0, 0, 3, 3]], np.float32)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    store = imported(tmp_path, [(boxes, np.array([2.0, 1.0])), none], ids=(1, "b"))
    assert store[0][0].tolist() == boxes.tolist()
    assert store[1][0].shape == (0, 4)


def test_an_export_is_what_detectron2_loads_and_imports_as_it_was(tmp_path):
    store = imported(tmp_path, random_proposals(), IDS)
    file = tmp_path / "b.pkl"
    export_pickle(store, file)
    records = load_proposals_into_dataset([{"image_id": i} for i in IDS], str(file))
    for row, record in enumerate(records):
        boxes, logits = store[row]
        assert sorted(record["proposal_boxes"].tolist()) == sorted(boxes.tolist())
        assert record["proposal_objectness_logits"].tolist() == logits.tolist()
        assert record["proposal_bbox_mode"] == BoxMode.XYXY_ABS
    again = import_pickle(file, tmp_path / "b.proposals")
    assert [again[row][1].tolist() for row in range(4)] == [
        store[row][1].tolist() for row in range(4)
    ]


def test_nothing_that_a_file_names_is_run(tmp_path):
    sentinel = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return pathlib.Path.touch, (sentinel,)

    store = imported(tmp_path, cfg=Malicious())
    assert len(store) == 1
    with pytest.raises(
        DataError, match=r"a.pkl': entry 0 holds no plain value, but \S*getattr|pathlib"
    ):
        imported(tmp_path, ids=[Malicious()])
    assert not sentinel.exists()


def test_object_arrays_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"entry 0 holds no NumPy array of plain numbers"):
        imported(tmp_path, [(np.array([[1, 2, 4, None]], object), ONE[0][1])])


def test_images_that_share_numbers_do_not_fill_the_disk(tmp_path):
    boxes, logits = np.zeros((100, 4), np.float32), np.zeros(100, np.float32)
    with pytest.raises(DataError, match=r"entry \d+ holds one of arrays that have more numbers"):
        imported(tmp_path, [(boxes, logits)] * 10, ids=range(10))


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        (b"r\xff\xff\xff\x7f", "stores a value at place 2147483647"),
        (b")" + b"\x85" * 1000 + b"Ns", "nested more than 60 deep"),
        (b")" + b"2\x86" * 60 + b"Ns", "hold each other again and again"),
        (b"\x8e" + b"\x7f" * 8, "bytes in a bytes8, but only 1 remain"),
    ],
)
def test_a_file_takes_no_more_than_its_size(tmp_path, instructions, words):
    file = tmp_path / "a.pkl"
    file.write_bytes(b"\x80\x02}" + instructions + b".")
    with pytest.raises(DataError, match=words):
        import_pickle(file, tmp_path / "a.proposals")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"boxes": None}, r"has no 'boxes', .* it has bbox_mode, ids, objectness_logits"),
        ({"objectness_logits": []}, r"1 ids, 1 boxes and 0 objectness_logits"),
        ({"bbox_mode": 4}, r"boxes in .*XYWHA_ABS.*; only XYXY_ABS and XYWH_ABS"),
        ({"bbox_mode": "abs"}, r"'bbox_mode' is 'abs'"),
        ({"boxes": 3}, r"'boxes' is no list"),
        ({"ids": [1.5]}, r"entry 0 holds an image id that is neither integer nor text, 1.5"),
        ({"boxes": [np.zeros((3, 4))]}, r"entry 0 holds boxes \(3, 4\) and logits \(1,\)"),
        # Numbers of two dimensions would be 20 GB of boxes, of none no list.
        (
            {"boxes": [np.zeros((1100, 1100, 4), "f4")], "objectness_logits": [np.zeros((1100, 1100), "f4")]},
            r"entry 0 holds boxes \(1100, 1100, 4\) and logits \(1100, 1100\), not \(P, 4\) and \(P,\)",
        ),
        (
            {"boxes": [np.zeros(4, "f4")], "objectness_logits": [np.zeros((), "f4")]},
            r"entry 0 holds boxes \(4,\) and logits \(\)",
        ),
    ],
)  # fmt: skip
def test_a_malformed_file_is_told_in_one_sentence(tmp_path, extra, words):
    with pytest.raises(DataError, match=words):
        imported(tmp_path, **extra)


def test_an_image_with_two_entries_is_refused(tmp_path):
    file = write_pickle(tmp_path / "a.pkl", ONE * 2, ids=[7, 7])
    with pytest.raises(DataError, match="entry 1 holds image 7, which an earlier entry has"):
        import_pickle(file, tmp_path / "a.proposals")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


def test_a_disk_that_fills_up_keeps_no_half_of_a_store(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    file = write_pickle(tmp_path / "a.pkl", ONE, ids=[7])
    monkeypatch.setattr("maskrcnn_repro.data.proposals.writer._GrowingArray.append", full)
    with pytest.raises(OutputError, match=r"a\.proposals cannot be written: No space left"):
        import_pickle(file, tmp_path / "a.proposals")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_a_truncated_file_is_told_in_one_sentence(tmp_path, keep):
    file = write_pickle(tmp_path / "a.pkl", ONE, ids=[7])
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a.pkl' is no file of proposals") as info:
        import_pickle(file, tmp_path / "a.proposals")
    assert "\n" not in str(info.value)
    assert not (tmp_path / "a.proposals").exists()


def test_a_read_only_folder_is_left_alone(tmp_path, monkeypatch):
    file = write_pickle(tmp_path / "a.pkl", ONE, ids=[7])
    monkeypatch.setattr(detectron2_format, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(detectron2_format.os, "access", lambda *_: False)
    path = keep_imported(file)
    assert path.is_relative_to(tmp_path / "cache")
    assert keep_imported(file) == path


def test_the_command_converts_both_ways_and_overwrites_nothing(tmp_path, capsys):
    file = write_pickle(tmp_path / "a.pkl", ONE, ids=[7])
    there, back = str(tmp_path / "a.proposals"), str(tmp_path / "b.pkl")
    assert convert_proposals([str(file), there]) == 0
    assert convert_proposals([there, back]) == 0
    assert pickle.loads((tmp_path / "b.pkl").read_bytes())["ids"] == [7]
    assert convert_proposals([str(file), there]) == 2
    assert "a.proposals' is there already" in capsys.readouterr().err
    assert convert_proposals([there, str(tmp_path / "c.proposals")]) == 2
    assert "is converted to a name with '.pkl' at its end" in capsys.readouterr().err
    assert convert_proposals([str(file), f"{file}/x.proposals"]) == 2
    assert "x.proposals cannot be written: Not a directory" in capsys.readouterr().err
