"""Wrong names of config keys are refused with the right one among the suggestions."""

from maskrcnn_repro.config import get_config, key_table, leaf_keys, load_config
from maskrcnn_repro.config.names import count_edits, suggestions
from maskrcnn_repro.errors import ConfigError

import pytest
from detectron2.config import get_cfg

from tests.helpers.config_typos import KINDS, typos

KEYS = set(leaf_keys(get_config()))
UNREAD = set(leaf_keys(get_cfg())) - key_table().keys()
FIRST = ("letter", "case", "transposition", "letter of a section")
"""Kinds of which the key meant is to come first; of the others it is to be among five."""


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("acb", "abc", 1),
        ("ab", "abc", 1),
        ("xbc", "abc", 1),
        ("kitten", "sitting", 3),
    ],
)
def test_edits_by_hand(first, second, count):
    assert count_edits(first, second) == count_edits(second, first) == count


def shares(kind, seed, keys, per_key):
    pairs = [
        (key, suggestions(wrong, KEYS, UNREAD)) for key, wrong in typos(keys, kind, seed, per_key)
    ]
    first = sum(names[:1] == [key] for key, names in pairs) / len(pairs)
    return first, sum(key in names[:5] for key, names in pairs) / len(pairs), len(pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_key_is_suggested_for_a_few(kind):
    first, among_five, count = shares(kind, 3, sorted(KEYS - UNREAD)[::24], per_key=1)
    assert count > 5
    assert (first if kind in FIRST else among_five) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_right_key_is_suggested_for_all(kind):
    first, among_five, count = shares(kind, 0, KEYS, per_key=1)
    assert count > 180
    assert (first if kind in FIRST else among_five) >= 0.95


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("MODLE: {RPN: {NMS_THRESH: 0.5}}", 1, "MODEL.RPN.NMS_THRESH"),
        ("SOLVER:\n  MAX_ITRE: 5", 2, "SOLVER.MAX_ITER"),
        ("solver:\n  base_lr: 0.5", 2, "SOLVER.BASE_LR"),
        ("MODEL:\n\n  NUM_KEYPOINTS: 3", 3, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"),
        ("TEST: {MAX_ITER: 5}", 1, "SOLVER.MAX_ITER"),
    ],
)
def test_a_wrong_name_in_a_file_is_told_with_its_line(tmp_path, text, line, key):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=rf"\(.*a.yaml:{line}\) does not exist. Did you mean '{key}'"
    ):
        load_config(tmp_path / "a.yaml")


def test_a_wrong_name_in_an_overlay_names_the_overlay(tmp_path):
    (tmp_path / "over.yaml").write_text("SOLVER: {MAX_ITRE: 5}")
    with pytest.raises(ConfigError, match=r"over.yaml:1\) .* 'SOLVER.MAX_ITER'"):
        load_config("mini/mask_rcnn_fpn.yaml", overlays=[tmp_path / "over.yaml"])


def test_what_resembles_nothing_has_no_suggestion():
    assert suggestions("QQQQ.ZZZZZZZZ.XXXXXXXX", KEYS) == []
