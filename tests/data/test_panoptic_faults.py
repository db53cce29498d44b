"""Panoptic files of one's own: repainted, of another size, at odds with their JSON."""

import json
import logging

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import prepare_data, register_panoptic
from maskrcnn_repro.data.loader import training_records
from maskrcnn_repro.data.panoptic.files import write_ids
from maskrcnn_repro.data.panoptic.labels import stuff_names, with_labels
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

NAME = "own_faults"
IDS = [[5, 5, 5, 5], [7, 7, 7, 0]]


class Own:
    """A data set of one image, a car of four pixels above a road, whose files can be changed."""

    def __init__(self, folder):
        self.file, self.folder = folder / "panoptic.json", folder / "png"
        self.folder.mkdir()
        self.record = {"file_name": str(folder / "a.jpg"), "image_id": 1, "height": 2, "width": 4}
        self.paint(IDS)
        self.entry = {
            "image_id": 1,
            "file_name": "a.png",
            "segments_info": [
                {"id": 5, "category_id": 1, "area": 4},
                {"id": 7, "category_id": 2, "area": 3},
            ],
        }
        self.tree = {
            "annotations": [self.entry],
            "categories": [
                {"id": 1, "name": "car", "isthing": 1},
                {"id": 2, "name": "road", "isthing": 0},
            ],
        }
        self.write()

    def paint(self, ids):
        write_ids(self.folder / "a.png", np.array(ids))

    def write(self):
        self.file.write_text(json.dumps(self.tree))

    def config(self, test=(), **keys):
        cfg = get_config()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), test
        cfg.DATASETS.WITH_SEM_SEG, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True, False
        cfg.DATASETS.PANOPTIC = ((NAME, str(self.file), str(self.folder)),)
        cfg.merge_from_list([word for pair in keys.items() for word in pair])
        return cfg

    def labels(self):
        cfg = self.config()
        prepare_data(cfg)
        (record,) = training_records(cfg)
        return np.asarray(Image.open(record["sem_seg_file_name"])).tolist()


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path / "cache"))
    own = Own(tmp_path)
    DatasetCatalog.register(NAME, lambda: [{**own.record, "annotations": []}])
    MetadataCatalog.get(NAME).set(thing_classes=["car"])
    yield own
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_repainted_files_are_noticed_and_others_come_from_the_cache(own):
    assert own.labels() == [[0] * 4, [1, 1, 1, 255]]
    cache = own.file.parent / "cache" / "sem_seg"
    before = {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    assert own.labels() == [[0] * 4, [1, 1, 1, 255]]
    assert before == {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    own.paint([[7] * 4, [5] * 4])
    assert own.labels() == [[1] * 4, [0] * 4]


def test_a_missing_folder_is_refused_although_the_cache_is_full(own):
    own.labels()
    own.folder.rename(own.folder.with_name("away"))
    with pytest.raises(DataError, match=r"the folder .*png of its PNG files does not exist"):
        own.labels()
    register_panoptic(NAME, own.file, "elsewhere")
    with pytest.raises(DataError, match=r"the folder elsewhere of its PNG files does not exist"):
        stuff_names(NAME)


def test_labels_of_another_size_are_refused_by_both_sizes(own):
    own.record |= {"height": 4, "width": 8}
    words = r"Labels .*png/a.png have 4 x 2 pixels, but image .*a.jpg has 8 x 4"
    with pytest.raises(DataError, match=words):
        own.labels()
    with pytest.raises(DataError, match=words):
        prepare_data(own.config((NAME,), **{"TEST.PANOPTIC_QUALITY": True}))


def test_sizes_of_semantic_files_are_compared_too(own):
    Image.new("L", (3, 3)).save(own.folder.parent / "own.png")
    record = own.record | {"sem_seg_file_name": str(own.folder.parent / "own.png")}
    own.labels()
    with pytest.raises(DataError, match=r"Labels .*own.png have 3 x 3 pixels"):
        with_labels([record], NAME)


def test_an_image_that_is_not_annotated_is_told_by_the_panoptic_file(own):
    own.labels()
    with pytest.raises(DataError, match=r"Image b.jpg has no panoptic labels: .*panoptic.json"):
        with_labels([{**own.record, "file_name": "b.jpg"}], NAME)


def change_segment(**values):
    return lambda own: own.entry["segments_info"][0].update(values)


def change_category(**values):
    return lambda own: own.tree["categories"][1].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_segment(id="5"), "image 'a' has the segment id '5', which must be a whole number"),
        (change_segment(id=0), "has the segment id 0, which must be .* from 1 to"),
        (change_segment(id=7), "image 'a' has the segment id 7 twice"),
        (change_segment(category_id=3), "segment 5 of image 'a' has the category 3, which is not"),
        (change_segment(area="4"), "segment 5 of image 'a' has the area '4'"),
        (change_category(id=1), "category id 1 is there twice"),
        (change_category(id="2"), "category id '2' is no whole number"),
        (change_category(name="car"), "categories 1 and 2 have the one name 'car'"),
        (change_category(isthing="0"), "category 2 has the isthing '0'"),
        (lambda own: own.tree["annotations"].append({**own.entry}), "'a' has two annotations"),
    ],
)
def test_errors_of_the_json_are_refused_before_training(own, change, words):
    change(own)
    own.write()
    with pytest.raises(DataError, match=rf"panoptic.json: .*{words}"):
        prepare_data(own.config())


def test_differences_of_json_and_png_are_counted_each_time(own, caplog):
    own.paint([[5, 5, 9, 9], [8, 8, 8, 0]])
    for _ in range(2):
        caplog.clear()
        register_panoptic(NAME, "other", "files")  # forgets, as a process of its own would
        with caplog.at_level(logging.WARNING):
            prepare_data(own.config())
        said = [r.getMessage().partition(": ")[2] for r in caplog.records if "json" in r.message]
        starts = ("segment 7 of image 'a' has no pixel", "pixels of image 'a' have the id 8",
                  "segment 5 of image 'a' has the area 4 and 2 pixels")  # fmt: skip
        assert all(a.startswith(b) for a, b in zip(said, starts, strict=True)), said
        assert said[1].endswith("(2 such cases).")


def test_a_data_set_is_named_once(own):
    entry = (NAME, str(own.file), str(own.folder))
    with pytest.raises(DataError, match=f"DATASETS.PANOPTIC names '{NAME}' twice"):
        prepare_data(own.config(**{"DATASETS.PANOPTIC": (entry, entry)}))


@pytest.mark.parametrize(
    "entries",
    [
        ([],),
        ((NAME, "a.json"),),
        ((NAME, "a.json", "b", "c"),),
        ((NAME, 1, 2),),
        ((NAME, "a.json", ""),),
        (NAME, "a.json", "b"),
    ],
)
def test_an_entry_of_another_form_is_told_in_one_sentence(own, entries):
    cfg = own.config(**{"DATASETS.PANOPTIC": entries})
    with pytest.raises(DataError, match=r"^DATASETS.PANOPTIC is a list of \[name, panoptic JSON, "):
        prepare_data(cfg)


def test_an_evaluation_needs_no_labels_of_training_data(own):
    cfg = own.config((NAME,), **{"DATASETS.PANOPTIC": ()})
    prepare_data(cfg, training=False)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 54
    with pytest.raises(DataError, match="has no semantic labels: name its panoptic files in"):
        prepare_data(cfg)


def test_an_evaluation_counts_classes_of_training_data_without_reading_its_images(own):
    (own.folder / "a.png").unlink()
    cfg = own.config()
    prepare_data(cfg, training=False)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2
    own.folder.rmdir()
    cfg = own.config(**{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 9})
    prepare_data(cfg, training=False)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 9
