"""The rules that say which changes a resumed training may have."""

from maskrcnn_repro.config import get_config, leaf_keys
from maskrcnn_repro.engine.resume import BESIDE_CONFIG, differences, rule_of, rules

import pytest


def test_every_key_has_a_rule_and_every_rule_a_key():
    keys = [*leaf_keys(get_config()), *BESIDE_CONFIG]
    for key in keys:
        parts = key.split(".")
        assert any(".".join(parts[: i + 1]) in rules() for i in range(len(parts))), key
    for name in rules():
        assert any(key == name or key.startswith(f"{name}.") for key in keys), name


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("MODEL.DEVICE", "told"),
        ("MODEL.ROI_HEADS.NAME", "refused"),
        ("TEST.SHEET_IMAGES", "free"),
        ("DATALOADER.SKIP_BROKEN", "told"),
        ("DATALOADER.SAMPLER_TRAIN", "refused"),
        ("MY_PLUGIN.KEY", "refused"),
    ],
)
def test_the_longest_entry_counts(key, rule):
    assert rule_of(key) == rule


@pytest.mark.parametrize(
    ("now", "rule"), [([10, 90], "told"), ([10], "told"), ([20, 50], "refused")]
)
def test_steps_may_change_ahead_of_the_checkpoint(now, rule):
    key = "SOLVER.STEPS"
    (difference,) = differences({key: [10, 50]}, {key: now}, 30)
    assert difference.rule == rule
