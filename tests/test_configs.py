"""The YAML files: each belongs to something, says what it is, and pins what the paper fixes."""

import functools
import re

from maskrcnn_repro.config import configs_folder, get_config, load_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.registry import class_names
from maskrcnn_repro.tables.paper.experiments import experiment_config, experiments, find_experiment

import pytest
import yaml
from detectron2.data import DatasetCatalog

FOLDER = configs_folder()
TRAINED = {
    experiment.id: experiment for experiment in experiments().values() if not experiment.evaluates
}
# Others than one file per experiment: backbones to start from, bases, Detectron2's models, levels and the first
# steps of the README.
SHARED = ("backbone", "base", "detectron2", "mini", "small")


def files():
    return {str(path.relative_to(FOLDER)): path for path in sorted(FOLDER.rglob("*.yaml"))}


def tree_of(path):
    """Return what a YAML file and its bases say, later over earlier."""
    own = yaml.safe_load(path.read_text())
    bases = own.pop("_BASE_", [])
    merged = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merge(merged, tree_of((path.parent / base).resolve()))
    return merge(merged, own)


def merge(into, tree):
    for key, value in tree.items():
        if isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
    return into


def test_every_file_is_the_config_of_one_experiment_or_shared():
    own = {name for name in files() if name.split("/")[0] not in SHARED}
    assert own == {experiment.config for experiment in TRAINED.values()}
    assert len(own) == len(TRAINED)


def test_every_base_is_used():
    used = set()
    for path in files().values():
        bases = yaml.safe_load(path.read_text()).get("_BASE_", [])
        for base in [bases] if isinstance(bases, str) else bases:
            used.add((path.parent / base).resolve())
    assert set((FOLDER / "base").glob("*.yaml")) <= used


@pytest.mark.parametrize("name", TRAINED)
def test_a_header_has_purpose_and_cost_and_nothing_that_follows_from_the_file(name):
    text = (FOLDER / TRAINED[name].config).read_text()
    purpose, _, rest = text.partition("\n# Cost of this stage: ")
    assert purpose.startswith("# ")
    assert TRAINED[name].cost
    assert " ".join(rest.replace("\n#", " ").split()).startswith(TRAINED[name].cost)
    header = purpose + rest[: rest.index("\n_BASE_")]
    assert not re.search(r"Rows:|Stages:|Against .* varies|maskrcnn ", header)


# What changes numbers, by node. Detectron2's defaults must not decide any of it.
PINNED = {
    "SOLVER": "OPTIMIZER IMS_PER_BATCH BASE_LR MAX_ITER STEPS GAMMA LR_SCHEDULER_NAME MOMENTUM NESTEROV "
    "WEIGHT_DECAY WEIGHT_DECAY_NORM WEIGHT_DECAY_BIAS BIAS_LR_FACTOR WARMUP_METHOD WARMUP_ITERS "
    "WARMUP_FACTOR CLIP_GRADIENTS AMP",
    "INPUT": "FORMAT MASK_FORMAT MIN_SIZE_TRAIN MIN_SIZE_TRAIN_SAMPLING MAX_SIZE_TRAIN MIN_SIZE_TEST "
    "MAX_SIZE_TEST RANDOM_FLIP CROP",
    "DATASETS": "TRAIN TEST PRECOMPUTED_PROPOSAL_TOPK_TRAIN PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "DATALOADER": "SAMPLER_TRAIN ASPECT_RATIO_GROUPING FILTER_EMPTY_ANNOTATIONS",
    "TEST": "DETECTIONS_PER_IMAGE AUG",
    "MODEL": "META_ARCHITECTURE MASK_ON KEYPOINT_ON LOAD_PROPOSALS PIXEL_MEAN PIXEL_STD WEIGHTS",
    "MODEL.BACKBONE": "NAME FREEZE_AT",
    "MODEL.RESNETS": "DEPTH NORM STRIDE_IN_1X1 NUM_GROUPS WIDTH_PER_GROUP STEM_OUT_CHANNELS "
    "RES2_OUT_CHANNELS RES5_DILATION DEFORM_ON_PER_STAGE OUT_FEATURES",
    "MODEL.PROPOSAL_GENERATOR": "NAME MIN_SIZE",
    "MODEL.ANCHOR_GENERATOR": "NAME SIZES ASPECT_RATIOS OFFSET",
    "MODEL.RPN": "HEAD_NAME IN_FEATURES CONV_DIMS IOU_THRESHOLDS IOU_LABELS BATCH_SIZE_PER_IMAGE "
    "POSITIVE_FRACTION BOUNDARY_THRESH LOSS_WEIGHT BBOX_REG_LOSS_WEIGHT BBOX_REG_LOSS_TYPE "
    "BBOX_REG_WEIGHTS SMOOTH_L1_BETA NMS_THRESH PRE_NMS_TOPK_TRAIN PRE_NMS_TOPK_TEST "
    "POST_NMS_TOPK_TRAIN POST_NMS_TOPK_TEST",
    "MODEL.ROI_OP": "NAME SAMPLES HALF_PIXEL CANONICAL_BOX_SIZE CANONICAL_LEVEL",
    "MODEL.ROI_HEADS": "NAME IN_FEATURES NUM_CLASSES IOU_THRESHOLDS IOU_LABELS BATCH_SIZE_PER_IMAGE "
    "POSITIVE_FRACTION PROPOSAL_APPEND_GT SCORE_THRESH_TEST NMS_THRESH_TEST",
    "MODEL.ROI_BOX_HEAD": "NAME NORM POOLER_RESOLUTION "
    "BBOX_REG_LOSS_TYPE BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS SMOOTH_L1_BETA CLS_AGNOSTIC_BBOX_REG "
    "TRAIN_ON_PRED_BOXES USE_SIGMOID_CE USE_FED_LOSS",
    "MODEL.ROI_MASK_HEAD": "NAME NUM_CONV CONV_DIM NORM LOSS "
    "CLS_AGNOSTIC_MASK NUM_FC FC_DIM MLP_RESOLUTION SOFTMAX_INFERENCE",
}
OF_FAMILY = {
    "c4": {"MODEL.ROI_HEADS": "RES5_STRIDE RES5_BLOCKS"},
    "fpn": {
        "MODEL.FPN": "IN_FEATURES OUT_CHANNELS NORM FUSE_TYPE",
        "MODEL.ROI_BOX_HEAD": "NUM_CONV NUM_FC FC_DIM",
        "MODEL.ROI_MASK_HEAD": "POOLER_RESOLUTION",
        "MODEL.ROI_KEYPOINT_HEAD": "NAME NUM_KEYPOINTS CONV_DIMS POOLER_RESOLUTION "
        "LOSS_WEIGHT NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS "
        "MIN_KEYPOINTS_PER_IMAGE",
    },
}


@pytest.mark.parametrize("name", ["c4", "c5", "fpn"])
def test_nothing_that_changes_numbers_is_left_to_a_default(name):
    tree = tree_of(FOLDER / "base" / f"{name}.yaml")
    for wanted in (PINNED, OF_FAMILY.get(name, {})):
        for place, keys in wanted.items():
            node = functools.reduce(lambda part, key: part[key], place.split("."), tree)
            assert set(keys.split()) <= set(node), place


@functools.cache
def cfg_of(name):
    return experiment_config(find_experiment(name))


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        # Iterations, steps, rate, batch, NMS: Sec. 3.1 and 5, Appendix A and B.
        ("r50_c4", (160000, (120000,), 0.02, 16, 0.3)),
        ("r101_fpn", (160000, (120000,), 0.02, 16, 0.3)),
        ("x101_fpn", (160000, (120000,), 0.01, 8, 0.3)),
        ("x101_fpn_180k", (180000, (120000, 160000), 0.01, 8, 0.5)),
        ("x101_fpn_e2e", (180000, (120000, 160000), 0.01, 8, 0.5)),
        ("x101_fpn_jitter", (260000, (200000, 240000), 0.01, 8, 0.5)),
        ("keypoints_r50_fpn_mask", (90000, (60000, 80000), 0.02, 16, 0.5)),
        ("keypoints_r101_fpn_130k", (130000, (100000, 120000), 0.02, 16, 0.5)),
        ("cityscapes_r50_fpn", (24000, (18000,), 0.01, 8, 0.3)),
        ("cityscapes_r50_fpn_coco", (4000, (3000,), 0.01, 8, 0.3)),
    ],
)
def test_schedules_are_the_papers(name, schedule):
    cfg = cfg_of(name)
    solver = cfg.SOLVER
    schedule_of_file = solver.MAX_ITER, solver.STEPS, solver.BASE_LR, solver.IMS_PER_BATCH
    assert (*schedule_of_file, cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST) == schedule


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("r50_c4", (64, 300)), ("r50_c5_roialign", (512, 1000)), ("r50_fpn", (512, 1000))],
)
def test_numbers_of_rois_and_proposals_are_the_papers(name, numbers):
    cfg = cfg_of(name)
    proposals = cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
    assert (cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, proposals) == numbers


def test_the_main_job_has_the_classes_of_its_data_and_own_data_those_of_their_json():
    cfg = load_config("mini/mask_rcnn_fpn.yaml")
    prepare_data(cfg)
    (name,) = cfg.DATASETS.TRAIN
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == len(class_names(name)) == 8
    heads = load_config("mini/own_data.yaml").MODEL.ROI_HEADS
    assert heads.NUM_CLASSES == get_config().MODEL.ROI_HEADS.NUM_CLASSES


def test_all_data_sets_are_registered():
    for name in TRAINED:
        cfg = cfg_of(name)
        for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, cfg.MODEL.WEIGHTS_DATASET):
            assert dataset in DatasetCatalog or dataset == "", name


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("r50_fpn", ((800,), "choice", 800)),
        ("keypoints_r50_fpn", ((640, 800), "range", 800)),
        ("x101_fpn_jitter", ((640, 800), "range", 800)),
        ("cityscapes_r50_fpn", ((800, 1024), "range", 1024)),
    ],
)
def test_image_scales_are_the_papers(name, sides):
    inputs = cfg_of(name).INPUT
    assert (inputs.MIN_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING, inputs.MIN_SIZE_TEST) == sides
