"""Keys of the family's heads: what each may be, which heads contradict each other, and what is said at the start."""

from pathlib import Path

from maskrcnn_repro.config import key_table, leaf_keys, load_config, read_keys
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import ConfigError

import pytest
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import build_sem_seg_head

import maskrcnn_family
from tests.helpers.wrong_values import wrong_values

FAMILY = Path(maskrcnn_family.__file__).parent
FILES = sorted(FAMILY.glob("*/config_keys.yaml"))
PYRAMID = {f"p{level}": ShapeSpec(channels=8, stride=1 << level) for level in range(2, 7)}
SEMANTIC, COMBINE = "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN.COMBINE"
STAGES = "MODEL.ROI_BOX_CASCADE_HEAD.IOUS"


def load(head, *words):
    return load_config(FAMILY / head / "config.yaml", words)


def words_of(value):
    return value if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_every_wrong_value_of_a_declared_key_is_refused(file):
    plugin = ["PLUGINS", f"('maskrcnn_family.{file.parent.name}',)"]
    cfg = load_config("", plugin)
    assert read_keys(file).keys() <= set(leaf_keys(cfg))
    for name in read_keys(file):
        key = key_table(file)[name]
        assert type(value_of(cfg, name)).__name__ == key.type
        for _, value in wrong_values(key):
            with pytest.raises(ConfigError, match=f"^command line: {name}") as caught:
                load_config("", [*plugin, name, words_of(value)])
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "key", "value", "words"),
    [
        ("point_rend", "MODEL.POINT_HEAD.IN_FEATURES", "()", "has 0 entries"),
        ("point_rend", "MODEL.POINT_HEAD.SUBDIVISION_STEPS", "20", "at most 10"),
        ("point_rend", "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO", "1.5", "at most 1"),
        ("point_rend", "MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION", "-1", "at least 1"),
        ("panoptic_fpn", f"{SEMANTIC}.IN_FEATURES", "[]", "has 0 entries"),
        ("panoptic_fpn", f"{SEMANTIC}.CONVS_DIM", "0", "at least 1"),
        ("panoptic_fpn", f"{SEMANTIC}.NORM", "XX", "'XX' does not exist"),
        ("panoptic_fpn", f"{SEMANTIC}.LOSS_WEIGHT", "-1", "at least 0"),
        ("panoptic_fpn", "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", "-1", "at least 0"),
        ("panoptic_fpn", f"{COMBINE}.OVERLAP_THRESH", "2", "at most 1"),
        ("panoptic_fpn", f"{COMBINE}.STUFF_AREA_LIMIT", "-1", "at least 0"),
        ("panoptic_fpn", f"{COMBINE}.INSTANCES_CONFIDENCE_THRESH", "5", "at most 1"),
        ("hybrid_task_cascade", f"{SEMANTIC}.CONVS_DIM", "0", "at least 1"),
        ("hybrid_task_cascade", f"{SEMANTIC}.NORM", "XX", "'XX' does not exist"),
        ("hybrid_task_cascade", "MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS", "(1,1,-1)", "at least 0"),
        ("boundary_preserving", "MODEL.ROI_MASK_HEAD.NUM_CONV", "-1", "at least 0"),
    ],
)
def test_numbers_that_no_head_can_have_are_told_with_their_config(head, key, value, words):
    with pytest.raises(ConfigError, match=f"^command line: {key}.*{words}"):
        load(head, key, value)


def backbone(cfg):
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, ShapeSpec(channels=3))


def heads(cfg):
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, PYRAMID)


def semantic_head(cfg):
    return build_sem_seg_head(cfg, PYRAMID)


BOTTOM_UP = "MODEL.PANET.BOTTOM_UP"
HYBRID = "hybrid_task_cascade"


@pytest.mark.parametrize(
    ("head", "opts", "build", "words"),
    [
        ("panet", (BOTTOM_UP, "build_family_panet_fpn_backbone"), backbone, "does not exist"),
        ("panet", (BOTTOM_UP, "build_narrow_resnet_fpn_backbone"), backbone, "does not exist"),
        (
            "panet",
            (BOTTOM_UP, "build_narrow_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", "['res2']"),
            backbone,
            f"FPN.IN_FEATURES has 'res3', but {BOTTOM_UP} .* gives res2",
        ),
        ("panet", ("MODEL.ROI_MASK_HEAD.CONV_DIM", "1"), heads, "CONV_DIM 1 is too few"),
        (
            "point_rend",
            ("MODEL.ROI_MASK_HEAD.CONV_DIM", "9"),
            heads,
            "at most the 8 channels of p2",
        ),
        ("cascade", ("MODEL.ROI_BOX_HEAD.NAME", ""), check_model, "empty, but .* needs a box head"),
        (
            "boundary_preserving",
            ("MODEL.ROI_MASK_HEAD.NUM_CONV", "0"),
            heads,
            "NUM_CONV 0 leaves the 8 channels",
        ),
        ("cascade", (STAGES, "(0.5,0.4,0.3)"), heads, "IOUS .* must not fall"),
        ("panoptic_fpn", (f"{SEMANTIC}.CONVS_DIM", "30"), semantic_head, "30 must be a multiple"),
        (HYBRID, (f"{SEMANTIC}.NORM", "GN"), semantic_head, "OUT_CHANNELS 8 must be a multiple"),
        (
            HYBRID,
            (
                "PLUGINS",
                "('maskrcnn_family.hybrid_task_cascade','maskrcnn_family.panoptic_fpn')",
                "MODEL.META_ARCHITECTURE",
                "FamilyPanopticFPN",
            ),
            heads,
            "'FamilyPanopticFPN' has a semantic branch of its own, .* choose 'MaskRCNN'",
        ),
        (
            HYBRID,
            ("MODEL.ROI_HEADS.NAME", "FamilyCascadeROIHeads"),
            check_model,
            "neither MODEL.META_ARCHITECTURE 'MaskRCNN' nor .* learns .* FamilyHybridTaskROIHeads",
        ),
        ("cascade", ("MODEL.FPN.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", "8"), check_model, "groups"),
    ],
)
def test_contradictions_are_told(head, opts, build, words):
    with pytest.raises(ConfigError, match=words) as caught:
        build(load(head, *opts))
    assert "\n" not in str(caught.value)


def test_wrong_names_of_backbones_are_answered_with_those_that_can_be_below_a_pyramid():
    with pytest.raises(ConfigError, match="BOTTOM_UP 'build_resnet' does not exist") as caught:
        backbone(load("panet", BOTTOM_UP, "build_resnet"))
    assert "fpn" not in str(caught.value)


@pytest.mark.parametrize("file", sorted(FAMILY.glob("*/*config.yaml")), ids=lambda f: f.parent.name)
def test_configs_of_the_family_pass(file):
    cfg = load_config(file)
    check_model(cfg)
    assert cfg.MODEL.META_ARCHITECTURE in META_ARCH_REGISTRY
