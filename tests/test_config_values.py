"""Values of config keys: what is understood, what is refused, and that the tables of keys are complete."""

import math
import random

from maskrcnn_repro.config import check_values, get_config, key_table, leaf_keys, load_config
from maskrcnn_repro.config.table import Interval, Key
from maskrcnn_repro.config.values import read_value
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import ConfigError, UserError

import pytest
import yaml
from detectron2.config import get_cfg

from tests.helpers.wrong_values import wrong_values

NOT_READ = ("RETINANET", "ANGLES", "PRECISE_BN.NUM")
"""Detectron2's keys of parts that no model of ours has; their type alone is checked."""
RIGHT_AFTER_ALL = {
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[1.5]"): "a flat list is that of all maps, as in Detectron2",
    (
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
        "[1.5]",
    ): "a flat list is that of all maps, as in Detectron2",
}
"""Values that look wrong, and why they pass."""


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, 1]", (0, 0.5, 1), (-0.1, 1.1, math.nan)),
        ("(0, 1)", (0.5,), (0, 1)),
        ("[1, inf)", (1, 10**400), (0, math.inf)),
        ("(0, inf]", (math.inf,), (0,)),
        (2, (2,), (1, 3)),
    ],
)
def test_an_interval_has_its_ends_or_not(text, inside, outside):
    interval = Interval.parse(text)
    assert all(number in interval for number in inside)
    assert not any(number in interval for number in outside)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SOLVER.MAX_ITER", "int, at least 1 and at most 1000000000"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "float, or `None`, at least 0"),
        ("INPUT.MASK_FORMAT", "one of `'polygon'`, `'bitmask'`"),
        ("MODEL.ROI_OP.NAME", "one of `''` or a name of the registry ROI_OP"),
        ("DATASETS.TRAIN", "tuple, no entry twice; of str, not empty"),
        ("MODEL.PIXEL_STD", "list, number of entries at least 1 and at most 3; of float, above 0"),
    ],
)
def test_what_a_key_may_be_is_told_for_the_documentation(name, text):
    assert str(key_table()[name]) == text


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.MAX_ITER", "1e3", 1000),
        ("SOLVER.STEPS", "[6e1, 8e1]", (60, 80)),
        ("MODEL.MASK_ON", "true", True),
        ("MODEL.MASK_ON", "False", False),
        ("DATASETS.TRAIN", "('tr')", ("tr",)),
        ("DATASETS.TRAIN", "tr", ("tr",)),
        ("OUTPUT_DIR", "2024", "2024"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0", 0.0),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[32, 64]", [[32, 64]]),
        ("INPUT.MIN_SIZE_TRAIN", "[64]", (64,)),
    ],
)
def test_values_are_understood_from_the_command_line_and_from_yaml(tmp_path, key, text, value):
    *parents, last = key.split(".")
    quoted = f"{last}: {text!r}" if text == "2024" else f"{last}: {text}"
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(parents)]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, f"{'  ' * len(parents)}{quoted}"]))
    for cfg in (
        load_config("", [key, text]),
        load_config("", [f"{key}={text}"]),
        load_config(tmp_path / "a.yaml"),
    ):
        parsed = value_of(cfg, key)
        assert parsed == value
        assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("SOLVER.MAX_ITER", "2.5", "'2.5' must be a whole number"),
        ("SOLVER.MAX_ITER", "inf", "'inf' must be a whole number"),
        ("MODEL.MASK_ON", "1", "must be True or False; write True"),
        ("INPUT.MIN_SIZE_TRAIN", "800", r"must be a tuple, also of one entry: \(800,\)"),
        ("OUTPUT_DIR", "", "'' must not be empty"),
        ("INPUT.RANDOM_FLIP", "both", "It may be horizontal, none, vertical"),
        ("INPUT.MIN_SIZE_TRAIN", "()", "has 0 entries; their number must be at least 1"),
        ("DATALOADER.NUM_WORKERS", "-1", "must be at least 0"),
        (
            "INPUT.MIN_SIZE_TRAIN",
            "(64",
            r"must be a tuple; close every bracket and put each text into",
        ),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[nan]]", "must be a list; close every bracket"),
        ("SOLVER.MAX_ITER", "1e30", "must be at least 1 and at most 1000000000"),
        ("SEED", "4294967296", "must be at least -1 and at most 4294967295"),
        ("SOLVER.BASE_LR", "inf", "inf must be finite, above 0"),
        ("SOLVER.BASE_LR", "-0.1", "must be above 0"),
        ("SOLVER.WEIGHT_DECAY", "-1", "must be at least 0"),
        ("SOLVER.BETAS", "(0.9,)", "has 1 entries; their number must be 2"),
        ("MODEL.RESNETS.NORM", "Batch", "'Batch' does not exist. .*FrozenBN"),
        ("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]", "must increase"),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "0", "must be at least 1"),
        ("MODEL.ROI_HEADS.POSITIVE_FRACTION", "2", "must be above 0 and at most 1"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "5", "must be at least 0 and at most 1"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.5", "must be at least 0 and below 1"),
        ("TEST.DETECTIONS_PER_IMAGE", "0", "must be at least 1"),
        ("SOLVER.WARMUP_FACTOR", "-1", "must be at least 0 and at most 1"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0", "must be above 0"),
        ("MODEL.BACKBONE.FREEZE_AT", "9", "must be at least 0 and at most 5"),
        ("DATASETS.TRAIN", "('a', 'a')", "has 'a' twice; name it once"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 1.0]]", "has 3 entries; their number must be 4"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[True]", "has 1 entries; their number must be 4"),
        ("INPUT.CROP.TYPE", "nope", "'nope' does not exist"),
        ("SOLVER", "3", "is a section of keys and cannot be '3'; set its keys, such as SOLVER."),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(key, text, words):
    with pytest.raises(ConfigError, match=f"^command line: {key}.* ?{words}") as caught:
        load_config("", [key, text])
    assert "\n" not in str(caught.value)


def test_a_wrong_value_in_a_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("# One\nSOLVER:\n  MAX_ITER: 5\n  BASE_LR: -1\nTEST:\n  AUG: 3\n")
    with pytest.raises(ConfigError, match=f"^{file}:6: TEST.AUG is a section .* cannot be 3"):
        load_config(file)
    file.write_text(file.read_text().partition("TEST")[0])
    with pytest.raises(ConfigError, match=f"^{file}:4: SOLVER.BASE_LR -1.0 must be above 0"):
        load_config(file)
    # What counts is what is left when all is merged.
    assert load_config(file, ["SOLVER.BASE_LR", "1"]).SOLVER.BASE_LR == 1.0


def cases():
    return [
        (name, kind, value)
        for name, key in key_table().items()
        for kind, value in wrong_values(key)
    ]


def passes(name, load):
    """Tell whether a config with a wrong value is accepted, or refused in more than one sentence."""
    try:
        check_model(load())
    except UserError as error:
        return "\n" in str(error)
    return True


def test_every_wrong_value_is_refused_or_has_a_reason():
    words = [(name, value if isinstance(value, str) else repr(value)) for name, _, value in cases()]
    alone = [(n, w) for n, w in words if passes(n, lambda n=n, w=w: load_config("", [n, w]))]
    both = [
        (n, w)
        for n, w in alone
        if passes(n, lambda n=n, w=w: load_config("mini/mask_rcnn_fpn.yaml", [n, w]))
    ]
    assert len(words) > 700
    assert set(both) == set(RIGHT_AFTER_ALL)


@pytest.mark.slow
def test_every_wrong_value_in_a_file_is_refused_or_has_a_reason(tmp_path):
    accepted = set()
    for name, _, value in cases():
        tree = value if not isinstance(value, tuple) else list(value)
        for part in reversed(name.split(".")):
            tree = {part: tree}
        (tmp_path / "a.yaml").write_text(
            yaml.safe_dump({"_BASE_": "mini/mask_rcnn_fpn.yaml", **tree})
        )
        if passes(name, lambda: load_config(tmp_path / "a.yaml")):
            accepted.add((name, repr(value)))
    assert accepted == set(RIGHT_AFTER_ALL)


def test_every_key_that_a_run_reads_stands_in_a_table_with_the_type_of_its_default():
    cfg, table = get_config(), key_table()
    missing = set(leaf_keys(cfg)) - table.keys() - {"VERSION", "GLOBAL.HACK"}
    assert [key for key in missing if not any(part in key for part in NOT_READ)] == []
    assert table.keys() <= set(leaf_keys(cfg))
    for name, key in table.items():
        default = value_of(cfg, name)
        assert type(default).__name__ == key.type or (default is None and key.optional), name
    check_values(cfg)


def test_a_plugins_keys_are_checked_by_the_type_of_their_default():
    with pytest.raises(ConfigError, match="WAVES 'x' must be a whole number"):
        read_value("WAVES", "x", Key("int"))
    assert read_value("WAVES", "2", Key("float")) == 2.0
    assert read_value("WAVES", ["x", 1], Key("tuple")) == ("x", 1)


def test_any_text_is_understood_or_refused():
    """No text ends in another error than ours."""
    draw = random.Random(0)
    words = [
        "(",
        "[",
        "1",
        "'",
        "e",
        ",",
        "\\",
        "None",
        "{",
        ":",
        "]",
        ")",
        "\0",
        "é",
        "1_0",
        "0x",
        "()",
    ]
    keys = list(key_table().items())
    for _ in range(3000):
        name, key = draw.choice(keys)
        text = "".join(draw.choices(words, k=draw.randrange(8)))
        try:
            key.check(name, read_value(name, text, key))
        except ConfigError:
            continue
    for text in ("[" * 9000, "9" * 5000, "1e999", "-" * 9000 + "1"):
        with pytest.raises(ConfigError):
            read_value("SOLVER.MAX_ITER", text, key_table()["SOLVER.MAX_ITER"])


def test_detectron2s_own_defaults_pass():
    cfg = get_cfg()
    for name, key in key_table().items():
        if value_of(cfg, name) is not None:
            key.check(name, value_of(cfg, name))
