"""What follows from an experiment's name and from the `_BASE_` chain of its config, worked out by hand."""

from maskrcnn_repro.config import configs_folder
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER
from maskrcnn_repro.tables.paper.derivation import base_of, config_of, family_of, varied_keys
from maskrcnn_repro.tables.paper.experiments import experiments

import pytest
import yaml

TRAINED = {item.config: item for item in experiments().values() if not item.evaluates}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("r50_c4_roipool", "coco/r50_c4_roipool.yaml"),
        ("rpn_r50_c4", "rpn/r50_c4.yaml"),
        ("rpn_cityscapes_r50_fpn", "rpn/cityscapes_r50_fpn.yaml"),
        ("keypoints_r50_fpn_person_box", "keypoints/r50_fpn_person_box.yaml"),
        ("cityscapes_r50_fpn_coco", "cityscapes/r50_fpn_coco.yaml"),
    ],
)
def test_a_name_is_the_folder_and_the_stem_of_its_config(name, config):
    assert config_of(name) == config


def test_a_name_without_a_config_is_told_with_where_it_would_lie():
    with pytest.raises(
        TableError, match=r"'rpn_r5' has no config: neither rpn/r5.yaml nor coco/rpn_r5.yaml"
    ):
        config_of("rpn_r5")


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ("coco/r101_c4.yaml", "c4"),
        ("coco/r50_c5_roipool_64.yaml", "c5"),
        ("coco/x152_fpn_jitter.yaml", "fpn"),
        # base/keypoints.yaml and base/cityscapes.yaml build on base/fpn.yaml.
        ("rpn/person_x101_fpn.yaml", "keypoints"),
        ("cityscapes/r50_fpn_coco.yaml", "cityscapes"),
    ],
)
def test_the_last_base_of_a_chain_is_the_family(config, family):
    assert family_of(config) == family


def test_a_config_without_a_family_says_so():
    with pytest.raises(TableError, match=r"^detectron2/r50_c4.yaml is of no family"):
        family_of("detectron2/r50_c4.yaml")


@pytest.mark.parametrize(
    ("name", "baseline"),
    [
        ("r50_c4", None),
        ("r50_c4_roipool", "r50_c4"),
        ("r50_c5_roipool_64", "r50_c5_roipool"),
        ("keypoints_r101_fpn_130k", "keypoints_r50_fpn_130k"),
        # Stated: their `_BASE_` are parts, or another experiment.
        ("r101_c4", "r50_c4"),
        ("keypoints_x101_fpn_130k", "keypoints_r101_fpn_130k"),
    ],
)
def test_the_experiment_that_a_config_builds_on_is_its_baseline(name, baseline):
    assert experiments()[name].baseline == baseline


def test_a_baseline_is_stated_only_where_the_config_does_not_say_it():
    tree = yaml.safe_load((FOLDER / "experiments.yaml").read_text(encoding="utf-8"))
    stated = {name for name, fields in tree["experiments"].items() if "baseline" in fields}
    for name in stated:
        base = base_of(experiments()[name].config, TRAINED)
        assert base is None or TRAINED[base].id != experiments()[name].baseline, name
    assert len(stated) == 8


def test_varied_keys_have_other_values_or_are_set_by_one_config_alone(tmp_path):
    (tmp_path / "part.yaml").write_text("A: 1\nB: {C: 2, D: [3]}\nOUTPUT_DIR: part\n")
    (tmp_path / "first.yaml").write_text("_BASE_: part.yaml\nB: {C: 4, D: [3]}\nE: 5\n")
    (tmp_path / "second.yaml").write_text("_BASE_: part.yaml\nF: 6\nOUTPUT_DIR: second\n")
    first, second = (str(tmp_path / name) for name in ("first.yaml", "second.yaml"))
    assert varied_keys(first, second) == ("B.C", "E", "F")
    assert varied_keys(first, first) == ()


def test_an_experiment_varies_the_keys_of_its_own_file():
    compared = 0
    for config, item in TRAINED.items():
        base = base_of(config, TRAINED)
        if base is None or TRAINED[base].id != item.baseline:
            continue
        own = yaml.safe_load((configs_folder() / config).read_text(encoding="utf-8"))
        if isinstance(own.pop("_BASE_"), str):
            del own["OUTPUT_DIR"]
            assert set(item.varies) == set(dotted(own)), config
            compared += 1
    assert compared >= 20


def dotted(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
