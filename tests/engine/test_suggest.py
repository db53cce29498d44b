"""Values that follow from a data set's statistics, worked out by hand; what the user gave stays."""

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.check.sizes import anchor_shapes
from maskrcnn_repro.data.statistics import Statistics
from maskrcnn_repro.engine.suggest import anchor_sizes, suggestions

import numpy as np
import pytest


def statistics(*, images=100, size=(1024, 1024), extents=(64,), each=4, empty=0, masks=True):
    """Square objects, ``each`` in every image but the last ``empty`` ones; their sides repeat ``extents``."""
    places = np.repeat(np.arange(images - empty), each)
    sides = np.resize(np.array(extents, float), len(places))
    return Statistics(
        sizes=np.tile(np.array(size), (images, 1)),
        sides=np.stack([sides, sides], axis=1),
        images=places,
        outlined=np.full(len(places), masks),
        classes=1,
    )


def chosen(train, test=None, given=(), opts=(), config="mini/own_data.yaml"):
    cfg = load_config(config, [*opts, "DATASETS.TEST", "('val',)"])
    rows = suggestions(cfg, train, test or train, given)
    assert len({row.key for row in rows}) == len(rows)
    assert all(row.reason for row in rows)
    return {row.key: row.value for row in rows}


@pytest.mark.parametrize(
    ("size", "extent", "short"),
    [
        ((1024, 1024), 400, 256),  # large objects: the least side
        ((1024, 1024), 64, 384),  # 1024 * 24 / 64
        ((1024, 1024), 20, 1024),  # small objects forbid it
        ((256, 256), 8, 256),  # never larger than the images
        ((100, 80), 40, 80),
        ((1, 1), 1, 1),
    ],
)
def test_the_image_size_follows_from_small_objects(size, extent, short):
    values = chosen(statistics(size=size, extents=(extent,)))
    assert values["INPUT.MIN_SIZE_TRAIN"] == (short,)
    assert values["INPUT.MIN_SIZE_TEST"] == short


def test_long_images_keep_their_shape_up_to_a_limit():
    assert chosen(statistics(size=(640, 320), extents=(20,)))["INPUT.MAX_SIZE_TRAIN"] == 640
    values = chosen(statistics(size=(5000, 4000), extents=(15,)))
    assert values["INPUT.MAX_SIZE_TRAIN"] == values["INPUT.MAX_SIZE_TEST"] == 1333


@pytest.mark.parametrize(
    ("low", "high", "levels", "sizes"),
    [
        (20, 20, 3, [[20], [40], [80]]),
        (16, 64, 3, [[16], [32], [64]]),
        (150, 256, 3, [[75], [150], [300]]),  # large objects on coarse maps
        (2, 4, 3, [[8], [16], [32]]),
        (16, 512, 3, [[16, 32], [64, 128], [256, 512]]),
        (50, 50, 1, [[50]]),
        (32, 512, 1, [[32, 64, 128, 256, 512]]),
    ],
)
def test_anchors_cover_four_fifths_of_the_objects(low, high, levels, sizes):
    assert anchor_sizes(low, high, levels, 4) == sizes


@pytest.mark.parametrize("seed", range(20))
def test_every_square_between_both_ends_has_an_anchor_of_at_least_half_its_area(seed):
    low, high = np.sort(np.random.default_rng(seed).uniform(10, 800, 2))
    sizes = np.array(anchor_sizes(low, high, 3, 4)).ravel()
    assert (np.diff(sizes) > 0).all()
    for side in np.linspace(low, high, 50):
        ratio = np.minimum(sizes, side) / np.maximum(sizes, side)
        assert ratio.max() ** 2 > 0.48  # 0.5, and what rounding to whole pixels costs


def test_anchors_are_those_of_the_resized_image():
    values = chosen(statistics(extents=(64,)))  # 1024 px become 384
    assert values["MODEL.ANCHOR_GENERATOR.SIZES"][0] == [24]


def test_without_an_rpn_no_anchors_are_chosen():
    opts = ["MODEL.LOAD_PROPOSALS", "True"]
    assert "MODEL.ANCHOR_GENERATOR.SIZES" not in chosen(statistics(), opts=opts)


def test_long_objects_get_long_anchors():
    train = statistics()
    tall = Statistics(
        train.sizes, train.sides * (1, 4), train.images, train.outlined, train.classes
    )
    cfg = load_config("mini/own_data.yaml", ["DATASETS.TEST", "('val',)"])
    values = chosen(tall)
    assert values["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == [[0.5, 1.0, 4.0]]
    assert "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS" not in chosen(train)
    assert anchor_shapes(cfg)  # the base stays as it is
    assert cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS == [[0.5, 1.0, 2.0]]


def test_the_schedule_follows_from_the_number_of_images():
    values = chosen(statistics(images=100))  # 250 * 10 images in batches of 2
    assert values["SOLVER.MAX_ITER"] == 1250
    assert values["SOLVER.WARMUP_ITERS"] == 62
    assert values["TEST.EVAL_PERIOD"] == values["SOLVER.CHECKPOINT_PERIOD"] == 125
    assert values["TEST.BEST_METRIC"] == "segm/AP"
    assert values["TEST.PATIENCE"] == 5
    assert "SOLVER.STEPS" not in values  # a cosine has none


def test_a_large_validation_set_is_evaluated_less_often():
    values = chosen(statistics(images=100), statistics(images=500))
    # A quarter of 2,500 images, of which two cost as much as one that is trained on.
    assert values["TEST.EVAL_PERIOD"] == 625
    assert "TEST.PATIENCE" not in values


@pytest.mark.parametrize(("last", "steps"), [(9000, (6000, 8000)), (2, (1,)), (1, ())])
def test_steps_of_a_stepped_schedule_are_the_papers(last, steps):
    values = chosen(
        statistics(images=100),
        config="coco/r50_fpn.yaml",
        given={"SOLVER.MAX_ITER"},
        opts=["SOLVER.MAX_ITER", str(last)],
    )
    assert values["SOLVER.STEPS"] == steps


def test_detections_follow_from_the_fullest_image():
    assert chosen(statistics(each=4))["TEST.DETECTIONS_PER_IMAGE"] == 50
    values = chosen(statistics(each=4), statistics(each=200))
    assert values["TEST.DETECTIONS_PER_IMAGE"] == 300
    assert values["MODEL.RPN.POST_NMS_TOPK_TEST"] == 600
    assert "MODEL.RPN.PRE_NMS_TOPK_TEST" not in values  # the base has 1,000


def test_thousands_of_tiny_objects():
    values = chosen(statistics(images=3, size=(2000, 1500), each=5000, extents=(6,)))
    assert values["TEST.DETECTIONS_PER_IMAGE"] == 2000
    assert values["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] == 128
    assert values["MODEL.RPN.BATCH_SIZE_PER_IMAGE"] == 256
    assert values["MODEL.INFERENCE.MASK_OUTPUT"] == "rle"


def test_images_without_objects_are_kept_where_there_are_some():
    key = "DATALOADER.FILTER_EMPTY_ANNOTATIONS"
    assert chosen(statistics(images=10, empty=3))[key] is False
    assert key not in chosen(statistics(images=10))


def test_boxes_alone_are_trained_without_masks():
    values = chosen(statistics(masks=False))
    assert values["MODEL.MASK_ON"] is False
    assert values["TEST.BEST_METRIC"] == "bbox/AP"


def test_without_objects_to_evaluate_on_no_weights_are_the_best():
    values = chosen(statistics(), statistics(images=5, empty=5))
    assert "TEST.EVAL_PERIOD" in values
    assert not {"TEST.BEST_METRIC", "TEST.PATIENCE"} & values.keys()


def test_what_the_user_gave_stays_and_the_rest_fits_it():
    opts = ["SOLVER.MAX_ITER", "40", "INPUT.MIN_SIZE_TRAIN", "(512,)"]
    values = chosen(statistics(), opts=opts, given={"SOLVER.MAX_ITER", "INPUT.MIN_SIZE_TRAIN"})
    assert not {"SOLVER.MAX_ITER", "INPUT.MIN_SIZE_TRAIN"} & values.keys()
    assert values["TEST.EVAL_PERIOD"] == 40
    assert values["INPUT.MIN_SIZE_TEST"] == 512
    assert values["MODEL.ANCHOR_GENERATOR.SIZES"] == [[16], [32], [64]]  # 64 px of 1024 become 32


def test_without_a_metric_of_the_users_nothing_is_waited_for():
    assert "TEST.PATIENCE" not in chosen(statistics(), given={"TEST.BEST_METRIC"})


def test_decoded_images_that_take_gigabytes_are_not_cached():
    assert chosen(statistics(images=1000))["DATALOADER.CACHE_IMAGES"] is False
    assert "DATALOADER.CACHE_IMAGES" not in chosen(statistics(images=100))
