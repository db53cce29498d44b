"""The store of proposals: what goes in comes out, whole or not at all, shared and not loaded."""

import json
import multiprocessing
import os
import pickle

from maskrcnn_repro.data.proposals import store as store_module
from maskrcnn_repro.data.proposals.store import ProposalStore, digest_of
from maskrcnn_repro.data.proposals.writer import StoreWriter, part_folder
from maskrcnn_repro.errors import DataError, OutputError

import numpy as np
import pytest

BOXES = np.array([[0, 0, 4, 4], [1, 2, 3, 4], [5, 5, 9, 8.5]], np.float32)
LOGITS = np.array([0.5, 2.0, -1.0], np.float32)


def write(
    path, images=((7, BOXES, LOGITS), ("b", BOXES[:0], LOGITS[:0]), (9, BOXES[:1], LOGITS[:1]))
):
    writer = StoreWriter(path)
    for image in images:
        writer.add(*image)
    writer.finish(dataset="some_train", images_sha256=None, origin={"weights": "w.pth"})
    return ProposalStore(path)


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "some_train.proposals")


def test_an_image_gives_back_its_boxes_best_first(store):
    boxes, logits = store[0]
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 4, 4], [5, 5, 9, 8.5]]
    assert logits.tolist() == [2.0, 0.5, -1.0]
    assert boxes.dtype == logits.dtype == np.float32
    assert (len(store), store.dataset, store.index["proposals"]) == (3, "some_train", 4)
    assert store.index["origin"] == {"weights": "w.pth"}


def test_an_image_without_proposals_is_empty(store):
    boxes, logits = store[1]
    assert (boxes.shape, logits.shape) == ((0, 4), (0,))


def test_equal_logits_keep_their_order(tmp_path):
    logits = np.array([1, 3, 1, 3, 1], np.float32)
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    boxes = write(tmp_path / "a.proposals", [(1, boxes, logits)])[0][0]
    assert boxes[:, 0].tolist() == [4, 12, 0, 8, 16]


def test_rows_are_found_by_id_as_text(store):
    assert store.rows([9, "7", "b", 8]) == [2, 0, 1, None]


def test_what_is_read_may_be_changed(store):
    boxes, _ = store[0]
    boxes[:] = 0
    assert store[0][0].any()


def test_parts_of_several_processes_become_what_one_would_write(tmp_path):
    images = [(i, BOXES[: i % 4] + i, LOGITS[: i % 4]) for i in range(7)]
    alone = write(tmp_path / "alone.proposals", images)
    path = tmp_path / "together.proposals"
    shares = images[:3], images[3:5], images[5:]
    writers = [StoreWriter(path, part) for part in range(3)]
    for writer, share in zip(writers, shares, strict=True):
        for image in share:
            writer.add(*image)
    for part in (1, 2):
        writers[part].close()
        writers[0].absorb(part)
    writers[0].finish(dataset=None, images_sha256=None, origin={})
    together = ProposalStore(path)
    together.verify()
    for name in ("boxes.npy", "logits.npy", "offsets.npy", "image_ids.json"):
        assert (path / name).read_bytes() == (alone.path / name).read_bytes(), name
    assert sorted(os.listdir(tmp_path)) == ["alone.proposals", "together.proposals"]


def test_numpy_reads_the_files(store):
    assert np.load(store.path / "boxes.npy").shape == (4, 4)
    assert np.load(store.path / "offsets.npy").tolist() == [0, 3, 3, 4]


def test_a_killed_writer_leaves_no_store_and_does_not_stop_the_next(tmp_path):
    path = tmp_path / "a.proposals"
    for part in (0, 1):
        StoreWriter(path, part).add(1, BOXES, LOGITS)
    with pytest.raises(DataError, match="no store of proposals: there is no such folder"):
        ProposalStore(path)
    with pytest.raises(DataError, match=r"it has no store\.json"):
        ProposalStore(part_folder(path, 0))
    assert len(write(path)) == 3
    assert os.listdir(tmp_path) == ["a.proposals"]


def test_a_store_whose_name_ends_like_anothers_leaves_that_one_alone(tmp_path):
    other = StoreWriter(tmp_path / "my-train.proposals", part=1)
    other.add(1, BOXES, LOGITS)
    write(tmp_path / "train.proposals")
    other.finish(dataset=None, images_sha256=None, origin={})
    assert sorted(os.listdir(tmp_path)) == ["my-train.proposals", "train.proposals"]


def test_names_with_marks_of_patterns_are_names(tmp_path):
    path = tmp_path / "a[b]+.proposals"
    StoreWriter(path, 7).add(1, BOXES, LOGITS)
    write(path)
    assert os.listdir(tmp_path) == [path.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Proposals .*a\.proposals cannot be written: Not a dir"):
        StoreWriter(tmp_path / "file" / "a.proposals")
    writer = StoreWriter(tmp_path / "a.proposals")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maskrcnn_repro.data.proposals.writer._GrowingArray.append", full)
    for step in (lambda: writer.add(1, BOXES, LOGITS), writer.close):
        with pytest.raises(OutputError, match=r"a\.proposals cannot be written: No space left"):
            step()


def test_a_store_is_replaced_as_a_whole(store):
    again = write(store.path, [(1, BOXES, LOGITS)])
    assert (len(again), again.image_ids()) == (1, [1])
    assert os.listdir(store.path.parent) == [store.path.name]


@pytest.mark.parametrize("name", ["boxes.npy", "logits.npy", "offsets.npy", "image_ids.json"])
def test_a_truncated_or_missing_file_is_named(store, name):
    file = store.path / name
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{name}: the file has {len(content) - 1} bytes instead"):
        ProposalStore(store.path)
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}: the file is missing"):
        ProposalStore(store.path)


@pytest.mark.parametrize("name", ["boxes.npy", "logits.npy", "offsets.npy", "image_ids.json"])
def test_an_altered_file_of_the_same_size_is_named(store, name):
    file = store.path / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: the file was altered"):
        ProposalStore(store.path).verify()


def test_another_version_is_refused(store, monkeypatch):
    monkeypatch.setattr(store_module, "VERSION", 2)
    with pytest.raises(
        DataError, match="proposals' 1, but this is read: 'maskrcnn-repro proposals' 2"
    ):
        ProposalStore(store.path)
    (store.path / "store.json").write_text("{")
    with pytest.raises(DataError, match=r"store.json' is no index"):
        ProposalStore(store.path)


@pytest.mark.parametrize(
    ("boxes", "logits", "words"),
    [
        (BOXES, LOGITS[:2], r"boxes \(3, 4\) and logits \(2,\)"),
        (BOXES[:, :3], LOGITS, r"boxes \(3, 3\)"),
        (BOXES * np.nan, LOGITS, "infinite or NaN"),
    ],
)
def test_wrong_proposals_are_named_by_their_image(tmp_path, boxes, logits, words):
    with pytest.raises(DataError, match=rf"Proposals of image 7: .*{words}"):
        StoreWriter(tmp_path / "a.proposals").add(7, boxes, logits)


def test_the_digest_depends_on_ids_and_sizes_but_not_on_the_order():
    records = [{"image_id": i, "height": 4, "width": 5 + i} for i in range(3)]
    assert digest_of(records) == digest_of(records[::-1])
    assert digest_of(records) != digest_of(records[:2])
    assert digest_of(records) != digest_of([*records[:2], {**records[2], "width": 8}])


def read_first(store):
    return store[0][0].tolist(), type(store.boxes.base).__name__


def test_a_pickle_holds_the_path_alone(store):
    pickled = pickle.dumps(store)
    assert len(pickled) < 400
    assert read_first(pickle.loads(pickled)) == (store[0][0].tolist(), "memmap")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_maps_the_files_itself(store, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        boxes, base = pool.apply(read_first, (store,))
    assert boxes == store[0][0].tolist()
    assert base == "memmap"


def test_the_index_tells_sizes_in_json(store):
    index = json.loads((store.path / "store.json").read_text())
    assert index["files"]["logits.npy"]["bytes"] == 128 + 4 * 4
    assert (index["images"], index["version"]) == (3, 1)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "7", '{"format": "maskrcnn-repro proposals", "version": 1}']
)
def test_an_index_of_other_content_is_told_in_one_sentence(store, text):
    (store.path / "store.json").write_text(text)
    with pytest.raises(DataError, match=r"store.json' (is no index|lacks counts)") as caught:
        ProposalStore(store.path)
    assert "\n" not in str(caught.value)
