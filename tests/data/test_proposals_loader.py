"""Stored proposals on their way to the model: the same input as by Detectron2's own loaders."""

from maskrcnn_repro.data import register_custom
from maskrcnn_repro.data.loader import (
    build_test_loader,
    build_train_loader,
    training_records,
    with_sources,
)
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.proposals.detectron2_format import import_pickle
from maskrcnn_repro.data.proposals.mapper import placed
from maskrcnn_repro.data.proposals.prepare import prepare_proposals, stores_of
from maskrcnn_repro.data.proposals.store import ProposalStore, digest_of
from maskrcnn_repro.data.proposals.writer import StoreWriter
from maskrcnn_repro.engine.checks import check_config
from maskrcnn_repro.errors import ConfigError, DataError

import pytest
import torch
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.utils.env import seed_all_rng

from tests.helpers.proposal_files import IDS, random_proposals, tiny_config, write_pickle
from tests.helpers.tiny_coco import write_tiny_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture
def file(tmp_path):
    return write_pickle(tmp_path / "rpn.pkl", random_proposals())


def write_store(path, ids=IDS, dataset="tiny", records=None):
    writer = StoreWriter(path)
    for image_id, (boxes, logits) in zip(ids, random_proposals(len(ids)), strict=True):
        writer.add(image_id, boxes, logits)
    digest = digest_of(DatasetCatalog.get(dataset) if records is None else records)
    writer.finish(dataset=dataset, images_sha256=digest, origin={})
    return path


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    assert torch.equal(ours["image"], theirs["image"])
    for key in {"instances", "proposals"} & set(theirs):
        assert ours[key].image_size == theirs[key].image_size
        for field, value in theirs[key].get_fields().items():
            mine = ours[key].get(field)
            assert torch.equal(getattr(mine, "tensor", mine), getattr(value, "tensor", value)), (
                field
            )


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("sizes", [(0,), (37, 64, 100)])
@pytest.mark.parametrize("topk", [2000, 5])
def test_training_input_equals_detectron2s(data, file, cache, sizes, topk, catalog):
    cfg = tiny_config(data, "DATALOADER.CACHE_IMAGES", str(cache), files=[file])
    cfg.INPUT.MIN_SIZE_TRAIN = sizes
    cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = topk
    prepare_proposals(cfg, training=True)
    stores = stores_of(cfg, "TRAIN")
    records = training_records(cfg, stores)
    ours = with_sources(cfg, TrainMapper(cfg, True), records, stores)
    theirs = DatasetMapper(cfg, True)
    images = []
    for seed, (mine, other) in enumerate(
        zip(
            3 * records,
            3 * get_detection_dataset_dicts("tiny", proposal_files=[str(file)]),
            strict=True,
        )
    ):
        pair = []
        for mapper, record in ((ours, mine), (theirs, other)):
            seed_all_rng(seed)  # flip and size
            pair.append(mapper(record))
        assert_same(*pair)
        images.append(pair[0])
    assert len({image["proposals"].image_size for image in images}) == len(sizes)
    counts = {len(image["proposals"]) for image in images}
    assert counts == {5} if topk == 5 else 5 < max(counts) < 30  # some lie outside of the image


@pytest.mark.parametrize("topk", [1000, 7])
def test_test_input_equals_detectron2s(data, file, topk, catalog):
    cfg = tiny_config(data, "INPUT.MIN_SIZE_TEST", "50", files=[file])
    cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = topk
    prepare_proposals(cfg, training=False)
    ours, theirs = build_test_loader(cfg, "tiny"), build_detection_test_loader(cfg, "tiny")
    for mine, other in zip(ours, theirs, strict=True):
        assert "proposals" in mine[0]
        assert_same(mine[0], other[0])


def test_two_data_sets_may_use_the_same_image_ids(data, tmp_path, catalog):
    cfg = tiny_config(data, "SOLVER.IMS_PER_BATCH", "8", "INPUT.RANDOM_FLIP", "none", files=[])
    other = write_tiny_coco(tmp_path / "other")
    register_custom([("other", *map(str, other))])
    for name, side in (("tiny", 5), ("other", 9)):
        writer = StoreWriter(tmp_path / f"{name}.proposals")
        for image_id in IDS:
            writer.add(image_id, [[0, 0, side, side]], [1.0])
        writer.finish(dataset=name, images_sha256=None, origin={})
    cfg.DATASETS.TRAIN = "tiny", "other"
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = [
        str(tmp_path / f"{n}.proposals") for n in cfg.DATASETS.TRAIN
    ]
    sides = {
        (
            image["file_name"].startswith(str(tmp_path)),
            float(image["proposals"].proposal_boxes.area()),
        )
        for image in next(iter(build_train_loader(cfg)))
    }
    assert sides == {(False, 25.0), (True, 81.0)}
    cfg.DATASETS.TEST, cfg.INPUT.MIN_SIZE_TEST = cfg.DATASETS.TRAIN, 64
    cfg.DATASETS.PROPOSAL_FILES_TEST = cfg.DATASETS.PROPOSAL_FILES_TRAIN
    for name, area in (("tiny", 25.0), ("other", 81.0)):
        (image,) = next(iter(build_test_loader(cfg, name)))
        assert image["proposals"].proposal_boxes.area().tolist() == [area]


def test_a_pickle_is_imported_once_and_again_when_it_changed(data, file, catalog):
    cfg = tiny_config(data, files=[file])
    with pytest.raises(DataError, match=r"rpn.pkl' were not imported yet"):
        stores_of(cfg, "TRAIN")
    prepare_proposals(cfg, training=True)
    (store,) = stores_of(cfg, "TRAIN")
    written = store.index["written"], (store.path / "boxes.npy").stat().st_mtime_ns
    prepare_proposals(cfg, training=True)
    again = stores_of(cfg, "TRAIN")[0]
    assert (again.index["written"], (again.path / "boxes.npy").stat().st_mtime_ns) == written
    write_pickle(file, random_proposals(count=4))
    prepare_proposals(cfg, training=True)
    assert stores_of(cfg, "TRAIN")[0].index["proposals"] == 16


def test_proposals_of_another_data_set_are_refused(data, tmp_path, catalog):
    tiny_config(data)
    store = write_store(tmp_path / "a.proposals", IDS[:2])
    cfg = tiny_config(data, files=[store])
    with pytest.raises(DataError, match=r"have nothing for 2 of 4 images: 12, 13; write"):
        prepare_proposals(cfg, training=True)
    writer = StoreWriter(store)
    writer.finish(dataset="coco_2017_val", images_sha256=None, origin={})
    words = r"belong to data set 'coco_2017_val' \(0 images\), not to 'tiny' \(4 images\)"
    with pytest.raises(DataError, match=words):
        prepare_proposals(cfg, training=True)


def test_many_missing_images_are_counted(tmp_path):
    records = [{"image_id": i} for i in range(9)]
    store = ProposalStore(write_store(tmp_path / "a.proposals", [0], records=[]))
    with pytest.raises(DataError, match=r"nothing for 8 of 9 images: 1, 2, 3, 4, 5, …; write"):
        placed(records, store, 0)


def test_images_that_changed_since_are_noticed(data, tmp_path, catalog):
    tiny_config(data)
    larger = [{**record, "width": 65} for record in DatasetCatalog.get("tiny")]
    store = write_store(tmp_path / "a.proposals", records=larger)
    cfg = tiny_config(data, files=[store])
    with pytest.raises(DataError, match=r"had other images \(4, now 4\) or other sizes"):
        prepare_proposals(cfg, training=False)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"PROPOSAL_FILES_TRAIN": ()},
            r"PROPOSAL_FILES_TRAIN names 0 stores, but DATASETS.TRAIN has 1",
        ),
        (
            {"PROPOSAL_FILES_TEST": ("a", "b")},
            r"PROPOSAL_FILES_TEST names 2 .* has 1 data sets \(tiny\)",
        ),
    ],
)
def test_every_data_set_needs_one_store(data, keys, words, catalog):
    cfg = tiny_config(data, files=["a.proposals"])
    for key, value in keys.items():
        cfg.DATASETS[key] = value
    with pytest.raises(ConfigError, match=words):
        check_config(cfg, 1, training=True)


def test_a_model_has_an_rpn_or_stored_proposals(data, catalog):
    cfg = tiny_config(data, "MODEL.LOAD_PROPOSALS", "True")
    with pytest.raises(ConfigError, match=r"LOAD_PROPOSALS is True, .*NAME is 'RPN'"):
        check_config(cfg, 1, training=True)
    cfg = tiny_config(data, "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
    with pytest.raises(ConfigError, match=r"LOAD_PROPOSALS is False, .*'PrecomputedProposals'"):
        check_config(cfg, 1, training=True)


def test_what_is_no_store_is_refused(data, tmp_path, catalog):
    cfg = tiny_config(data, files=[tmp_path])
    with pytest.raises(DataError, match=r"no store of proposals: it has no store.json"):
        prepare_proposals(cfg, training=True)
    cfg = tiny_config(data, files=[tmp_path / "none.pkl"])
    with pytest.raises(DataError, match=r"none.pkl' do not exist"):
        prepare_proposals(cfg, training=True)


def test_importing_twice_beside_an_own_store_keeps_both(tmp_path, file):
    mine = write_store(tmp_path / "rpn.proposals", records=[])
    import_pickle(file, tmp_path / "rpn.pkl.proposals")
    assert ProposalStore(mine).dataset == "tiny"
