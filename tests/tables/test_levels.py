"""Levels: other sizes and data, but an experiment varies the same keys against its baseline."""

from pathlib import Path

from maskrcnn_repro.config import configs_folder, leaf_keys
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.data_file import Node
from maskrcnn_repro.tables.paper.derivation import FAMILIES
from maskrcnn_repro.tables.paper.experiments import (
    LEVELS,
    all_experiments,
    backbone_of,
    experiment_config,
    experiments,
    find_experiment,
    overlays,
)
from maskrcnn_repro.tables.paper.levels import backbone_names, parse_levels
from maskrcnn_repro.tables.paper.numbers import find_row
from maskrcnn_repro.tables.runs.plan import not_at_level, plan
from maskrcnn_repro.tables.runs.stage import Setting

import pytest

GENERATED = [level for level in LEVELS if level != "paper"]
# Follow the optimiser and the missing pre-training of a level; at level small the weights are a backbone's.
FOLLOW = {"MODEL.WEIGHTS", "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.STEPS"}
WITHOUT = {"mini": {"cityscapes"}, "small": {"cityscapes", "x152"}}
"""Families and depths that a level does not have."""
RUN_BY_CLAIMS = [
    *(
        "r50_c4",
        "r50_c4_roipool",
        "r50_c4_roiwarp_ave",
        "r50_c4_roialign_max",
        "r50_c4_roiwarp_max",
    ),
    *("r50_c5_roialign", "r50_c5_roipool", "r50_fpn", "r50_fpn_roipool", "r50_c4_softmax"),
    *("r50_c4_agnostic", "r50_fpn_mlp2", "r101_fpn", "r101_fpn_box", "keypoints_r50_fpn"),
    *("keypoints_r50_fpn_roipool", "x101_fpn_e2e", "x101_fpn_180k"),
]


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def is_without(experiment, level):
    return bool(
        {experiment.family, experiment.config.split("/")[-1].split("_")[0]} & WITHOUT[level]
    )


def cases(where):
    return [
        pytest.param(level, experiment, id=f"{level}-{experiment.id}")
        for level in GENERATED
        for experiment in experiments().values()
        if where(experiment, level)
    ]


@pytest.mark.parametrize(
    ("level", "experiment"), cases(lambda e, level: e.baseline and not is_without(e, level))
)
def test_what_an_experiment_varies_is_not_overlaid(level, experiment):
    here = experiment_config(experiment, level)
    base = experiment_config(experiments()[experiment.baseline], level)
    different = {key for key in leaf_keys(here) if value(here, key) != value(base, key)}
    different.discard("OUTPUT_DIR")
    assert {key for key in different if not key.startswith(experiment.varies)} == set()
    lost = {key for key in experiment.varies if not any(d.startswith(key) for d in different)}
    assert lost <= FOLLOW
    assert different


@pytest.mark.parametrize(("level", "experiment"), cases(is_without))
def test_an_experiment_without_counterpart_says_so(level, experiment):
    with pytest.raises(TableError) as error:
        experiment_config(experiment, level)
    expected = (
        f"Level {level!r} has no overlay for experiments of family 'cityscapes' (cityscapes.yaml is missing). It has "
        "c4, c5, fpn, keypoints."
        if experiment.family == "cityscapes"
        else "Level 'small' has no backbone in place of 'catalog://ImageNetPretrained/FAIR/X-152-32x8d-IN5k'; it has "
        "'backbone_r50', 'backbone_r101', 'backbone_x101'."
    )
    assert str(error.value) == expected


@pytest.mark.parametrize("level", GENERATED)
def test_every_overlay_of_one_experiment_belongs_to_one(level):
    shared = {"common", "standard_heads", "rpn", *FAMILIES, *backbone_names(level)}
    names = {path.stem for path in (configs_folder() / level / "level").glob("*.yaml")}
    assert names - shared <= set(experiments())


def test_the_claims_need_eighteen_trainings_six_rpns_and_three_backbones():
    rows = dict.fromkeys(row for claim in claims().values() for row, _ in claim.values())
    names = list(dict.fromkeys(find_row(row).experiment for row in rows))
    assert sorted(names) == sorted(RUN_BY_CLAIMS)
    stages = plan(names, [1, 2, 3], Setting("small"), all_experiments()).stages
    shared = [stage.key for stage in stages if stage.experiment.is_shared]
    assert len(stages) - len(shared) == 3 * 18
    assert sum(key.startswith("rpn_") for key in shared) == 2 * 6
    assert sum(key.startswith("backbone_") for key in shared) == 3
    assert all(need in stages[: stages.index(stage)] for stage in stages for need in stage.needs)


@pytest.mark.parametrize(
    "name", ["rpn_r50_c5", "r50_c4", "keypoints_r50_fpn", "r101_fpn_box", "x101_fpn_e2e"]
)
def test_a_model_of_level_small_has_the_widths_and_pixels_of_its_backbone(name):
    experiment = find_experiment(name)
    cfg = experiment_config(experiment, "small")
    backbone = experiment_config(backbone_of(experiment, "small"), "small")
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        assert cfg.MODEL[key] == backbone.MODEL[key]
    assert cfg.INPUT.FORMAT == backbone.INPUT.FORMAT
    ours = {"NORM", "OUT_FEATURES"}
    for key in backbone.MODEL.RESNETS.keys() - ours:
        assert cfg.MODEL.RESNETS[key] == backbone.MODEL.RESNETS[key], key


def test_all_seeds_start_from_one_backbone_whose_results_are_an_input(tmp_path):
    setting = Setting("small", root=tmp_path)
    stages = {s.key: s for s in plan(["r50_c4"], [1, 2], setting, all_experiments()).stages}
    first = stages["r50_c4/seed2"]
    backbone = stages["backbone_r50/seed1"]
    file = tmp_path / "small/backbone_r50/seed1/backbone.pkl"
    assert first.options[first.options.index("MODEL.WEIGHTS") + 1] == str(file)
    assert stages["rpn_r50_c4/seed1"].needs == (backbone,)
    assert first.note()["inputs"] == {
        "rpn_r50_c4/seed1/proposals": None,
        "backbone_r50/seed1": None,
    }
    backbone.results.parent.mkdir(parents=True)
    backbone.results.write_text("{}")
    assert first.note()["inputs"]["backbone_r50/seed1"] == "44136fa355b3678a"


def test_other_levels_start_from_what_their_configs_name():
    for level in ("mini", "paper"):
        keys = [s.key for s in plan(["r50_c4"], [1], Setting(level), all_experiments()).stages]
        assert keys == ["rpn_r50_c4/seed1", "rpn_r50_c4/seed1/proposals", "r50_c4/seed1"]
        assert not_at_level(find_experiment("backbone_r50"), level) == (
            f"Level {level!r} trains no backbone 'backbone_r50'; choose --level small."
        )


def test_a_plug_ins_overlays_for_other_levels_alone_are_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("SOLVER: {MAX_ITER: 7}\n")
    plain = find_experiment("r50_fpn")
    experiment = type(plain)("own", plain.config, "fpn", levels=(("mini", str(own)),))
    assert overlays(experiment, "mini")[-1] == Path(own)
    with pytest.raises(
        TableError, match="overlays of its own for level 'mini', but none for 'small'"
    ):
        overlays(experiment, "small")
    assert overlays(experiment, "paper") == []


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"smal": {"a": "b"}}, "Level 'smal' does not exist. Did you mean 'small'?"),
        ({"small": {"a": 3}}, "file: small: a must be a string, not 3"),
        ({"small": "b"}, "file: small must be a mapping"),
    ],
)
def test_mistakes_in_the_file_of_levels_are_named(tree, text):
    with pytest.raises(TableError) as error:
        parse_levels(Node(tree, "file"))
    assert text in str(error.value)
