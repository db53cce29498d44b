"""Experiments: what they vary, in which order their stages run, what is refused."""

import functools
import sys

from maskrcnn_repro.config import leaf_keys
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import Node
from maskrcnn_repro.tables.paper.experiments import (
    experiment_config,
    experiments,
    find_experiment,
    parse_experiments,
    required_experiments,
)
from maskrcnn_repro.tables.paper.numbers import tables

import pytest

from tests.helpers.paths import ROOT

WITH_BASELINE = [experiment.id for experiment in experiments().values() if experiment.baseline]


@functools.cache
def values_of(name):
    """Return every config value of an experiment by its dotted key."""
    cfg = experiment_config(find_experiment(name))
    return {
        key: functools.reduce(lambda node, part: node[part], key.split("."), cfg)
        for key in leaf_keys(cfg)
    }


@pytest.mark.parametrize("name", WITH_BASELINE)
def test_an_experiment_differs_from_its_baseline_in_what_it_says(name):
    experiment = find_experiment(name)
    own, base = values_of(name), values_of(experiment.baseline)
    differing = {key for key in own if own[key] != base[key]} - {"OUTPUT_DIR"}
    assert differing == set(experiment.varies)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("rpn_r50_c4", ["rpn_r50_c4"]),
        ("r50_c4_roipool", ["rpn_r50_c4", "r50_c4_roipool"]),
        ("x101_fpn_e2e", ["x101_fpn_e2e"]),
        (
            "cityscapes_r50_fpn_coco",
            ["rpn_cityscapes_r50_fpn", "rpn_r50_fpn", "r50_fpn", "cityscapes_r50_fpn_coco"],
        ),
        (
            "keypoints_x101_fpn_130k_tta",
            ["rpn_person_x101_fpn", "keypoints_x101_fpn_130k", "keypoints_x101_fpn_130k_tta"],
        ),
    ],
)
def test_stages_come_before_what_needs_them(name, order):
    assert [experiment.id for experiment in required_experiments(find_experiment(name))] == order


def test_joint_training_alone_has_no_stored_proposals():
    for name in experiments():
        values, experiment = values_of(name), find_experiment(name)
        alone = values["MODEL.META_ARCHITECTURE"] == "ProposalNetwork"
        joint = values["MODEL.PROPOSAL_GENERATOR.NAME"] == "RPN"
        assert (
            values["MODEL.LOAD_PROPOSALS"] == (experiment.proposals is not None) == (not joint)
        ), name
        assert not alone or (joint and name.startswith("rpn_")), name


def test_proposals_come_from_the_same_backbone_and_images():
    same = (
        "MODEL.BACKBONE.NAME",
        "MODEL.RESNETS.OUT_FEATURES",
        "MODEL.RESNETS.DEPTH",
        "MODEL.WEIGHTS",
    )
    same += ("MODEL.RESNETS.NUM_GROUPS", "DATASETS.TRAIN", "DATASETS.TEST", "INPUT.MIN_SIZE_TEST")
    for experiment in experiments().values():
        if experiment.proposals:
            own, rpn = values_of(experiment.id), values_of(experiment.proposals)
            unlike = [key for key in same if own[key] != rpn[key]]
            # Fine-tuned from COCO: whose proposals, the paper does not say.
            assert unlike == (["MODEL.WEIGHTS"] if experiment.init else []), experiment.id


def test_every_experiment_serves_a_row_or_another_experiment():
    used = {row.experiment for table in tables().values() for row in table.rows.values()}
    for experiment in experiments().values():
        used |= {experiment.proposals, experiment.init, experiment.evaluates}
    assert set(experiments()) <= used


def test_an_evaluation_changes_its_model_at_test_time_alone():
    experiment = find_experiment("x152_fpn_jitter_tta")
    assert (experiment.evaluates, experiment.config) == (
        "x152_fpn_jitter",
        "coco/x152_fpn_jitter.yaml",
    )
    assert experiment.overrides == ("TEST.AUG.ENABLED", "True")
    assert experiment_config(experiment).TEST.AUG.ENABLED


def parse(**trees):
    return parse_experiments(Node({"experiments": trees}, "e"))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"baseline": "y"}, "e: experiments: r50_c4: experiment 'y' does not exist."),
        ({"proposals": "r50_c4"}, "experiment 'r50_c4' does not exist. It must stand above."),
        (
            {"evaluates": "y", "overrides": {}},
            "experiment 'y' does not exist. It must stand above.",
        ),
        ({"init": 3}, "init must be a string, not 3 (int)."),
        ({"overrides": {}}, "has an unknown key 'overrides'."),
        ({"config": "coco/r50_c4.yaml"}, "has an unknown key 'config'."),
    ],
)
def test_wrong_experiments_are_refused_with_their_place(tree, message):
    with pytest.raises(TableError) as error:
        parse(r50_c4=tree)
    assert message in str(error.value)


def test_an_evaluation_is_named_after_its_model_with_a_suffix():
    parsed = parse(r50_c4={}, r50_c4_few={"evaluates": "r50_c4", "overrides": {"TEST.A": 3}})
    evaluation = parsed["r50_c4_few"]
    assert (evaluation.config, evaluation.family) == ("coco/r50_c4.yaml", "c4")
    assert (evaluation.baseline, evaluation.varies) == ("r50_c4", ("TEST.A",))
    with pytest.raises(TableError, match=r"must be that with a suffix, r50_c4_SUFFIX\.$"):
        parse(r50_c4={}, few={"evaluates": "r50_c4", "overrides": {}})


@pytest.mark.parametrize(
    ("name", "tree", "message"),
    [
        (
            "r50_c4_few_more",
            {"evaluates": "r50_c4_few", "overrides": {}},
            "evaluates r50_c4_few, which is no whole training; name r50_c4.",
        ),
        (
            "short_few",
            {"evaluates": "short", "overrides": {}},
            "evaluates short, which is no whole training; name r50_c4.",
        ),
        (
            "shorter",
            {"shortens": "short", "iterations": 3},
            "shortens short, which is no whole training; name r50_c4.",
        ),
        ("r101_c4", {"init": "r50_c4_few"}, "init 'r50_c4_few' only evaluates 'r50_c4'"),
        ("r101_c4", {"proposals": "r50_c4_few"}, "proposals 'r50_c4_few' only evaluates"),
    ],
)
def test_what_has_no_weights_of_a_whole_training_is_no_model_to_build_on(name, tree, message):
    few = {"evaluates": "r50_c4", "overrides": {"TEST.DETECTIONS_PER_IMAGE": 3}}
    short = {"shortens": "r50_c4", "iterations": 9}
    with pytest.raises(TableError) as error:
        parse(r50_c4={}, r50_c4_few=few, short=short, **{name: tree})
    assert f"e: experiments: {name}" in str(error.value)
    assert message in str(error.value)


def test_an_evaluation_may_not_override_what_matters_in_training():
    with pytest.raises(
        TableError, match=r"y: overrides change SOLVER\.MAX_ITER, which matters in tr"
    ):
        parse(r50_c4={}, r50_c4_y={"evaluates": "r50_c4", "overrides": {"SOLVER.MAX_ITER": 3}})


def test_an_unknown_experiment_suggests_what_there_is():
    with pytest.raises(
        TableError, match=r"Experiment 'r50c4' does not exist\. Did you mean 'r50_c4'"
    ):
        find_experiment("r50c4")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("coco/r50_c4_roipool.yaml", "r50_c4_roipool"),
        (str(ROOT / "configs/rpn/r50_c4.yaml"), "rpn_r50_c4"),
    ],
)
def test_an_experiment_answers_to_its_config(config, name):
    assert find_experiment(config).id == name


def test_a_config_of_no_experiment_is_told():
    with pytest.raises(TableError, match=r"'mini/own_data.yaml' is of no experiment"):
        find_experiment("mini/own_data.yaml")


def test_an_unknown_level_is_named():
    with pytest.raises(TableError, match=r"Level 'minni' does not exist\. Did you mean 'mini'\?"):
        experiment_config(find_experiment("r50_c4"), "minni")


def test_a_level_without_the_family_is_named(tmp_path, monkeypatch):
    # The package has a function of the module's name.
    module = sys.modules["maskrcnn_repro.tables.paper.experiments"]
    monkeypatch.setattr(module, "configs_folder", lambda: tmp_path)
    (tmp_path / "mini" / "level").mkdir(parents=True)
    (tmp_path / "mini" / "level" / "fpn.yaml").write_text("SOLVER: {MAX_ITER: 7}\n")
    with pytest.raises(
        TableError, match=r"no overlay for experiments of family 'c4' .* It has fpn\."
    ):
        experiment_config(find_experiment("r50_c4"), "mini")
    assert experiment_config(find_experiment("r50_fpn"), "mini").SOLVER.MAX_ITER == 7
