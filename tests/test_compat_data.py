"""Data sets: catalogs, COCO files, samplers, loaders, and the mapper from a record to a model's input."""

import copy
import itertools
import json
import pickle

import maskrcnn_repro  # noqa: F401

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    DatasetMapper,
    MapDataset,
    MetadataCatalog,
    ToIterableDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
)
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    set_default_dataset_from_list_serialize_method,
)
from detectron2.data.datasets import convert_to_coco_json, load_coco_json, register_coco_instances
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch.utils.data import IterableDataset, SequentialSampler

# What the real Detectron2 raises for a mistake, and what the embedded one does.
MISTAKE = (ValueError, AssertionError)

TRIANGLE = [2.0, 2.0, 6.0, 2.0, 6.0, 8.0]


@pytest.fixture
def name():
    """A data set name that is free, and free again afterwards."""
    yield "made_up_by_test"
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("made_up_by_test", None)


@pytest.fixture
def coco_file(tmp_path):
    """Two images out of order, classes 3 and 7, and every kind of annotation."""
    rle = {"size": [10, 20], "counts": [5, 10, 185]}
    annotations = [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 7,
            "bbox": [2, 2, 4, 6],
            "segmentation": [TRIANGLE],
        },
        {"id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 0, 2, 10], "segmentation": rle},
        {
            "id": 3,
            "image_id": 4,
            "category_id": 7,
            "bbox": [0, 0, 5, 5],
            "segmentation": [[1, 1, 2]],
        },
        {"id": 4, "image_id": 4, "category_id": 3, "bbox": [1, 1, 3, 3], "keypoints": [4, 5, 2]},
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in (9, 4)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"iscrowd": 0, "area": 1, **annotation} for annotation in annotations],
    }

    def write(**changes):
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content | changes))
        return str(path)

    write.annotations = content["annotations"]
    return write


def take(stream, count):
    return list(itertools.islice(stream, count))


# Catalogs


def test_catalog_refuses_unknown_and_double_names(name):
    DatasetCatalog.register(name, lambda: [1, 2])
    assert DatasetCatalog.get(name) == [1, 2]
    assert name in DatasetCatalog.list()
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(name, list)
    with pytest.raises(KeyError, match=r"coco_2017_trian.*not registered"):
        DatasetCatalog.get("coco_2017_trian")
    DatasetCatalog.remove(name)
    assert name not in DatasetCatalog


@pytest.mark.embedded_only
def test_messages_suggest_what_was_meant(name):
    with pytest.raises(KeyError, match="Did you mean 'coco_2017_train'"):
        DatasetCatalog.get("coco_2017_trian")
    MetadataCatalog.get(name).thing_classes = ["cat"]
    with pytest.raises(AttributeError, match="Did you mean 'thing_classes'"):
        _ = MetadataCatalog.get(name).thing_class


def test_metadata_can_be_set_once(name):
    metadata = MetadataCatalog.get(name).set(thing_classes=["cat"])
    assert MetadataCatalog.get(name) is metadata
    metadata.thing_classes = ["cat"]
    with pytest.raises(AssertionError, match="dog"):
        metadata.thing_classes = ["dog"]
    with pytest.raises(AttributeError, match=name):
        _ = metadata.keypoint_names
    assert metadata.get("keypoint_names", 5) == 5
    assert metadata.as_dict() == {"name": name, "thing_classes": ["cat"]}
    with pytest.raises(MISTAKE):
        MetadataCatalog.get("")


def test_coco_is_built_in():
    metadata = MetadataCatalog.get("coco_2017_val")
    assert metadata.json_file.endswith("coco/annotations/instances_val2017.json")
    assert metadata.image_root.endswith("coco/val2017")
    ids = metadata.thing_dataset_id_to_contiguous_id
    assert (len(ids), ids[1], ids[11], ids[13], ids[90]) == (80, 0, 10, 11, 79)
    assert metadata.thing_classes[:2] + metadata.thing_classes[-1:] == [
        "person",
        "bicycle",
        "toothbrush",
    ]
    assert metadata.thing_colors[0] == [220, 20, 60]
    minival = MetadataCatalog.get("keypoints_coco_2014_minival")
    assert minival.json_file.endswith("person_keypoints_minival2014.json")
    assert minival.image_root.endswith("coco/val2014")
    assert MetadataCatalog.get("coco_2017_test-dev").json_file.endswith(
        "image_info_test-dev2017.json"
    )


def test_coco_keypoints_change_sides():
    indices = utils.create_keypoint_hflip_indices("keypoints_coco_2017_train")
    assert indices == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    rules = MetadataCatalog.get("keypoints_coco_2017_train").keypoint_connection_rules
    assert rules[0] == ("left_ear", "left_eye", (102, 204, 255))
    with pytest.raises(AttributeError):
        utils.create_keypoint_hflip_indices("coco_2017_train")


def test_metadata_must_agree(name):
    MetadataCatalog.get(name).thing_classes = ["cat"]
    utils.check_metadata_consistency("thing_classes", ["coco_2017_val", "coco_2014_val"])
    with pytest.raises(ValueError, match="thing_classes"):
        utils.check_metadata_consistency("thing_classes", ["coco_2017_val", name])


# COCO files


def test_load_coco_json(coco_file, name):
    first, second = load_coco_json(coco_file(), "images", name)
    assert first["image_id"] == 4  # sorted by id
    assert second == {
        "file_name": "images/9.png",
        "width": 20,
        "height": 10,
        "image_id": 9,
        "annotations": [
            {
                "iscrowd": 0,
                "bbox": [2, 2, 4, 6],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 1,
                "segmentation": [TRIANGLE],
            }
        ],
    }
    rle, keypoints = first["annotations"]  # a polygon of less than three points is no instance
    mask = mask_util.decode(rle["segmentation"])
    assert (mask.sum(), mask[5:, 0].sum(), mask[:5, 1].sum()) == (10, 5, 5)
    # A pixel's index is the place of its centre less one half.
    assert keypoints["keypoints"] == [4.5, 5.5, 2]
    assert keypoints["category_id"] == 0
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_load_coco_json_without_a_name_keeps_ids(coco_file):
    records = load_coco_json(coco_file(), "", extra_annotation_keys=["area"])
    assert [a["category_id"] for r in records for a in r["annotations"]] == [3, 3, 7]
    assert records[1]["annotations"][0]["area"] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"id": 2}, MISTAKE, "not unique"),
        ({"category_id": 5}, KeyError, "category_id.*5"),
        ({"bbox": []}, ValueError, "bbox"),
        ({"ignore": 1}, MISTAKE, "ignore"),
    ],
)
def test_defects_of_a_coco_file(coco_file, name, change, error, message):
    defect = [coco_file.annotations[0] | change, *coco_file.annotations[1:]]
    with pytest.raises(error, match=message):
        load_coco_json(coco_file(annotations=defect), "", name)


def test_coco_file_without_annotations(coco_file, name):
    records = load_coco_json(coco_file(annotations=[]), "", name)
    assert [record["annotations"] for record in records] == [[], []]


@pytest.mark.embedded_only
def test_a_file_of_results_is_no_annotation_file(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json is not a COCO annotation file"):
        load_coco_json(str(tmp_path / "results.json"), "")


def test_conversion_is_the_inverse_of_loading(coco_file, name, tmp_path):
    register_coco_instances(name, {}, coco_file(), "images")
    records = DatasetCatalog.get(name)
    converted = convert_to_coco_dict(name)
    assert converted["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    by_box = {tuple(a["bbox"]): a for a in converted["annotations"]}
    assert by_box[2, 2, 4, 6]["area"] == 12  # a triangle of 4 x 6
    assert by_box[0, 0, 2, 10]["area"] == 10  # pixels of the RLE
    assert by_box[1, 1, 3, 3]["area"] == 9  # the box
    assert by_box[1, 1, 3, 3]["keypoints"] == [4, 5, 2]
    assert by_box[1, 1, 3, 3]["num_keypoints"] == 1
    (tmp_path / "back.json").write_text(json.dumps(converted))
    back = load_coco_json(str(tmp_path / "back.json"), "")
    for old, new in zip(records, back, strict=True):
        assert old["file_name"] == new["file_name"]
        for a, b in zip(old["annotations"], new["annotations"], strict=True):
            assert a["bbox"] == b["bbox"]
            assert a.get("keypoints") == b.get("keypoints")


def test_conversion_to_a_file_happens_once(name, tmp_path):
    record = {"file_name": "a", "height": 5, "width": 5, "image_id": 3, "annotations": []}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    path = tmp_path / "new" / "coco.json"
    convert_to_coco_json(name, str(path))
    assert json.loads(path.read_text())["images"][0]["id"] == 3
    path.write_text("{}")
    convert_to_coco_json(name, str(path))
    assert path.read_text() == "{}"
    convert_to_coco_json(name, str(path), allow_cached=False)
    assert "images" in json.loads(path.read_text())


@pytest.mark.embedded_only
def test_conversion_leaves_the_data_set_as_it_is(name):
    annotation = {
        "bbox": [0, 0, 4, 4],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "keypoints": [1.5, 1.5, 2],
        "segmentation": mask_util.encode(np.ones((4, 4), dtype=np.uint8, order="F")),
    }
    record = {"file_name": "a", "height": 5, "width": 5, "annotations": [annotation]}
    before = copy.deepcopy(record)
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    convert_to_coco_dict(name)
    assert record == before


# Samplers


@pytest.fixture
def as_rank(monkeypatch):
    def pretend(rank, world_size):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)

    return pretend


def test_training_sampler_order():
    assert take(TrainingSampler(3, shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]
    generator = torch.Generator().manual_seed(5)
    epochs = [torch.randperm(4, generator=generator).tolist() for _ in range(3)]
    assert take(TrainingSampler(4, seed=5), 12) == list(itertools.chain(*epochs))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainingSampler(7, seed=1),
        lambda: RandomSubsetTrainingSampler(9, 0.5, seed_shuffle=1, seed_subset=2),
        lambda: RepeatFactorTrainingSampler(torch.tensor([1.0, 2.5, 0.3, 1.2]), seed=1),
    ],
    ids=["all", "subset", "repeat"],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_one_stream(make, world_size, as_rank):
    whole = take(make(), 60)
    for rank in range(world_size):
        as_rank(rank, world_size)
        assert take(make(), 60 // world_size) == whole[rank::world_size]


def test_random_subset_keeps_to_its_subset():
    stream = take(RandomSubsetTrainingSampler(10, 0.4, seed_shuffle=0, seed_subset=3), 12)
    epochs = [sorted(stream[i : i + 4]) for i in (0, 4, 8)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(stream)) == 4
    for ratio in (0.0, 1.5, 0.01):
        with pytest.raises(MISTAKE):
            RandomSubsetTrainingSampler(10, ratio)


def test_repeat_factors_by_hand():
    classes = [[0, 1], [0], [0, 0, 2], []]
    dicts = [{"annotations": [{"category_id": c} for c in image]} for image in classes]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    # Class 0 is in 3 of 4 images, 1 and 2 in one each: r = max(1, sqrt(0.5 / f)).
    assert_allclose(factors(dicts, 0.5), [2**0.5, 1, 2**0.5, 1], rtol=1e-6)
    assert_allclose(factors(dicts, 0.5, sqrt=False), [2, 1, 2, 1])
    assert factors([], 0.5).shape == (0,)


def test_repeat_factor_sampler_repeats():
    whole = RepeatFactorTrainingSampler(torch.tensor([1.0, 3.0, 0.0]), shuffle=False, seed=0)
    assert take(whole, 8) == [0, 1, 1, 1, 0, 1, 1, 1]
    stream = take(RepeatFactorTrainingSampler(torch.tensor([1.0, 1.25]), seed=0), 9000)
    assert abs(stream.count(1) / stream.count(0) - 1.25) < 0.05


@pytest.mark.parametrize(("size", "world_size"), [(1, 3), (6, 3), (7, 3), (20, 6)])
def test_inference_sampler_covers_all_once(size, world_size, as_rank):
    shards = []
    for rank in range(world_size):
        as_rank(rank, world_size)
        sampler = InferenceSampler(size)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    assert list(itertools.chain(*shards)) == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("make", [TrainingSampler, InferenceSampler])
def test_samplers_need_elements(make):
    with pytest.raises(MISTAKE):
        make(0)


def test_training_sampler_needs_a_whole_number():
    with pytest.raises(TypeError, match="int"):
        TrainingSampler(2.5)


def test_grouped_batches():
    batches = GroupedBatchSampler(SequentialSampler(range(7)), [0, 1, 1, 0, 0, 1, 0], 2)
    # An element that is left over waits for the next round.
    assert [batch for batch in batches] == [[1, 2], [0, 3], [4, 6]]
    assert next(iter(batches)) == [5, 1]


# Wrappers


def test_serialized_list_gives_copies():
    source = [{"a": [1]}, {"b": 2}]
    for dataset in (DatasetFromList(source), DatasetFromList(source, serialize=False)):
        dataset[0]["a"].append(9)
        assert [dataset[i] for i in range(len(dataset))] == source
        assert dataset[-1] == {"b": 2}
        with pytest.raises(IndexError):
            dataset[2]
    assert DatasetFromList(source, copy=False, serialize=False)[0] is source[0]
    with pytest.raises(TypeError):
        DatasetFromList(source, serialize="yes")


def test_serialization_can_be_replaced():
    assert DatasetFromList([1, 2], serialize=tuple)[1] == 2
    with set_default_dataset_from_list_serialize_method(lambda items: items[::-1]):
        assert DatasetFromList([1, 2])[0] == 2
    assert DatasetFromList([1, 2])[0] == 1


@pytest.mark.embedded_only
def test_empty_list_is_a_data_set():
    assert len(DatasetFromList([])) == 0


def test_map_dataset_replaces_what_is_refused():
    dataset = MapDataset(DatasetFromList(list(range(6))), lambda x: None if x % 2 else 10 * x)
    assert dataset[2] == 20
    assert {dataset[i] for i in (1, 3, 5)} <= {0, 20, 40}


def test_mapped_stream_leaves_out_what_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from range(5)

    mapped = MapDataset(Stream(), lambda x: None if x == 3 else x + 1)
    assert isinstance(mapped, IterableDataset)
    assert list(mapped) == [1, 2, 3, 5]


@pytest.mark.embedded_only
def test_map_dataset_with_nothing_left():
    with pytest.raises(RuntimeError, match="all 2 samples"):
        MapDataset(DatasetFromList([1, 2]), lambda x: None)[0]


def test_mapped_data_set_with_a_closure_pickles():
    offset = 5

    def shifted(x, factor=2, *, sign=-1):
        return sign * (factor * x + offset)

    dataset = pickle.loads(pickle.dumps(MapDataset(DatasetFromList([1, 2]), shifted)))
    assert [dataset[0], dataset[1]] == [-7, -9]


def test_aspect_ratio_groups():
    sizes = [(4, 3), (3, 4), (5, 5), (6, 2), (1, 2)]
    samples = [{"width": w, "height": h} for w, h in sizes]
    groups = list(AspectRatioGroupedDataset(samples, 2))
    assert groups == [[samples[1], samples[2]], [samples[0], samples[3]]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_do_not_change_the_order(num_workers):
    stream = ToIterableDataset(DatasetFromList(list("abcdefg")), InferenceSampler(7), True, 2)
    loader = torch.utils.data.DataLoader(stream, 2, num_workers=num_workers, collate_fn="".join)
    assert list(loader) == ["ab", "cd", "ef", "g"]


def _random_number(_):
    return float(np.random.rand())


def test_workers_draw_different_numbers_from_one_seed():
    def numbers():
        loader = build_detection_train_loader(
            list(range(8)),
            mapper=_random_number,
            sampler=TrainingSampler(8, seed=0),
            total_batch_size=1,
            aspect_ratio_grouping=False,
            num_workers=2,
            seed=3,
        )
        return [number for (number,) in take(loader, 4)]

    first = numbers()
    assert len(set(first)) == 4
    assert numbers() == first


# Filters, proposals, loaders


def test_filters():
    def record(*annotations):
        return {"annotations": list(annotations)}

    crowd, plain = {"iscrowd": 1}, {"keypoints": [1, 1, 2, 3, 3, 0, 2, 2, 1]}
    records = [record(), record(crowd), record(crowd, plain), record(plain, plain)]
    assert filter_images_with_only_crowd_annotations(records) == records[2:]
    assert filter_images_with_few_keypoints(records, 3) == records[3:]
    assert filter_images_with_few_keypoints(records, 2) == records[2:]


def test_loading_by_name(coco_file, name):
    register_coco_instances(name, {}, coco_file(), "images")
    assert len(get_detection_dataset_dicts(name)) == 2
    with pytest.raises(KeyError, match="nowhere"):
        get_detection_dataset_dicts(["nowhere"])
    with pytest.raises(MISTAKE):
        get_detection_dataset_dicts([])
    with pytest.raises(MISTAKE):
        get_detection_dataset_dicts(name, min_keypoints=2)


@pytest.mark.embedded_only
def test_category_ids_beyond_the_classes_are_named(name):
    DatasetCatalog.register(name, lambda: [{"annotations": [{"category_id": 4}]}])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    with pytest.raises(ValueError, match=r"category_id 4.*1 classes"):
        get_detection_dataset_dicts(name)


def test_proposals(tmp_path):
    stored = {
        "indexes": [7, "8"],
        "boxes": [np.array([[0, 0, 4, 4], [2, 2, 2, 5], [1, 1, 30, 3]], dtype=np.float32)] * 2,
        "scores": [np.array([0.1, 0.5, 0.9], dtype=np.float32)] * 2,
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps(stored))
    (record,) = load_proposals_into_dataset([{"image_id": 8}], str(path))
    assert_allclose(record["proposal_objectness_logits"], [0.9, 0.5, 0.1])
    doubled = T.TransformList([T.ResizeTransform(10, 10, 20, 20)])
    utils.transform_proposals(record, (20, 20), doubled, proposal_topk=5)
    # Clipped to the image; the box without width is gone.
    assert_allclose(record["proposals"].proposal_boxes.tensor, [[2, 2, 20, 6], [0, 0, 8, 8]])
    assert_allclose(record["proposals"].objectness_logits, [0.9, 0.1])
    assert "proposal_boxes" not in record
    with pytest.raises(KeyError, match="5"):
        load_proposals_into_dataset([{"image_id": 5}], str(path))


def test_train_loader_is_endless_and_test_loader_is_not():
    train = build_detection_train_loader(
        [{"width": 2, "height": 1, "i": i} for i in range(3)], mapper=None, total_batch_size=2
    )
    indices = [sample["i"] for batch in take(train, 6) for sample in batch]
    assert sorted(indices) == sorted([0, 1, 2] * 4)
    test = build_detection_test_loader(list(range(5)), mapper=lambda x: x + 1, batch_size=2)
    assert list(test) == [[1, 2], [3, 4], [5]]


def test_batch_sizes_must_fit(monkeypatch):
    dataset, sampler = DatasetFromList([1, 2, 3, 4]), TrainingSampler(4)
    for total, single in ((4, 2), (0, None), (-2, None)):
        with pytest.raises(MISTAKE):
            build_batch_data_loader(dataset, sampler, total, single_gpu_batch_size=single)
    monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: 2)
    with pytest.raises(MISTAKE, match="3"):
        build_batch_data_loader(dataset, sampler, 3)
    assert len(next(iter(build_batch_data_loader(dataset, sampler, 4)))) == 2


# Images and annotations


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[0, 1], [2, 3]]),
        (2, [[1, 0], [3, 2]]),
        (3, [[3, 2], [1, 0]]),
        (6, [[2, 0], [3, 1]]),
        (8, [[1, 3], [0, 2]]),
        (77, [[0, 1], [2, 3]]),
    ],
)
def test_images_are_turned_upright(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    read = utils.read_image(str(tmp_path / "turned.png"), "L")
    assert_array_equal(read[:, :, 0], expected)


def test_colour_formats(tmp_path):
    pixels = np.array([[[255, 0, 10]]], dtype=np.uint8)
    path = str(tmp_path / "colour.png")
    Image.fromarray(pixels).save(path)
    assert_array_equal(utils.read_image(path, "BGR"), [[[10, 0, 255]]])
    assert_array_equal(utils.read_image(path), pixels)
    # 0.299 R + 0.587 G + 0.114 B
    assert_array_equal(utils.read_image(path, "L"), [[[77]]])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_images_are_errors(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(OSError, match="truncated"):
        utils.read_image(str(path), "BGR")


def test_image_size_is_checked_and_filled_in():
    image = np.zeros((4, 6, 3))
    record = {}
    utils.check_image_size(record, image)
    assert record == {"width": 6, "height": 4}
    with pytest.raises(utils.SizeMismatchError, match=r"a\.jpg.*6.*4.*5"):
        utils.check_image_size({"file_name": "a.jpg", "width": 6, "height": 5}, image)


def test_no_annotations_make_empty_instances():
    instances = utils.annotations_to_instances([], (4, 6))
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert not instances.has("gt_masks")


def test_bitmasks_of_polygons_rle_and_arrays_agree():
    polygon = [0.0, 0.0, 4.0, 0.0, 4.0, 2.0, 0.0, 2.0]
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:2, :4] = 1
    box = {"bbox": [0, 0, 4, 2], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    kinds = ([polygon], mask_util.encode(np.asfortranarray(mask)), mask)
    annotations = [box | {"segmentation": segmentation} for segmentation in kinds]
    instances = utils.annotations_to_instances(annotations, (4, 6), mask_format="bitmask")
    assert_array_equal(instances.gt_masks.tensor, np.stack([mask] * 3))
    assert instances.gt_classes.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="polygon"):
        utils.annotations_to_instances(annotations, (4, 6))
    with pytest.raises(ValueError, match="int"):
        utils.annotations_to_instances([box | {"segmentation": 5}], (4, 6), "bitmask")


def test_empty_instances_are_dropped():
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "segmentation": mask}
        for i, (box, mask) in enumerate(
            [([0, 0, 2, 2], np.eye(4)), ([1, 1, 1, 3], np.eye(4)), ([0, 0, 2, 2], np.zeros((4, 4)))]
        )
    ]
    instances = utils.annotations_to_instances(annotations, (4, 4), "bitmask")
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert kept.gt_classes.tolist() == [0]
    assert mask.tolist() == [True, False, False]
    assert len(utils.filter_empty_instances(instances, by_mask=False)) == 2
    assert len(utils.filter_empty_instances(Instances((4, 4), gt_boxes=kept.gt_boxes))) == 1


# Mapper


@pytest.fixture
def record(tmp_path):
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, 0] = (1, 2, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    box = {"bbox": [2, 2, 4, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    annotations = [
        box | {"segmentation": [TRIANGLE], "keypoints": [3.0, 4.0, 2]},
        box | {"segmentation": [TRIANGLE], "iscrowd": 1},
        box | {"bbox": [5, 5, 0, 3], "segmentation": [TRIANGLE], "keypoints": [0, 0, 0]},
    ]
    return {"file_name": str(path), "width": 20, "height": 10, "annotations": annotations}


def test_mapper_in_training(record):
    before = copy.deepcopy(record)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.HFlipTransform(20), T.Resize((20, 40))],
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        keypoint_hflip_indices=[0],
    )
    sample = mapper(record)
    assert record == before
    assert sample["image"].shape == (3, 20, 40)
    assert sample["image"][:, 0, -1].tolist() == [3, 2, 1]
    # The crowd and the box without width are gone.
    instances = sample["instances"]
    assert instances.image_size == (20, 40)
    assert instances.gt_boxes.tensor.tolist() == [[28, 4, 36, 16]]
    assert_allclose(instances.gt_masks.polygons[0][0], [36, 4, 28, 4, 28, 16])
    assert instances.gt_keypoints.tensor.tolist() == [[[34, 8, 2]]]


def test_mapper_draws_boxes_anew_around_cropped_masks(record):
    parts = {
        "is_train": True,
        "augmentations": [T.CropTransform(0, 0, 4, 10, 20, 10)],
        "image_format": "RGB",
    }
    mapper = DatasetMapper(**parts, use_instance_mask=True, recompute_boxes=True)
    sample = mapper(record)
    # The triangle (2, 2), (6, 2), (6, 8) cut at x = 4 reaches down to y = 5, its box to 8.
    assert sample["instances"].gt_boxes.tensor[0].tolist() == [2, 2, 4, 5]
    assert not sample["instances"].has("gt_keypoints")
    with pytest.raises(MISTAKE, match="mask"):
        DatasetMapper(**parts, recompute_boxes=True)


def test_mapper_in_inference(record):
    mapper = DatasetMapper(is_train=False, augmentations=[T.Resize(10)], image_format="L")
    sample = mapper(record)
    assert sample["image"].shape == (1, 10, 10)
    assert (sample["height"], sample["width"]) == (10, 20)
    assert not {"annotations", "instances"} & sample.keys()
    with pytest.raises(utils.SizeMismatchError):
        mapper(record | {"width": 19})


def test_mapper_moves_label_maps(record, tmp_path):
    labels = np.repeat([[0, 1]], 10, axis=0).repeat(10, axis=1).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    mapper = DatasetMapper(is_train=True, augmentations=[T.HFlipTransform(20)], image_format="RGB")
    sample = mapper(record | {"sem_seg_file_name": str(tmp_path / "labels.png")})
    assert sample["sem_seg"].dtype == torch.int64
    assert_array_equal(sample["sem_seg"], labels[:, ::-1])
