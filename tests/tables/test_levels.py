"""Level mini: other sizes and data, but an experiment varies the same keys against its baseline."""

from maskrcnn_repro.config import configs_folder, leaf_keys
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.derivation import FAMILIES
from maskrcnn_repro.tables.paper.experiments import experiment_config, experiments

import pytest

# Follow the optimiser and the missing pre-training of the level.
FOLLOW = {"MODEL.WEIGHTS", "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.STEPS"}
WITHOUT = {"cityscapes"}
"""Families that the level does not have."""


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


COMPARED = [e for e in experiments().values() if e.baseline and e.family not in WITHOUT]


@pytest.mark.parametrize("experiment", COMPARED, ids=lambda e: e.id)
def test_what_an_experiment_varies_is_not_overlaid(experiment):
    here = experiment_config(experiment, "mini")
    base = experiment_config(experiments()[experiment.baseline], "mini")
    different = {key for key in leaf_keys(here) if value(here, key) != value(base, key)}
    different.discard("OUTPUT_DIR")
    assert {key for key in different if not key.startswith(experiment.varies)} == set()
    lost = {key for key in experiment.varies if not any(d.startswith(key) for d in different)}
    assert lost <= FOLLOW
    assert different


@pytest.mark.parametrize(
    "experiment", [e for e in experiments().values() if e.family in WITHOUT], ids=lambda e: e.id
)
def test_a_family_without_counterpart_says_so(experiment):
    with pytest.raises(TableError, match="no overlay for experiments of family 'cityscapes'"):
        experiment_config(experiment, "mini")


def test_every_overlay_of_one_experiment_belongs_to_one():
    shared = {"common", "standard_heads", "rpn", *FAMILIES}
    names = {path.stem for path in (configs_folder() / "mini/level").glob("*.yaml")}
    assert names - shared <= set(experiments())
