"""The generated data: the same everywhere, valid COCO, hard enough to need outlines."""

import json
import time

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.synthetic.dataset import SPLITS
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_coco import DIGESTS, MINI_COCO
from maskrcnn_repro.data.synthetic.mini_coco.scenes import (
    COLOUR_SPREAD,
    COLOURS,
    LARGEST,
    LEAST_VISIBLE,
    draw_scene,
)
from maskrcnn_repro.data.synthetic.writing import digest

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.mini_coco_images import open_image


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first fifty images of each split."""
    root = tmp_path_factory.mktemp("cache")
    return {split: MINI_COCO.generate(root, split, seed=0, num_images=50) for split in SPLITS}


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


# --- the same everywhere


@pytest.mark.parametrize("split", SPLITS)
def test_first_images_have_the_stored_digest(small, split):
    assert digest(small[split]) == DIGESTS[split, 50]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_whole_set_has_the_stored_digest(tmp_path, split):
    start = time.process_time()
    data = MINI_COCO.generate(tmp_path, split)
    assert digest(data) == DIGESTS[split, SPLITS[split]]
    assert time.process_time() - start < 60


def test_images_do_not_depend_on_how_many_follow(small, tmp_path):
    few = json.loads((MINI_COCO.generate(tmp_path, "val", 0, 3) / "instances.json").read_text())
    many = json.loads((small["val"] / "instances.json").read_text())
    assert few["images"] == many["images"][:3]
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]


def test_splits_and_seeds_differ(small, tmp_path):
    first = {name: open_image(data) for name, data in small.items()}
    first["seed 1"] = open_image(MINI_COCO.generate(tmp_path, "train", 1, 1))
    assert len({image.tobytes() for image in first.values()}) == 3


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
    assert kinds.count("polygon") > len(kinds) / 3
    assert kinds.count(str) > len(kinds) / 3
    assert kinds.count(list) == sum(crowds) > 0
    assert all(kind is list for kind, crowd in zip(kinds, crowds, strict=True) if crowd)
    assert 1 <= sum(not s.objects for s in scenes) <= 10
    assert {a["category_id"] for a, _ in objects} == {1, 2, 3, 5, 6, 8, 9, 12}
    # Two to five, seldom a crowd.
    assert {len(s.objects) for s in scenes} | {6} == {0, 2, 3, 4, 5, 6}
    assert {s.owner.shape[0] > s.owner.shape[1] for s in scenes} == {True, False}
    for annotation, thing in objects:
        assert 100 * annotation["area"] >= LEAST_VISIBLE * thing.full_area
        assert max(annotation["bbox"][2:]) <= LARGEST + 1


def test_objects_stand_out_from_the_ground():
    gaps = []
    for i in range(1, 60):
        scene = draw_scene(Draws(0, 0, i))
        ground = scene.image[scene.owner == 0].mean(axis=0)
        for index in range(1, len(scene.objects) + 1):
            colour = scene.image[scene.owner == index].mean(axis=0)
            gaps.append(np.abs(colour - ground).sum())
    assert min(gaps) > 30
    assert np.percentile(gaps, 5) > 70


def test_a_class_has_a_typical_colour_which_alone_does_not_tell_it():
    seen = {name: [] for name in COLOURS}
    for i in range(1, 120):
        scene = draw_scene(Draws(0, 0, i))
        for index, thing in enumerate(scene.objects, start=1):
            seen[thing.category].append(scene.image[scene.owner == index].mean(axis=0))
    nearest = []
    for name, colours in seen.items():
        np.testing.assert_allclose(np.mean(colours, axis=0), COLOURS[name], atol=16)
        # The second colour of a texture lies up to 60 from the first, its grain is 4.
        np.testing.assert_allclose(colours, [COLOURS[name]] * len(colours), atol=COLOUR_SPREAD + 64)
        gaps = [np.abs(np.subtract(colours, typical)).sum(axis=1) for typical in COLOURS.values()]
        nearest.extend(list(COLOURS)[i] == name for i in np.argmin(gaps, axis=0))
    assert 0.75 < np.mean(nearest) < 0.95


def test_outlines_are_needed(tmp_path):
    coco = COCO(str(MINI_COCO.generate(tmp_path, "val", 0, 200) / "instances.json"))
    assert ground_truth_as_detections(coco, filled_box) < 8
    assert ground_truth_as_detections(coco, inscribed_ellipse) < 18


@pytest.mark.slow
def test_outlines_are_needed_on_the_whole_set(tmp_path):
    coco = COCO(str(MINI_COCO.generate(tmp_path, "val") / "instances.json"))
    assert ground_truth_as_detections(coco, filled_box) < 8
    assert ground_truth_as_detections(coco, inscribed_ellipse) < 18


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
