"""The generated people: the same everywhere, valid COCO keypoints, good enough to train on."""

import json
import time

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS
from maskrcnn_repro.data.synthetic.dataset import SPLITS
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people import DIGESTS, MINI_PEOPLE
from maskrcnn_repro.data.synthetic.mini_people.scenes import LEAST_VISIBLE, draw_scene
from maskrcnn_repro.data.synthetic.writing import digest
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.visualization.coco_objects import style_of

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.mini_coco_images import open_image
from tests.helpers.tiny_coco import command_line


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first fifty images of each split."""
    root = tmp_path_factory.mktemp("cache")
    return {split: MINI_PEOPLE.generate(root, split, seed=0, num_images=50) for split in SPLITS}


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(Draws(0, 0, i)) for i in range(1, 91)]


def keypoints_of(annotation):
    return np.array(annotation["keypoints"]).reshape(-1, 3)


# --- the same everywhere


@pytest.mark.parametrize("split", SPLITS)
def test_first_images_have_the_stored_digest(small, split):
    assert digest(small[split]) == DIGESTS[split, 50]


@pytest.mark.slow
def test_whole_set_has_the_stored_digest_and_takes_half_a_minute(tmp_path):
    start = time.process_time()
    folders = {split: MINI_PEOPLE.generate(tmp_path, split) for split in SPLITS}
    assert time.process_time() - start < 40
    for split, data in folders.items():
        assert digest(data) == DIGESTS[split, SPLITS[split]]


def test_splits_and_seeds_differ(small, tmp_path):
    first = {name: open_image(data) for name, data in small.items()}
    first["seed 1"] = open_image(MINI_PEOPLE.generate(tmp_path, "train", 1, 1))
    assert len({image.tobytes() for image in first.values()}) == 3


# --- valid COCO


def test_json_says_what_is_drawn(small):
    coco = COCO(str(small["val"] / "instances.json"))
    for image_id, image in list(coco.imgs.items())[:25]:
        scene = draw_scene(Draws(0, 1, image_id))
        np.testing.assert_array_equal(open_image(small["val"], image_id), scene.image)
        assert scene.image.shape == (image["height"], image["width"], 3)
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(scene.people)
        for index, annotation in enumerate(annotations, start=1):
            mask = scene.owner == index
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            assert annotation["bbox"] == coco_mask.toBbox(encoded).tolist()


def test_keypoints_lie_where_their_visibility_says(scenes):
    for scene in scenes:
        height, width = scene.owner.shape
        for index, annotation in enumerate(scene.annotations(), start=1):
            points = keypoints_of(annotation)
            x, y, visibility = points.T
            assert annotation["num_keypoints"] == (visibility > 0).sum()
            assert not points[visibility == 0].any()
            assert ((x >= 0) & (x < width) & (y >= 0) & (y < height)).all()
            seen = visibility == 2
            assert (scene.owner[y[seen], x[seen]] == index).all()
            assert scene.part[y[seen], x[seen]].all()


def test_a_far_ear_is_not_annotated_and_a_far_shoulder_is_hidden(scenes):
    ears = [COCO_KEYPOINTS.index(f"{side}_ear") for side in ("left", "right")]
    shoulders = [COCO_KEYPOINTS.index(f"{side}_shoulder") for side in ("left", "right")]
    turned, hidden = [], []
    for scene in scenes:
        for person, annotation in zip(scene.people, scene.annotations(), strict=True):
            if not annotation["num_keypoints"]:
                continue
            visibility = keypoints_of(annotation)[:, 2]
            depths = np.array([person.figure.depth(name) for name in COCO_KEYPOINTS])
            far = depths[ears] < -30
            assert not visibility[ears][far].any()
            turned.append(far.any())
            hidden.extend(visibility[shoulders][depths[shoulders] < -60] < 2)
    assert 0.4 < np.mean(turned) < 0.8
    assert np.mean(hidden) > 0.8


def test_mixture_is_that_of_coco(scenes):
    annotations = [annotation for scene in scenes for annotation in scene.annotations()]
    labelled = [a for a in annotations if a["num_keypoints"]]
    shares = np.bincount(np.concatenate([keypoints_of(a)[:, 2] for a in labelled]), minlength=3)
    assert (shares / shares.sum() > (0.05, 0.1, 0.5)).all()
    assert sum(a["iscrowd"] for a in annotations) > 0
    assert all(isinstance(a["segmentation"]["counts"], list) for a in annotations if a["iscrowd"])
    assert len(annotations) - len(labelled) > 8
    assert all(a["area"] < 400 for a in annotations if not (a["num_keypoints"] or a["iscrowd"]))
    # What DATASETS.ONLY_WITH_KEYPOINTS leaves out.
    without = [s for s in scenes if not any(a["num_keypoints"] for a in s.annotations())]
    assert 2 <= len(without) <= 9
    assert {len(scene.people) for scene in scenes} >= {0, 1, 2, 3}


def test_people_hide_each_other_and_are_cut_but_can_be_seen(scenes):
    hidden = cut = 0
    for scene in scenes:
        for index, person in enumerate(scene.people, start=1):
            shown = (scene.owner == index).sum()
            assert 100 * shown >= LEAST_VISIBLE * person.area
            hidden += shown < 0.9 * person.area
            border = [scene.owner[0], scene.owner[-1], scene.owner[:, 0], scene.owner[:, -1]]
            cut += any((edge == index).any() for edge in border)
    assert hidden > 12
    assert cut > 12


def test_exact_keypoints_score_full_points(small):
    coco = COCO(str(small["val"] / "instances.json"))
    results = [
        {key: a[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0}
        for a in coco.dataset["annotations"]
        if a["num_keypoints"]
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1


# --- inside Detectron2


def test_names_skeleton_and_classes_are_registered(catalog):
    cfg = get_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mini_people_seed41_train",), ("mini_people_val",)
    cfg.MODEL.KEYPOINT_ON = cfg.DATASETS.ONLY_WITH_KEYPOINTS = True
    prepare_data(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 17
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS[0] == pytest.approx(0.026)
    metadata = MetadataCatalog.get("mini_people_seed41_train")
    assert metadata.thing_classes == ["person"]
    coco = MetadataCatalog.get("keypoints_coco_2017_train")
    assert metadata.keypoint_names == coco.keypoint_names
    assert metadata.keypoint_flip_map == coco.keypoint_flip_map
    skeleton = MINI_PEOPLE.categories[0]["skeleton"]
    assert [[a + 1, b + 1] for a, b, _ in style_of(metadata).edges] == skeleton


def test_detectron2_maps_keypoints_to_pixel_centres(small):
    data = small["train"]
    dicts = load_coco_json(str(data / "instances.json"), str(data / "images"), "mapped_people")
    MetadataCatalog.remove("mapped_people")
    cfg = get_config()
    cfg.DATASETS.TRAIN = ("mini_people_train",)
    cfg.MODEL.KEYPOINT_ON, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = True, (0,), "none"
    mapper = DatasetMapper(cfg, True)
    for record in dicts[:10]:
        truth = [a for a in draw_scene(Draws(0, 0, record["image_id"])).annotations()]
        points = [keypoints_of(a) for a in truth if not a["iscrowd"]]
        mapped = mapper(record)["instances"]
        assert len(mapped) == len(points)
        for ours, theirs in zip(
            points, mapped.gt_keypoints.tensor.numpy() if points else (), strict=True
        ):
            shown = ours[:, 2] > 0
            np.testing.assert_allclose(theirs[shown, :2], ours[shown, :2] + 0.5)
            np.testing.assert_array_equal(theirs[:, 2], ours[:, 2])


def test_command_line_trains_and_evaluates_masks_and_keypoints(tmp_path, catalog):
    data = MINI_PEOPLE.generate(tmp_path, "train", 0, 4)
    opts = [
        *("MODEL.KEYPOINT_ON", "True", "MODEL.MASK_ON", "True"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.ROI_KEYPOINT_HEAD.NAME", "FCNKeypointHead"),
        *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(8,)"),
    ]
    entry = data / "instances.json", data / "images"
    output = tmp_path / "run"
    assert main(command_line(entry, output, opts=opts)) == 0
    metrics = json.loads((output / "results.json").read_text())["metrics"]
    metrics = metrics.get("tiny", metrics)
    assert set(metrics) == {"bbox", "segm", "keypoints"}
    assert 0 <= metrics["keypoints"]["AP"] <= 100
    assert (output / "predictions.png").stat().st_size > 0
