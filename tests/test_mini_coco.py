"""The generated data: geometry by hand, valid COCO, the same everywhere, safe to write at once."""

import json
import multiprocessing
import os
import signal
import time

import maskrcnn_repro
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.mini_coco import (
    DIGESTS,
    SPLITS,
    digest,
    generate,
    mini_coco_name,
    register_mini_coco,
    writing,
)
from maskrcnn_repro.data.mini_coco.draws import ONE, Draws, cosine, sine
from maskrcnn_repro.data.mini_coco.scenes import LEAST_VISIBLE, draw_scene
from maskrcnn_repro.data.mini_coco.shapes import SHAPES, area, fill, place
from maskrcnn_repro.errors import DataError

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the test forks"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first fifty images of each split."""
    root = tmp_path_factory.mktemp("cache")
    return {split: generate(root, split, seed=0, num_images=50) for split in SPLITS}


def square(low, high):
    return [(low, low), (high, low), (high, high), (low, high)]


def overlap_with_pycocotools(mask, polygon):
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygon, *mask.shape))) > 0
    return (drawn & mask).sum() / (drawn | mask).sum()


def ground_truth_as_detections(coco, shape):
    """Every single object as a detection of score 1 whose mask is ``shape(height, width, box)``."""
    results = []
    for annotation in coco.dataset["annotations"]:
        if annotation["iscrowd"]:
            continue
        image = coco.imgs[annotation["image_id"]]
        mask = shape(image["height"], image["width"], annotation["bbox"])
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "score": 1.0,
                "segmentation": coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
            }
        )
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return 100 * evaluation.stats[0]


def filled_box(height, width, box):
    left, top, w, h = box
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + h, left : left + w] = True
    return mask


def inscribed_ellipse(height, width, box):
    left, top, w, h = box
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - left - w / 2) / (w / 2)) ** 2 + ((y - top - h / 2) / (h / 2)) ** 2 <= 1


# --- geometry by hand


def test_sine_of_the_angles_everybody_knows():
    assert [sine(d) for d in (0, 30, 90, 150, 180, 210, 270, 360, -30)] == [
        0, ONE // 2, ONE, ONE // 2, 0, -ONE // 2, -ONE, 0, -ONE // 2,
    ]  # fmt: skip
    assert [cosine(d) for d in (0, 60, 90, 180)] == [ONE, ONE // 2, 0, -ONE]
    table = [sine(d) for d in range(360)]
    np.testing.assert_allclose(table, ONE * np.sin(np.radians(range(360))), atol=0.501)


def test_square_of_three_pixels_fills_three_by_three():
    mask = fill([square(5, 20)], height=6, width=7)  # fifths: from 1 to 4 pixels
    expected = np.zeros((6, 7), dtype=bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    assert area([square(5, 20)]) == 9


def test_second_ring_is_a_hole():
    rings = [square(0, 25), square(10, 15)]
    mask = fill(rings, height=5, width=5)
    assert not mask[2, 2]
    assert mask.sum() == area(rings) == 24


def test_shape_beyond_the_border_is_cut():
    mask = fill([square(-10, 10)], height=4, width=3)
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not fill([square(100, 200)], height=4, width=3).any()


def test_place_stretches_turns_and_moves():
    # The unit square as 4 x 2 pixels, turned by 90 degrees about (10, 20) pixels: 2 wide, 4 high.
    corners = [[(-1000, -1000), (1000, 1000)]]
    assert place(corners, size=(4, 2), degrees=90, centre=(50, 100)) == [[(55, 90), (45, 110)]]


def test_masks_are_those_pycocotools_draws():
    draws = Draws(7)
    for name in [n for n in SHAPES if n != "ring"] * 12:
        size = draws.between(12, 60), draws.between(9, 60)
        outline = place(SHAPES[name](draws), size, draws.below(360), (280, 310))
        polygon = [[v / 5 for point in outline[0] for v in point]]
        assert overlap_with_pycocotools(fill(outline, 130, 120), polygon) >= 0.97, (name, size)


# --- random numbers


def test_stream_is_numpys_raw_one():
    raw = np.random.PCG64(np.random.SeedSequence((3, 1))).random_raw(2)
    draws = Draws(3, 1)
    assert [draws.below(1000), draws.below(1000)] == [(int(w) >> 32) * 1000 >> 32 for w in raw]


def test_range_includes_both_ends():
    draws = Draws(0)
    assert {draws.between(3, 6) for _ in range(200)} == {3, 4, 5, 6}
    octets = draws.octets(100, 30)
    assert octets.shape == (100, 30)
    assert (octets.min(), octets.max()) == (0, 255)


# --- the same everywhere


@pytest.mark.parametrize("split", SPLITS)
def test_first_images_have_the_stored_digest(small, split):
    assert digest(small[split]) == DIGESTS[split, 50]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_whole_set_has_the_stored_digest(tmp_path, split):
    start = time.process_time()
    data = generate(tmp_path, split)
    assert digest(data) == DIGESTS[split, SPLITS[split]]
    assert time.process_time() - start < 60


def test_images_do_not_depend_on_how_many_follow(small, tmp_path):
    few = json.loads((generate(tmp_path, "val", 0, 3) / "instances.json").read_text())
    many = json.loads((small["val"] / "instances.json").read_text())
    assert few["images"] == many["images"][:3]
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]


def test_splits_and_seeds_differ(small, tmp_path):
    first = {name: open_image(data) for name, data in small.items()}
    first["seed 1"] = open_image(generate(tmp_path, "train", 1, 1))
    assert len({image.tobytes() for image in first.values()}) == 3


def open_image(data, number=1):
    return np.asarray(Image.open(data / "images" / f"{number:06d}.png"))


# --- valid COCO


@pytest.mark.parametrize("split", SPLITS)
def test_json_says_what_is_drawn(small, split):
    coco = COCO(str(small[split] / "instances.json"))
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert sorted(coco.imgs) == list(range(1, 51))
    assert len(coco.cats) >= 8
    assert max(coco.cats) > len(coco.cats)
    for image_id, image in coco.imgs.items():
        scene = draw_scene(Draws(0, list(SPLITS).index(split), image_id))
        pixels = np.asarray(Image.open(small[split] / "images" / image["file_name"]))
        np.testing.assert_array_equal(pixels, scene.image)
        assert pixels.shape == (image["height"], image["width"], 3)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(scene.objects)
        for index, annotation in enumerate(annotations, start=1):
            mask = scene.owner == index
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            assert annotation["bbox"] == coco_mask.toBbox(encoded).tolist()


def test_mixture_is_that_of_coco():
    scenes = [draw_scene(Draws(0, 0, i)) for i in range(1, 151)]
    objects = [(a, o) for s in scenes for a, o in zip(s.annotations(), s.objects, strict=True)]
    kinds = [
        "polygon" if isinstance(a["segmentation"], list) else type(a["segmentation"]["counts"])
        for a, _ in objects
    ]
    crowds = [a["iscrowd"] for a, _ in objects]
    assert kinds.count("polygon") > len(kinds) / 2
    assert kinds.count(str) > len(kinds) / 5
    assert kinds.count(list) == sum(crowds) > 0
    assert all(kind is list for kind, crowd in zip(kinds, crowds, strict=True) if crowd)
    assert 1 <= sum(not s.objects for s in scenes) <= 10
    assert {a["category_id"] for a, _ in objects} == {1, 2, 3, 5, 6, 8, 9, 12}
    assert max(len(s.objects) for s in scenes) <= 7
    assert {s.owner.shape[0] > s.owner.shape[1] for s in scenes} == {True, False}
    for annotation, thing in objects:
        assert 100 * annotation["area"] >= LEAST_VISIBLE * thing.full_area


def test_objects_stand_out_from_the_ground():
    for i in range(1, 40):
        scene = draw_scene(Draws(0, 0, i))
        ground = scene.image[scene.owner == 0].mean(axis=0)
        for index in range(1, len(scene.objects) + 1):
            colour = scene.image[scene.owner == index].mean(axis=0)
            assert np.abs(colour - ground).sum() > 60


def test_outlines_are_needed(tmp_path):
    coco = COCO(str(generate(tmp_path, "val", 0, 200) / "instances.json"))
    assert ground_truth_as_detections(coco, filled_box) < 15
    assert ground_truth_as_detections(coco, inscribed_ellipse) < 25


@pytest.mark.slow
def test_outlines_are_needed_on_the_whole_set(tmp_path):
    coco = COCO(str(generate(tmp_path, "val") / "instances.json"))
    assert ground_truth_as_detections(coco, filled_box) < 15
    assert ground_truth_as_detections(coco, inscribed_ellipse) < 25


def test_detectron2_loads_and_maps_every_kind_of_mask(small):
    data = small["train"]
    dicts = load_coco_json(str(data / "instances.json"), str(data / "images"), "mini_coco_mapped")
    MetadataCatalog.remove("mini_coco_mapped")
    cfg = get_config()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)  # no resizing, so that masks can be compared pixel by pixel
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper = DatasetMapper(cfg, True)
    compared = 0
    for record in dicts[:20]:
        scene = draw_scene(Draws(0, 0, record["image_id"]))
        singles = [i for i, o in enumerate(scene.objects, start=1) if o.outline is not None]
        instances = mapper(record)["instances"]
        assert len(instances) == len(singles)
        for number, index in enumerate(singles):
            mask = instances.gt_masks.tensor[number].numpy()
            np.testing.assert_array_equal(mask, scene.owner == index)
            compared += 1
    assert compared > 40


# --- names


def test_names_are_registered_and_nothing_is_written():
    for seed in (0, 1):
        for split in SPLITS:
            metadata = MetadataCatalog.get(mini_coco_name(split, seed))
            assert metadata.name in DatasetCatalog
            assert metadata.evaluator_type == "coco"
            assert metadata.thing_classes == sorted(SHAPES)
    assert mini_coco_name("val") == "mini_coco_val"
    assert mini_coco_name("train", 5) == "mini_coco_seed5_train"


def test_first_loading_writes_the_json(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path))
    monkeypatch.setitem(SPLITS, "train", 3)
    monkeypatch.setitem(SPLITS, "val", 2)
    register_mini_coco(977)
    register_mini_coco(977)  # a second time changes nothing
    metadata = MetadataCatalog.get("mini_coco_seed977_val")
    assert not any(tmp_path.iterdir())
    dicts = DatasetCatalog.get("mini_coco_seed977_val")
    assert [os.path.isfile(d["file_name"]) for d in dicts] == [True, True]
    assert os.path.isfile(metadata.json_file)
    assert metadata.image_root == os.path.dirname(dicts[0]["file_name"])
    for split in SPLITS:
        DatasetCatalog.remove(mini_coco_name(split, 977))
        MetadataCatalog.remove(mini_coco_name(split, 977))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MASKRCNN_REPRO_CACHE": "a", "DETECTRON2_DATASETS": "b"}, "a"),
        ({"DETECTRON2_DATASETS": "b", "XDG_CACHE_HOME": "c"}, "b"),
        ({"XDG_CACHE_HOME": "c"}, os.path.join("c", "maskrcnn_repro")),
    ],
)
def test_cache_folder_follows_the_variables(monkeypatch, variables, expected):
    for name in ("MASKRCNN_REPRO_CACHE", "DETECTRON2_DATASETS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(writing.cache_root()) == expected


def test_cache_folder_without_variables_is_the_users(monkeypatch):
    for name in ("MASKRCNN_REPRO_CACHE", "DETECTRON2_DATASETS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert writing.cache_root().is_relative_to(os.path.expanduser("~"))


# --- writing


@needs_fork
def test_many_processes_at_once_write_once(tmp_path, monkeypatch):
    log = tmp_path / "log"
    draw_all = writing._draw_all

    def slowly(images, contents):
        with log.open("a") as file:
            file.write("written\n")
        time.sleep(0.3)
        return draw_all(images, contents)

    monkeypatch.setattr(writing, "_draw_all", slowly)
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=generate, args=(tmp_path, "val", 0, 4), daemon=True)
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert log.read_text() == "written\n"
    monkeypatch.undo()
    data = generate(tmp_path, "val", 0, 4)
    assert len(list((data / "images").iterdir())) == 4
    assert not list(data.parent.glob("*.tmp-*"))


@needs_fork
def test_killed_writer_leaves_nothing_behind(tmp_path, monkeypatch):
    def die_half_way(images, contents):
        (images / "000001.png").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_draw_all", die_half_way)
        writer = multiprocessing.get_context("fork").Process(
            target=generate, args=(tmp_path, "val", 0, 2)
        )
        writer.start()
        writer.join(30)
    assert writer.exitcode == -signal.SIGKILL
    target = writing.folder(tmp_path, "val", 0, 2)
    assert not target.exists()
    assert len(list(target.parent.glob("*.tmp-*"))) == 1
    assert generate(tmp_path, "val", 0, 2) == target
    assert open_image(target).ndim == 3
    assert not list(target.parent.glob("*.tmp-*"))


def test_folder_without_the_right_marker_is_written_again(tmp_path):
    data = generate(tmp_path, "val", 0, 1)
    expected = digest(data)
    (data / "complete.json").write_text('{"version":0}')
    (data / "instances.json").write_text("{}")
    assert digest(generate(tmp_path, "val", 0, 1)) == expected


def test_complete_set_is_not_touched(tmp_path):
    data = generate(tmp_path, "val", 0, 1)
    before = (data / "instances.json").stat().st_mtime_ns
    generate(tmp_path, "val", 0, 1)
    assert (data / "instances.json").stat().st_mtime_ns == before


def test_new_version_gets_a_new_folder(tmp_path, monkeypatch):
    old = generate(tmp_path, "val", 0, 1)
    monkeypatch.setattr(writing, "VERSION", writing.VERSION + 1)
    new = generate(tmp_path, "val", 0, 1)
    assert new != old
    assert old.is_dir()


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"Split 'vall' is not one of train, val\. Did you mean 'val'"
    ):
        generate(tmp_path, "vall")
    with pytest.raises(DataError, match=r"Seed -1 has to be >= 0"):
        generate(tmp_path, "val", -1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*set MASKRCNN_REPRO_CACHE"):
        generate(tmp_path / "file", "val", 0, 1)


def test_backend_is_known():
    assert maskrcnn_repro.BACKEND.name in ("installed", "embedded")
