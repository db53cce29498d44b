"""Semantic and panoptic labels of the generated data, and how they reach a model."""

import errno
import json

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import prepare_data, register_panoptic
from maskrcnn_repro.data.loader import training_records
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.panoptic.files import IGNORED, Categories, read_ids, write_ids
from maskrcnn_repro.data.panoptic.labels import with_labels
from maskrcnn_repro.data.registry import resolve_num_stuff
from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.data.synthetic.mini_coco.scenes import STUFF_IDS
from maskrcnn_repro.data.synthetic.textures import PATTERNS
from maskrcnn_repro.data.synthetic.writing import digest
from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.evaluation.panoptic import PanopticEvaluator

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.huge_png import huge_png

COUNT = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    data = MINI_COCO.generate(root, "val", 0, COUNT)
    before = digest(data)
    labels = MINI_COCO.generate_labels(root, "val", 0, COUNT)
    assert digest(data) == before
    return data, labels


def test_ids_are_written_as_red_and_256_green_and_65536_blue(tmp_path):
    ids = np.array([[0, 255, 256], [65536, 65537 + 512, (1 << 24) - 1]])
    write_ids(tmp_path / "ids.png", ids)
    with Image.open(tmp_path / "ids.png") as image:
        assert image.getpixel((1, 1)) == (1, 2, 1)
    assert read_ids(tmp_path / "ids.png").tolist() == ids.tolist()


def test_things_are_0_stuff_counts_from_1_and_the_rest_is_ignored():
    entries = [{"id": 7, "name": "sky", "isthing": 0}, {"id": 3, "name": "sea", "isthing": 0}]
    categories = Categories.of([*entries, {"id": 1, "name": "dog", "isthing": 1}])
    segments = [{"id": n, "category_id": c} for n, c in ((10, 7), (20, 1), (30, 3))]
    labels = categories.semantic(np.array([[10, 20], [30, 0]]), segments)
    assert labels.tolist() == [[2, 0], [1, IGNORED]]
    assert categories.metadata()["stuff_classes"] == ["things", "sea", "sky"]


def test_segments_are_the_annotated_objects_and_the_ground(folders):
    data, labels = folders
    coco = COCO(str(data / "instances.json"))
    tree = json.loads((labels / "panoptic.json").read_text())
    assert [entry["image_id"] for entry in tree["annotations"]] == list(range(1, COUNT + 1))
    things = {category["id"] for category in tree["categories"] if category["isthing"]}
    assert things == set(coco.cats)
    textures = set()
    for entry in tree["annotations"]:
        ids = read_ids(labels / "panoptic" / entry["file_name"])
        *objects, ground = entry["segments_info"]
        annotations = coco.imgToAnns[entry["image_id"]]
        for segment, annotation in zip(objects, annotations, strict=True):
            same = ("category_id", "iscrowd", "area", "bbox")
            assert [segment[key] for key in same] == [annotation[key] for key in same]
            mask = coco_mask.decode(coco.annToRLE(annotation))
            np.testing.assert_array_equal(ids == segment["id"], mask)
        assert (
            ground["area"]
            == (ids == ground["id"]).sum()
            == ids.size - sum(s["area"] for s in objects)
        )
        textures.add(ground["category_id"])
        semantic = np.asarray(Image.open(labels / "sem_seg" / entry["file_name"]))
        label = 1 + sorted(STUFF_IDS.values()).index(ground["category_id"])
        np.testing.assert_array_equal(semantic, np.where(ids == ground["id"], label, 0))
    assert textures == set(STUFF_IDS.values())


def test_the_ground_has_the_texture_that_it_says(folders):
    # Dots and stripes have two levels, slopes and clouds many: grain apart.
    _, labels = folders
    tree = json.loads((labels / "panoptic.json").read_text())
    names = {number: name for name, number in STUFF_IDS.items()}
    spread = dict.fromkeys(PATTERNS, 0)
    for entry in tree["annotations"]:
        ids = read_ids(labels / "panoptic" / entry["file_name"])
        pixels = np.asarray(Image.open(folders[0] / "images" / entry["file_name"])).astype(int)
        ground = entry["segments_info"][-1]
        values = pixels[ids == ground["id"]]
        # Grain moves all channels alike by 8 levels at most.
        name, (red, green, blue) = names[ground["category_id"]], values.T
        colours = np.unique((green - red) * 512 + blue - red)
        spread[name] = max(spread[name], len(colours))
    assert max(spread[name] for name in ("stripes", "checks", "dots")) <= 2
    assert min(spread[name] for name in ("slope", "clouds")) > 2


@pytest.fixture
def small(folders, monkeypatch):
    """``mini_coco_val`` of twenty images, the first of them labelled."""
    data, labels = folders
    name = "mini_stuff_val"
    records = [
        {"file_name": str(file), "image_id": number, "annotations": []}
        for number, file in enumerate(sorted((data / "images").iterdir()))
    ]
    DatasetCatalog.register(name, lambda: records)
    stuff = MetadataCatalog.get("mini_coco_val").stuff_classes
    MetadataCatalog.get(name).set(
        thing_classes=["a"], stuff_classes=stuff, sem_seg_root=str(labels / "sem_seg")
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def config(name, **changes):
    cfg = get_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), ()
    cfg.DATASETS.WITH_SEM_SEG, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True, False
    cfg.merge_from_list([word for pair in changes.items() for word in pair])
    return cfg


def test_labels_are_resized_and_flipped_as_their_image(small):
    cfg = config(small, **{"INPUT.MIN_SIZE_TRAIN": (256,), "INPUT.RANDOM_FLIP": "none"})
    record = training_records(cfg)[0]
    labels = np.asarray(Image.open(record["sem_seg_file_name"]))
    mapped = TrainMapper(cfg, True)(record)
    assert mapped["sem_seg"].shape == mapped["image"].shape[1:]
    assert min(mapped["sem_seg"].shape) == 256
    assert set(mapped["sem_seg"].unique().tolist()) == set(np.unique(labels).tolist())
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (min(labels.shape),), "horizontal"
    flips = [TrainMapper(cfg, True)(record)["sem_seg"].numpy() for _ in range(20)]
    assert any(np.array_equal(flip, labels[:, ::-1]) for flip in flips)
    assert any(np.array_equal(flip, labels) for flip in flips)


def test_truth_as_a_prediction_has_all_of_the_quality(small, folders, tmp_path):
    _, labels = folders
    things = MetadataCatalog.get("mini_coco_val").thing_classes
    del MetadataCatalog.get(small).thing_classes
    MetadataCatalog.get(small).set(thing_classes=things)
    register_panoptic(small, labels / "panoptic.json", labels / "panoptic")
    evaluator = PanopticEvaluator(small, tmp_path)
    places = {c: (True, k) for k, c in enumerate(evaluator.truth.categories.things)}
    places |= {c: (False, k) for c, k in evaluator.truth.categories.labels().items()}
    for record in DatasetCatalog.get(small)[:5]:
        annotation = evaluator.truth.of(record["file_name"])
        ids = read_ids(labels / "panoptic" / annotation["file_name"])
        infos = [
            dict(
                zip(
                    ("id", "isthing", "category_id"),
                    (s["id"], *places[s["category_id"]]),
                    strict=True,
                )
            )
            for s in annotation["segments_info"]
        ]
        evaluator.process([record], [{"panoptic_seg": (torch.as_tensor(ids), infos)}])
    metrics = evaluator.evaluate()["panoptic"]
    assert metrics["PQ"] == metrics["PQ_th"] == metrics["PQ_st"] == 100.0


def test_records_have_no_labels_unless_asked(small):
    cfg = config(small, **{"DATASETS.WITH_SEM_SEG": False})
    assert "sem_seg_file_name" not in training_records(cfg)[0]


def test_the_number_of_classes_follows_from_the_data(small):
    cfg = config(small)
    prepare_data(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 1 + len(PATTERNS)
    with pytest.raises(DataError, match=r"NUM_CLASSES is 9, but 'mini_stuff_val' has 6 semantic"):
        prepare_data(config(small, **{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 9}))


def test_images_to_evaluate_on_need_no_labels_unless_panoptic_quality_is_measured(small):
    cfg = config(small, **{"DATASETS.TEST": ("mini_people_val",)})
    assert resolve_num_stuff(cfg) == 1 + len(PATTERNS)
    cfg.TEST.PANOPTIC_QUALITY = True
    with pytest.raises(DataError, match="'mini_people_val' has no semantic labels"):
        resolve_num_stuff(cfg)


def test_a_data_set_without_labels_is_refused(small):
    with pytest.raises(DataError, match=r"'mini_people_val' has no semantic labels: .* mini_coco"):
        prepare_data(config("mini_people_val"))
    with pytest.raises(DataError, match=r"no semantic labels for nowhere.jpg: .*nowhere.png does"):
        with_labels([{"file_name": "nowhere.jpg"}], small)


def test_an_evaluation_of_maps_needs_panoptic_labels(small):
    changes = {"DATASETS.TEST": (small,), "TEST.PANOPTIC_QUALITY": True}
    with pytest.raises(DataError, match=r"no panoptic labels: name them in DATASETS.PANOPTIC"):
        prepare_data(config(small, **changes))
    files = ("nowhere.json", "nowhere")
    with pytest.raises(DataError, match=r"'mini_stuff_val' has no panoptic labels: nowhere.json"):
        prepare_data(config(small, **changes, **{"DATASETS.PANOPTIC": ((small, *files),)}))
    with pytest.raises(DataError, match=r"DATASETS.PANOPTIC: 'mini_stuf_val' is not .*mini_stuff"):
        prepare_data(config(small, **{"DATASETS.PANOPTIC": (("mini_stuf_val", *files),)}))


def test_a_file_that_holds_no_ids_is_told(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match=r"grey.png is no image of panoptic segments"):
        read_ids(tmp_path / "grey.png")
    with pytest.raises(DataError, match=r"gone.png cannot be read"):
        read_ids(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"bomb.png cannot be read: .*pixels"):
        read_ids(huge_png(tmp_path / "bomb.png"))


def test_ids_whose_writing_fails_leave_the_file_that_was_there(tmp_path, monkeypatch):
    write_ids(tmp_path / "new" / "ids.png", np.array([[5]]))
    before = (tmp_path / "new" / "ids.png").read_bytes()

    def fail(image, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OutputError, match=r"ids\.png cannot be written: No space left"):
        write_ids(tmp_path / "new" / "ids.png", np.array([[6]]))
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["ids.png"]
    assert (tmp_path / "new" / "ids.png").read_bytes() == before
