"""Keys that contradict each other are refused, and those that say nothing are told, before anything is built."""

from maskrcnn_repro import BACKEND
from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.engine.launch import Processes
from maskrcnn_repro.engine.relations import remarks
from maskrcnn_repro.errors import ConfigError

import pytest

COSINE = ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR")
MULTI_STEP = ("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR")
CROP = ("INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE")
R50 = ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")


def load(*opts):
    return load_config("mini/mask_rcnn_fpn.yaml", ["MODEL.DEVICE", "cpu", *opts])


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (("INPUT.MIN_SIZE_TRAIN", "(9, 7)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"), "no range"),
        (("INPUT.MIN_SIZE_TRAIN", "(9,)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"), "no range"),
        (
            (*CROP, "relative", "INPUT.CROP.SIZE", "[2.0, 0.5]"),
            r"SIZE \[2.0, 0.5\] must be fractions",
        ),
        ((*CROP, "absolute", "INPUT.CROP.SIZE", "[9.5, 9]"), "must be whole pixels"),
        ((*CROP, "absolute_range", "INPUT.CROP.SIZE", "[9, 7]"), "give the least side first"),
        ((*COSINE, "SOLVER.BASE_LR_END", "7"), "BASE_LR_END 7.0 is above SOLVER.BASE_LR"),
        (
            ("SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0"),
            "NESTEROV True needs a SOLVER.MOMENTUM above 0",
        ),
        (
            ("MODEL.RPN.IOU_LABELS", "[0, 1]"),
            "IOU_LABELS .0, 1. must have one entry more than MODEL.RPN",
        ),
        (("MODEL.ROI_HEADS.IOU_THRESHOLDS", "[0.4, 0.5]"), "MODEL.ROI_HEADS.IOU_LABELS"),
        (
            ("MODEL.RPN.IN_FEATURES", "['p9']"),
            "RPN.IN_FEATURES has 'p9', but the maps there are p2, p3, p4",
        ),
        (("MODEL.ROI_HEADS.IN_FEATURES", "['res4']"), "ROI_HEADS.IN_FEATURES has 'res4'"),
        (("MODEL.FPN.IN_FEATURES", "[]"), "FPN.IN_FEATURES is empty"),
        (("MODEL.FPN.IN_FEATURES", "['res2', 'res4']"), "must be neighbouring stages"),
        (("MODEL.RESNETS.OUT_FEATURES", "['res2', 'res5']"), "OUT_FEATURES has 'res5', but"),
        (
            ("MODEL.ANCHOR_GENERATOR.SIZES", "[[8], [16]]"),
            "SIZES has 2 lists; give one, or one for each of the 3",
        ),
        (
            ("MODEL.NARROW_RESNET.CHANNELS", "[8, 8, 16, 32]"),
            "CHANNELS is .* neighbours must differ",
        ),
        (("MODEL.NARROW_RESNET.CHANNELS", "[8, 16]"), "has 2 entries, but NUM_BLOCKS has 3 stages"),
        (
            ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"),
            "reads DATALOADER.RANDOM_SUBSET_RATIO, which Detectron2 does not have; add that key",
        ),
        (("MODEL.RPN.CONV_DIMS", "[0]"), "has 0 channels"),
        (
            (*R50, "MODEL.RESNETS.DEPTH", "18"),
            "RES2_OUT_CHANNELS 256 must be 64: MODEL.RESNETS.DEPTH is 18",
        ),
        (
            ("MODEL.ROI_BOX_HEAD.NUM_FC", "0", "MODEL.ROI_BOX_HEAD.NUM_CONV", "0"),
            "NUM_FC are both 0",
        ),
        (
            ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', '38', 0.2]]"),
            "EXPECTED_RESULTS has .* value and tolerance last",
        ),
        (
            ("MODEL.KEYPOINT_ON", "True", "TEST.KEYPOINT_OKS_SIGMAS", "[0.1]"),
            "has 1 entries, but MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is 17",
        ),
        (
            ("TEST.PRECISE_BN.ENABLED", "True"),
            "PRECISE_BN.ENABLED True does not exist. It may be False",
        ),
    ],
)
def test_contradictions_are_refused(opts, words):
    with pytest.raises(ConfigError, match=words):
        check_model(load(*opts))


@pytest.mark.parametrize(
    "opts",
    [
        (*CROP, "relative_range", "INPUT.CROP.SIZE", "[1.0, 0.5]"),
        (*CROP, "absolute_range", "INPUT.CROP.SIZE", "[7, 9]"),
        ("INPUT.MIN_SIZE_TRAIN", "(7, 9)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"),
        ("TEST.EXPECTED_RESULTS", "['bbox', 'AP', 38, 0.2]"),
        (*COSINE, "SOLVER.BASE_LR_END", "0"),
        ("MODEL.META_ARCHITECTURE", "ProposalNetwork", "MODEL.ROI_HEADS.IN_FEATURES", "['res4']"),
    ],
)
def test_what_goes_together_passes(opts):
    check_model(load(*opts))


def test_values_set_by_a_program_are_checked_too():
    cfg = load()
    cfg.SOLVER.BASE_LR = 1
    check_model(cfg)
    cfg.SOLVER.MAX_ITER = "many"
    with pytest.raises(ConfigError, match=r"SOLVER.MAX_ITER 'many' must be a whole number"):
        check_model(cfg)


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    "opts",
    [
        ("VIS_PERIOD", "10"),
        ("DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[False, False, False, True]"),
        ("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "True", "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"),
    ],
)
def test_what_the_subset_lacks_is_refused(opts):
    assert BACKEND.name == "embedded"
    with pytest.raises(ConfigError, match=f"^{opts[0]} .*needs an installed Detectron2"):
        check_model(load(*opts))


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ((*COSINE, "SOLVER.STEPS", "(3,)"), ["SOLVER.STEPS (3,) is ignored by WarmupCosineLR."]),
        ((*COSINE, "SOLVER.STEPS", "()"), []),
        (
            (
                *MULTI_STEP,
                "SOLVER.STEPS",
                "(3, 9)",
                "SOLVER.MAX_ITER",
                "9",
                "SOLVER.WARMUP_ITERS",
                "0",
            ),
            [
                "SOLVER.STEPS (3, 9): the rate does not drop at 9, as the training ends at SOLVER.MAX_ITER 9."
            ],
        ),
        (
            ("SOLVER.STEPS", "()", "SOLVER.MAX_ITER", "9", "SOLVER.WARMUP_ITERS", "10"),
            [
                (
                    "SOLVER.WARMUP_ITERS 10 is longer than the training, SOLVER.MAX_ITER 9: the rate never reaches "
                    "SOLVER.BASE_LR."
                )
            ],
        ),
        (
            ("SOLVER.STEPS", "()", "MODEL.ROI_KEYPOINT_HEAD.ROI_OP", "RoIPool"),
            [
                "MODEL.ROI_KEYPOINT_HEAD.ROI_OP 'RoIPool' says nothing: the model has no such branch."
            ],
        ),
        (
            ("MODEL.ROI_OP.SAMPLES", "4", "MODEL.ROI_OP.NAME", "RoIPool"),
            ["MODEL.ROI_OP.SAMPLES 4 says nothing: RoIPool reads every cell of a bin."],
        ),
        (("MODEL.ROI_OP.SAMPLES", "4", "MODEL.ROI_MASK_HEAD.ROI_OP", "RoIPool"), []),
        (
            ("TEST.BEST_METRIC", "segm/AP", "DATASETS.TEST", "()"),
            [
                "TEST.BEST_METRIC 'segm/AP' says nothing, nor does TEST.PATIENCE: DATASETS.TEST is empty."
            ],
        ),
    ],
)
def test_keys_that_say_nothing_are_told(opts, words):
    cfg = load(*opts)
    check_model(cfg)
    assert remarks(cfg) == words


@pytest.mark.parametrize("url", ["foo", "tcp://host", "tcp://host:port", "host:29500"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(
        ConfigError, match=r"--dist-url .* is no address; write tcp://HOST:PORT, or auto"
    ):
        Processes("cpu", per_machine=2, dist_url=url).check()


@pytest.mark.parametrize(
    "url", ["auto", "tcp://10.0.0.1:29500", "tcp://[::1]:29500", "env://", "file:///tmp/a"]
)
def test_addresses_are_accepted(url):
    Processes("cpu", per_machine=2, dist_url=url).check()
