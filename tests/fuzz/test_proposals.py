"""Damaged stores of proposals and Detectron2's files of them."""

import json
import pickle
import shutil
from functools import partial

from maskrcnn_repro.data.proposals.detectron2_format import import_pickle
from maskrcnn_repro.data.proposals.store import ARRAYS, IDS, INDEX, ProposalStore, checksum

import numpy as np
import pytest

from tests.fuzz.harness import Reader, fuzz, hypothesis, try_files
from tests.fuzz.mutations import damaged, json_files, st
from tests.helpers.proposal_files import IDS as IMAGES
from tests.helpers.proposal_files import random_proposals, write_pickle

pytestmark = pytest.mark.slow


def read_store(path, written_by_us=True):
    store = ProposalStore(path)
    store.verify()
    ids = store.image_ids()
    assert len(ids) == len(store)
    for image, row in zip(IMAGES, store.rows(IMAGES), strict=True):
        assert str(image) not in map(str, ids) if row is None else str(ids[row]) == str(image)
    for row in range(len(store)):
        boxes, logits = store[row]
        assert boxes.shape == (*logits.shape, 4)
        if written_by_us:  # the writer refuses them, and the checksums hold what it wrote
            assert np.isfinite(boxes).all()
            assert np.isfinite(logits).all()


def read_pickle(path):
    folder = path.with_suffix(".proposals")
    for left in path.parent.glob("*.proposals"):
        shutil.rmtree(left)
    try:
        import_pickle(path, folder)
    finally:
        assert set(path.parent.iterdir()) <= {path, folder}
    read_store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    import_pickle(write_pickle(folder / "a.pkl", random_proposals(count=5)), folder / "a.proposals")
    return folder / "a.proposals"


@pytest.mark.parametrize("sealed", [False, True], ids=["as it is", "with its new checksums"])
def test_store(store, sealed):
    whole = {name: (store / name).read_bytes() for name in (*ARRAYS, IDS, INDEX)}
    changes = st.sampled_from([*ARRAYS, IDS]).flatmap(
        lambda name: st.tuples(st.just(name), damaged(whole[name]))
    )
    changes |= st.tuples(st.just(IDS), json_files(json.loads(whole[IDS])))
    index = st.tuples(st.just(INDEX), json_files(json.loads(whole[INDEX])))

    with Reader(partial(read_store, written_by_us=not sealed)) as reader:

        @fuzz(300)
        @hypothesis.given(changes if sealed else changes | index)
        def run(change):
            name, content = change
            (store / name).write_bytes(content)
            if sealed:
                seal(store, name)
            try:
                reader.check(store)
            finally:
                for file in {name, INDEX}:
                    (store / file).write_bytes(whole[file])

        run()


def seal(store, name):
    """Give a file's size and checksum to the index, as if it had been written so."""
    index = json.loads((store / INDEX).read_text())
    file = store / name
    index["files"][name] = {"bytes": file.stat().st_size, "crc32": checksum(file)}
    (store / INDEX).write_text(json.dumps(index))


def test_detectron2s_file(tmp_path):
    file = tmp_path / "a.pkl"
    whole = [write_pickle(file, random_proposals(count=3), protocol=p).read_bytes() for p in (2, 4)]
    older = {"indexes": IMAGES, "boxes": [b for b, _ in random_proposals(count=3)]}
    whole.append(pickle.dumps({**older, "scores": [np.zeros(3)] * 4, "bbox_mode": 1}))

    contents = st.sampled_from(whole).flatmap(lambda content: damaged(content, whole))
    try_files(read_pickle, file, whole, contents, 400)
