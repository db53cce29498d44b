"""Tables on the user's own data: overlays name folders, reach all stages, and are refused where they mislead."""

import json
from functools import partial
from pathlib import Path

from maskrcnn_repro.commands import tables as cli
from maskrcnn_repro.config import keys_in, leaf_keys, load_config
from maskrcnn_repro.engine.checks import check_config
from maskrcnn_repro.errors import ConfigError, TableError
from maskrcnn_repro.tables.paper.experiments import (
    experiment_config,
    find_experiment,
    overlays,
    required_experiments,
)
from maskrcnn_repro.tables.paper.numbers import find_table
from maskrcnn_repro.tables.runs.overlays import check_keys
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.stage import Setting

import pytest
import yaml

from tests.helpers.commands import experiment as main_experiment
from tests.helpers.commands import table as main_table
from tests.helpers.custom_data import VALID, write_entry
from tests.helpers.fake_runs import METRICS, Fake, row, table, write_run
from tests.helpers.paths import ROOT

EXAMPLE = ROOT / "examples/nucleus.yaml"
LEVEL_OF = {EXAMPLE: "mini", ROOT / "examples/photographs.yaml": "small"}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Fake(tmp_path, monkeypatch)


@pytest.fixture
def write(tmp_path):
    """Write an overlay and return its path."""

    def file(name, text):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\nVERSION: 2\n")
        return path

    return file


def test_labels_join_level_names_and_trial_in_this_order(tmp_path):
    files = tmp_path / "cells.yaml", tmp_path / "far" / "long_run.yaml"
    own = partial(Setting, "mini", overlays=files)
    assert own().label == "mini-cells-long_run"
    assert own().run_folder("r50_c4", 2) == Path("output/mini-cells-long_run/r50_c4/seed2")
    trial = ("SOLVER.MAX_ITER", "20")
    digest = Setting("mini", trial).label.removeprefix("mini-trial-")
    assert own(overrides=trial).label == f"mini-cells-long_run-trial-{digest}"
    assert Setting("mini", overlays=files[::-1]).label == "mini-long_run-cells"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["my-cells"], r"my-cells\.yaml: 'my-cells' becomes part of a folder's name"),
        (["cells.v2"], r"'cells\.v2' becomes part"),
        (["zellen ü"], "'zellen ü' becomes part"),
        (["mini"], r"mini\.yaml: the name 'mini' is taken"),
        (["trial"], "'trial' is taken; give the file another one than mini, small, paper, trial"),
        (["a/cells", "b/cells"], r"b/cells\.yaml has the name of .*a/cells\.yaml, 'cells'"),
    ],
)
def test_names_that_cannot_tell_runs_apart_are_refused(tmp_path, names, message):
    with pytest.raises(ConfigError, match=message):
        Setting("mini", overlays=tuple(tmp_path / f"{name}.yaml" for name in names))


def test_all_stages_get_the_overlays_over_the_level_and_below_overrides(fake, write):
    first = write("first", "TEST: {DETECTIONS_PER_IMAGE: 7}\nSOLVER: {MAX_ITER: 20, GAMMA: 0.3}")
    second = write("second", "SOLVER: {MAX_ITER: 30, BASE_LR: 0.5}")
    setting = Setting(
        "paper", ("SOLVER.BASE_LR", "0.25"), fake.setting.root, overlays=(first, second)
    )
    table_plan = plan(["a-nms"], [1], setting, fake.experiments)
    assert [stage.key for stage in table_plan.stages] == [
        *("rpn/seed1", "rpn/seed1/proposals", "a/seed1", "a-nms/seed1")
    ]
    for stage in table_plan.stages:
        cfg, words = stage.config, stage.command_line()
        assert (cfg.TEST.DETECTIONS_PER_IMAGE, cfg.SOLVER.GAMMA) == (7, 0.3)
        assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (30, 0.25)
        given = [words[i + 1] for i, word in enumerate(words) if word == "--overlay"]
        assert given == [str(first), str(second)]
    assert table_plan.stages[-1].config.MODEL.ROI_HEADS.NMS_THRESH_TEST == 0.3


def test_the_levels_own_files_come_before_the_users(write):
    own = write("own", "SOLVER: {MAX_ITER: 20}")
    (stage,) = plan(["rpn_r50_c4"], [1], Setting("mini", overlays=(own,)), KNOWN).stages
    words = stage.command_line()
    given = [words[i + 1] for i, word in enumerate(words) if word == "--overlay"]
    assert given == [*map(str, overlays(stage.experiment, "mini")), str(own)]
    assert stage.config.SOLVER.MAX_ITER == 20
    assert stage.config.SOLVER.OPTIMIZER == "AdamW"


def test_runs_made_with_another_content_of_the_overlay_are_stale(fake, write):
    own = write("own", "TEST: {DETECTIONS_PER_IMAGE: 7}")
    setting = Setting("paper", root=fake.setting.root, overlays=(own,))
    for stage in plan(["joint"], [1], setting, fake.experiments).stages:
        stage.write_note()
        write_run(stage)
    assert plan(["joint"], [1], setting, fake.experiments).missing() == []
    write("own", "TEST: {DETECTIONS_PER_IMAGE: 9}")
    with pytest.raises(TableError, match=r"TEST\.DETECTIONS_PER_IMAGE is 7, planned 9"):
        plan(["joint"], [1], setting, fake.experiments).missing()


def test_a_table_is_run_and_reported_apart_from_the_level(fake, write, capsys, monkeypatch):
    shown = table(row("a", "a", ap=30.0), row("b", "b", ap=33.5))
    for name, value in (
        ("all_experiments", lambda: fake.experiments),
        ("find_table", {"fake": shown}.__getitem__),
        ("all_metrics", lambda: METRICS),
        ("tables", lambda: {"fake": shown}),
        ("all_tables", lambda: {"fake": shown}),
    ):
        monkeypatch.setattr(cli, name, value)
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.gather.data_origin", lambda name: {"sha256": None}
    )
    own = write("own", "TEST: {DETECTIONS_PER_IMAGE: 7}")
    setting = Setting("paper", root=fake.setting.root, overlays=(own,))
    fake.plan("a", "b", setting=setting)
    words = ["--level", "paper", "--output", str(setting.root), "--num-gpus", "1"]
    assert main_table(["fake", *words, "--overlay", str(own)]) == 0
    printed = capsys.readouterr().out
    assert "Level paper-own, " in printed
    assert "Laid over the level: own.yaml." in printed
    written = json.loads((setting.root / "paper-own/tables/fake.json").read_text())
    assert (written["level"], written["overlays"]) == ("paper-own", ["own.yaml"])
    assert written["rows"][0]["cells"]["AP"]["ours"]["mean"] == 30.0
    page = (setting.root / "paper-own/report.html").read_text()
    assert "Laid over the level: own.yaml." in page
    assert not fake.setting.folder.exists()


# --- the real tables


KNOWN = {
    experiment.id: experiment for experiment in required_experiments(find_experiment("r50_c4"))
}


@pytest.mark.parametrize(("run", "name"), [(main_table, "2c"), (main_experiment, "r50_c4")])
def test_a_missing_overlay_is_named_by_both_commands(run, name, tmp_path, capsys):
    assert run([name, "--overlay", "nucleos.yaml", "--output", str(tmp_path / "out")]) == 2
    assert "Config file 'nucleos.yaml' does not exist." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--plan"], ["--report"], []])
def test_an_overlay_that_makes_rows_alike_is_refused(write, tmp_path, capsys, words):
    """As a file does whose base is a whole model."""
    own = write("own", '_BASE_: "mini/mask_rcnn_fpn.yaml"')
    options = ["--overlay", str(own), "--output", str(tmp_path / "out")]
    assert main_table(["2c", *words, *options]) == 2
    error = capsys.readouterr().err
    assert f"--overlay {own} sets MODEL.ROI_OP.NAME, in which " in error
    assert "'RoIPool'" in error
    assert not (tmp_path / "out").exists()


def test_keys_that_the_compared_rows_share_may_be_set(write):
    own = write("own", "MODEL: {ROI_OP: {NAME: RoIPool}, ROI_MASK_HEAD: {LOSS: softmax}}")
    experiment, other = find_experiment("r50_c4_roipool"), find_experiment("r50_c4_softmax")
    check_keys([own], [experiment], "mini")
    with pytest.raises(
        ConfigError, match=r"MODEL\.ROI_OP\.NAME, in which r50_c4_roipool and r50_c"
    ):
        check_keys([own], [experiment, other], "mini")


# --- the example


ROWS = {row.experiment for row in find_table("2c").rows.values() if row.experiment}


@pytest.mark.parametrize("example", LEVEL_OF, ids=lambda file: file.stem)
@pytest.mark.parametrize("name", sorted(ROWS | {"rpn_r50_c4"}))
def test_an_example_sets_keys_of_data_and_no_others(name, example):
    level = LEVEL_OF[example]
    experiment = find_experiment(name)
    before = experiment_config(experiment, level)
    files = [*overlays(experiment, level), example]
    after = load_config(experiment.config, overlays=files)
    different = {key for key in leaf_keys(after) if _value(before, key) != _value(after, key)}
    assert different == set(keys_in(example)) - {"VERSION"}
    names = {entry[0] for entry in after.DATASETS.CUSTOM}
    assert names == {*after.DATASETS.TRAIN, *after.DATASETS.TEST}
    # What the level's backbone was trained with.
    pixels = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT")
    assert level == "mini" or not different & set(pixels)


@pytest.mark.parametrize("example", LEVEL_OF, ids=lambda file: file.stem)
def test_an_example_plans_table_2c_on_data_of_the_working_directory(
    example, tmp_path, monkeypatch, capsys, catalog
):
    level = LEVEL_OF[example]
    monkeypatch.chdir(tmp_path)
    names = ["nucleus"] if level == "mini" else ["person", "thing"]
    classes = [{"id": 7 + n, "name": name} for n, name in enumerate(names)]
    for _, file, folder in yaml.safe_load(example.read_text())["DATASETS"]["CUSTOM"]:
        place = Path(file).parent
        place.mkdir(parents=True, exist_ok=True)
        _, _, images = write_entry(place, {**VALID, "categories": classes}, Path(file).stem)
        if not Path(folder).exists():
            Path(folder).parent.mkdir(parents=True, exist_ok=True)
            Path(folder).symlink_to(Path(images).resolve())
    assert main_table(["2c", "--plan", "--level", level, "--overlay", str(example)]) == 0
    printed = capsys.readouterr().out
    assert f"output/{level}-{example.stem}/r50_c4_roipool/seed1" in printed
    assert printed.count(f"--overlay {example}") == 2 + len(ROWS)
    # The backbone is the level's own.
    assert ("output/small/backbone_r50/seed1" in printed) is (level == "small")


@pytest.mark.parametrize(
    ("name", "table", "experiments"),
    [
        ("double_size", "2c", ["r50_c4", "r50_c4_roipool"]),
        ("greyscale", "class-agnostic", ["r50_c4", "r50_c4_agnostic"]),
    ],
)
def test_the_examples_on_generated_data_can_be_trained_with(
    name, table, experiments, tmp_path, capsys
):
    file = EXAMPLE.with_name(f"{name}.yaml")
    where = ["--overlay", str(file), "--output", str(tmp_path)]
    assert main_table([table, "--plan", *where]) == 0
    printed = capsys.readouterr().out
    for experiment in map(find_experiment, experiments):
        assert f"{tmp_path}/mini-{name}/{experiment.id}/seed1" in printed
        before = experiment_config(experiment, "mini")
        after = load_config(
            experiment.config,
            ["MODEL.LOAD_PROPOSALS", "False", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN"],
            overlays=[*overlays(experiment, "mini"), file],
        )
        check_config(after, 1, training=True)
        different = {key for key in keys_in(file) if _value(before, key) != _value(after, key)}
        assert different == set(keys_in(file)) - {"VERSION"}


def _value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
