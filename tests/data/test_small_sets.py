"""The generated data of level small: limbs by hand, the same everywhere, every class, proportions near COCO's."""

import json

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.synthetic import small_coco, small_crops, small_people
from maskrcnn_repro.data.synthetic.dataset import SPLITS
from maskrcnn_repro.data.synthetic.draws import Draws, lengths
from maskrcnn_repro.data.synthetic.outlines import place
from maskrcnn_repro.data.synthetic.small_coco import SMALL_COCO
from maskrcnn_repro.data.synthetic.small_coco.grounds import expose
from maskrcnn_repro.data.synthetic.small_coco.kinds import FURTHER_KINDS, KINDS
from maskrcnn_repro.data.synthetic.small_coco.scenes import (
    LEAST_VISIBLE,
    LONGEST,
    SHORTEST,
    draw_scene,
    longest_of,
)
from maskrcnn_repro.data.synthetic.small_coco.shapes import Body, limb
from maskrcnn_repro.data.synthetic.small_coco.surfaces import paint_surface
from maskrcnn_repro.data.synthetic.small_coco.things import Outline, _cover, draw_outline
from maskrcnn_repro.data.synthetic.small_crops import CLASSES, SMALL_CROPS, draw_crop
from maskrcnn_repro.data.synthetic.small_people import SMALL_PEOPLE, draw_photograph
from maskrcnn_repro.data.synthetic.writing import digest
from maskrcnn_repro.data.thin_parts import thin_share
from maskrcnn_repro.errors import DataError

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from pycocotools.coco import COCO

SETS = {
    "small_coco": (SMALL_COCO, small_coco.DIGESTS),
    "small_crops": (SMALL_CROPS, small_crops.DIGESTS),
    "small_people": (SMALL_PEOPLE, small_people.DIGESTS),
}


# --- by hand


def test_a_limb_of_ten_pixels_covers_ten_pixels_of_each_row():
    body = Body(length=200)  # a pixel is ten units
    assert body.units(10) == 100
    ring, end = limb((0, -500), 90, 800, (100, 100))
    assert end == (0, 300)
    mask, _, _ = _cover(place([ring], (200, 200), 0, (500, 500)), [])
    rows = mask.sum(axis=1)
    assert set(rows[rows > 0].tolist()) == {10}
    assert (rows > 0).sum() == 80


def test_a_limb_becomes_thinner_and_bends():
    ring, end = limb((0, 0), 0, 400, (100, 60), bend=90)
    # Seven chords of 57 units at 0, 12, 25, 38, 51, 64 and 77 degrees.
    np.testing.assert_allclose(end, (57 * 4.964, 57 * 3.897), atol=7)
    first, last = np.array(ring[0]) - ring[-1], np.array(ring[7]) - ring[8]
    assert np.hypot(*first) == pytest.approx(100, abs=2)
    assert np.hypot(*last) == pytest.approx(60, abs=2)


def test_a_hole_is_no_part_of_the_mask():
    square = [(-1000, -1000), (1000, -1000), (1000, 1000), (-1000, 1000)]
    hole = [(x // 2, y // 2) for x, y in square]
    rings = place([square, hole], (20, 20), 0, (100, 100))
    mask, left, top = _cover(rings[:1], rings[1:])
    assert mask.sum() == 20 * 20 - 10 * 10
    assert (left, top) == (10, 10)


def test_a_window_is_cropped_to_the_image():
    mask = np.ones((4, 6), dtype=bool)
    inside, cut = Outline(mask, left=-2, top=7, length=6, turn=0).crop(10, 10)
    assert inside == np.s_[7:10, 0:4]
    assert cut == np.s_[0:3, 2:6]
    inside, cut = Outline(mask, left=20, top=0, length=6, turn=0).crop(10, 10)
    assert np.zeros((10, 10))[inside].size == mask[cut].size == 0


def test_bands_cross_the_axis_and_lines_follow_it():
    grey = (100, 100, 100)
    banded = paint_surface(Draws(3), "banded", grey, (60, 60), 100, turn=0)
    lined = paint_surface(Draws(3), "lined", grey, (60, 60), 100, turn=0)
    steps = [
        np.abs(np.diff(area[..., 1], axis=a)).max() for area in (banded, lined) for a in (0, 1)
    ]
    assert steps[0] > 15 > steps[1]
    assert steps[3] > 15 > steps[2]
    # The pitch is 7 to 12 percent of the length.
    rows = np.flatnonzero(np.abs(np.diff(banded[:, 0, 1])) > 15)
    assert set(np.diff(rows)) <= set(range(3, 7))


def test_lengths_are_those_of_a_log_scale():
    assert lengths(80, 93) == [80, 84, 88, 92]
    ratios = np.divide(
        *[np.array(lengths(80, 480))[i : len(lengths(80, 480)) - 1 + i] for i in (1, 0)]
    )
    assert 1.03 < ratios.min()
    assert ratios.max() <= 1.05


def test_exposure_of_a_grey_image_leaves_it_nearly_grey():
    image = expose(Draws(5), np.full((64, 96, 3), 128, np.int16))
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    assert not (image % 2).any()
    assert 60 < image.mean() < 141
    assert 1 < image.std() < 40


# --- the same everywhere


@pytest.mark.parametrize("name", SETS)
def test_first_images_have_the_stored_digest(tmp_path, name):
    data, digests = SETS[name]
    folder = data.generate(tmp_path, "val", 0, 2)
    assert digest(folder) == digests["val", 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split", "count"),
    [(name, *key) for name, (_, digests) in SETS.items() for key in digests],
)
def test_more_images_have_the_stored_digest(tmp_path, name, split, count):
    data, digests = SETS[name]
    assert digest(data.generate(tmp_path, split, 0, count)) == digests[split, count]


@pytest.mark.parametrize(
    "name",
    [
        "small_crops",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("small_coco", "small_people")),
    ],
)
def test_images_do_not_depend_on_how_many_follow(tmp_path, name):
    few, many = (
        json.loads((SETS[name][0].generate(tmp_path, "val", 1, n) / "instances.json").read_text())
        for n in (1, 3)
    )
    assert few["images"] == many["images"][:1]
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]


# --- what is drawn


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(Draws(0, 0, i)) for i in (1, 2, 5)]


@pytest.mark.slow
def test_every_class_appears_and_proportions_are_those_of_the_docs():
    drawn = [draw_scene(Draws(0, 0, i)) for i in range(1, 121)]
    objects = [o for scene in drawn for o in scene.objects]
    assert {o.kind for o in objects} == {*KINDS}
    assert 2 <= sum(o.is_crowd for o in objects) <= 16
    counts = [sum(not o.is_crowd for o in scene.objects) for scene in drawn]
    assert 0 in counts
    assert 1 in counts
    assert max(counts) >= 12
    assert 3.5 < np.mean(counts) < 5.5


def colours_by_class(stream, count):
    """The mean colour of each object, and its class."""
    colours, kinds = [], []
    for scene in (draw_scene(Draws(0, stream, i)) for i in range(1, count + 1)):
        for index, thing in enumerate(scene.objects, start=1):
            colours.append(scene.image[scene.owner == index].mean(axis=0))
            kinds.append(KINDS.index(thing.kind))
    return np.array(colours), np.array(kinds)


@pytest.mark.slow
def test_colour_alone_is_a_weak_cue():
    colours, kinds = colours_by_class(0, 250)
    means = np.array([colours[kinds == k].mean(axis=0) for k in range(len(KINDS))])
    colours, kinds = colours_by_class(1, 250)
    nearest = ((colours[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.25 < (nearest == kinds).mean() < 0.4


@pytest.mark.slow
def test_masks_have_detail_below_a_cell():
    drawn = [draw_scene(Draws(0, 1, i)) for i in range(1, 41)]
    shares = [
        thin_share(scene.owner == index, 16)
        for scene in drawn
        for index in range(1, len(scene.objects) + 1)
    ]
    assert 0.1 < np.median(shares) < 0.35


def test_masks_are_what_is_visible(scenes):
    for scene in scenes:
        for index, (thing, annotation) in enumerate(
            zip(scene.objects, scene.annotations(), strict=True), start=1
        ):
            shown = scene.owner == index
            assert annotation["area"] == shown.sum() == thing.shown
            if thing.is_crowd:
                assert isinstance(annotation["segmentation"]["counts"], list)
                continue
            np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), shown)
            assert 100 * thing.shown >= LEAST_VISIBLE * thing.area
            assert max(annotation["bbox"][2:]) <= LONGEST


def test_many_objects_are_small():
    assert longest_of(1) == LONGEST
    assert longest_of(5) == 400
    assert SHORTEST < longest_of(15) < 240


def test_outlines_are_tight():
    for kind in KINDS:
        mask = draw_outline(Draws(9), kind.shape, 90, (50, 50)).mask
        edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
        assert all(edge.any() for edge in edges)
        assert 0.15 < mask.mean() < 0.9


def test_a_crop_has_one_annotation_and_every_class():
    crops = [draw_crop(Draws(0, 0, i)) for i in range(1, 25)]
    annotations = [crop.annotations() for crop in crops]
    assert {len(a) for a in annotations} == {1}
    for crop, (annotation,) in zip(crops, annotations, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), crop.mask)
        assert 1 <= annotation["category_id"] <= len(CLASSES)
    assert len({a["category_id"] for (a,) in annotations}) > 12


@pytest.mark.slow
def test_crops_show_every_class():
    assert {draw_crop(Draws(0, 0, i)).category_id for i in range(1, 301)} == set(range(1, 25))


def test_classes_share_shapes_and_textures():
    assert len({*KINDS, *FURTHER_KINDS}) == len(CLASSES) == 24
    shapes = [kind.shape for kind in CLASSES]
    assert {shapes.count(shape) for shape in shapes} == {3}
    surfaces = [kind.surface for kind in KINDS]
    assert {surfaces.count(surface) for surface in surfaces} == {2}
    # Neither shape nor texture alone tells a class.
    assert len({kind.shape for kind in KINDS}) == 8
    assert len({kind.name for kind in KINDS}) == 12


def test_figures_are_large_and_labelled():
    annotations = draw_photograph(Draws(0, 1, 1)).annotations()
    labelled = [a for a in annotations if a["num_keypoints"]]
    assert len(labelled) > 2
    assert max(max(a["bbox"][2:]) for a in labelled) > 200


# --- inside Detectron2


def test_names_are_registered(catalog):
    cfg = get_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("small_crops_seed41_train",), ("small_crops_val",)
    prepare_data(cfg)
    assert MetadataCatalog.get("small_crops_seed41_train").thing_classes == [
        k.name for k in CLASSES
    ]
    assert MetadataCatalog.get("small_coco_train").thing_classes == [k.name for k in KINDS]
    assert MetadataCatalog.get("small_people_seed1_val").thing_classes == ["person"]
    assert all(f"{name}_seed1_{split}" in DatasetCatalog for name in SETS for split in SPLITS)


def test_a_classifier_reads_the_first_class(tmp_path):
    data = SMALL_CROPS.generate(tmp_path, "train", 0, 3)
    coco = COCO(str(data / "instances.json"))
    cfg = get_config()
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT, cfg.INPUT.MIN_SIZE_TRAIN = True, "bitmask", (0,)
    mapper = DatasetMapper(cfg, True)
    dicts = load_coco_json(str(data / "instances.json"), str(data / "images"), "crops_mapped")
    MetadataCatalog.remove("crops_mapped")
    for record in dicts:
        instances = mapper(record)["instances"]
        (annotation,) = coco.imgToAnns[record["image_id"]]
        assert instances.gt_classes.tolist() == [annotation["category_id"] - 1]
        assert instances.gt_masks.tensor.sum() == annotation["area"]


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_split_is_told(tmp_path, name):
    with pytest.raises(DataError, match=r"'trian' is not one of train, val.*'train'"):
        SETS[name][0].generate(tmp_path, "trian")
