"""Plans: which stages, in which order, and how far each is."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.errors import ConfigError, TableError
from maskrcnn_repro.tables.paper.experiments import all_experiments
from maskrcnn_repro.tables.runs.overlays import check_kept
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import (
    State,
    differences,
    hashes_of_file,
    read_config,
    read_record,
)
from maskrcnn_repro.tables.runs.stage import (
    MASKRCNN,
    STORE_PROPOSALS,
    Setting,
    StoreStage,
    shell_command,
)
from maskrcnn_repro.utils.provenance import config_hash

import pytest

from tests.helpers.fake_runs import Fake, results_of, write_run


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Fake(tmp_path, monkeypatch)


def finish(table_plan):
    for stage in table_plan.stages:
        stage.write_note()
        write_run(stage)


def keys(stages):
    return [stage.key for stage in stages]


def test_stages_follow_their_inputs_and_experiments_and_seeds_share_an_rpn(fake):
    table_plan = plan(["a", "b"], [1, 2], fake.setting, fake.experiments)
    assert keys(table_plan.stages) == [
        "rpn/seed1",
        "rpn/seed1/proposals",
        "a/seed1",
        "b/seed1",
        "a/seed2",
        "b/seed2",
    ]
    assert table_plan.requested == {"a/seed1", "b/seed1", "a/seed2", "b/seed2"}


def test_initial_weights_and_evaluations_have_the_seed_of_the_row_but_an_rpn_has_seed_1(fake):
    table_plan = plan(["tuned", "a-nms", "rpn"], [3], fake.setting, fake.experiments)
    assert keys(table_plan.stages) == [
        "rpn/seed1",
        "rpn/seed1/proposals",
        "a/seed3",
        "tuned/seed3",
        "a-nms/seed3",
    ]
    assert table_plan.requested == {"tuned/seed3", "a-nms/seed3", "rpn/seed1"}


def test_a_detector_gets_its_proposals_and_a_fine_tuning_its_initial_weights(fake):
    stages = {
        s.key: s for s in plan(["tuned", "a-nms"], [1], fake.setting, fake.experiments).stages
    }
    out = fake.setting.folder
    detector = stages["a/seed1"].config
    assert detector.DATASETS.PROPOSAL_FILES_TRAIN == (
        str(out / "rpn/seed1/proposals/mini_coco_train.proposals"),
    )
    assert detector.DATASETS.PROPOSAL_FILES_TEST == (
        str(out / "rpn/seed1/proposals/mini_coco_val.proposals"),
    )
    assert detector.OUTPUT_DIR == str(out / "a/seed1")
    weights = str(out / "a/seed1/model_final.pth")
    assert stages["tuned/seed1"].config.MODEL.WEIGHTS == weights
    evaluation = stages["a-nms/seed1"]
    assert evaluation.config.MODEL.WEIGHTS == weights
    assert evaluation.config.MODEL.ROI_HEADS.NMS_THRESH_TEST == 0.3
    assert "--eval-only" in evaluation.command_line()
    store = stages["rpn/seed1/proposals"].command_line()
    assert store[store.index("MODEL.WEIGHTS") + 1] == str(out / "rpn/seed1/model_final.pth")


def test_finished_stages_are_not_missing_and_commands_are_shown_with_short_paths(fake, monkeypatch):
    table_plan = plan(["a", "b"], [1], fake.setting, fake.experiments)
    for stage in table_plan.stages[:3]:
        stage.write_note()
        write_run(stage)
    later = plan(["a", "b"], [1], fake.setting, fake.experiments)
    assert keys(later.missing()) == ["b/seed1"]
    assert later.statuses["a/seed1"].seconds == 60.0
    monkeypatch.chdir(fake.setting.root.parent)
    command = shell_command(later.missing()[0].command_line())
    assert command.startswith("python -S -E child.py prepared train --config-file configs/b.yaml")
    assert command.endswith("SEED 1 OUTPUT_DIR output/paper/b/seed1")


def test_a_command_is_shown_as_it_is_typed():
    assert shell_command([*STORE_PROPOSALS, "SEED", "3"]) == "maskrcnn proposals SEED 3"
    assert shell_command([*MASKRCNN, "train", "A", "('b',)"]) == """maskrcnn train A "('b',)\""""
    assert (
        shell_command([sys.executable, str(Path("a/b.py").resolve())]) == f"python {Path('a/b.py')}"
    )


def test_an_rpn_that_nobody_needs_any_more_may_be_gone(fake):
    finish(plan(["a", "b"], [1], fake.setting, fake.experiments))
    shutil.rmtree(fake.setting.run_folder("rpn", 1))
    assert plan(["a", "b"], [1], fake.setting, fake.experiments).missing() == []
    assert keys(plan(["a", "rpn"], [1], fake.setting, fake.experiments).missing()) == ["rpn/seed1"]


def test_an_interrupted_run_is_told_from_a_finished_one(fake):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    assert stage.status().state is State.MISSING
    write_run(stage, finished=False)
    assert stage.status().state is State.INTERRUPTED
    assert "model_0000004.pth" in stage.status().note
    write_run(stage, iterations=5)  # an evaluation on the way
    assert stage.status().state is State.INTERRUPTED
    write_run(stage)
    assert stage.status().state is State.DONE
    stage.results.write_text(stage.results.read_text()[:-20])  # a full disk
    status = stage.status()
    assert status.state is State.INTERRUPTED
    assert str(stage.results) in status.note


def test_results_beside_the_config_of_another_run_do_not_count(fake):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    write_run(stage, config_sha256="0" * 64)
    assert stage.status().state is State.INTERRUPTED


def change_the_config(fake):
    path = fake.experiments["joint"].config
    with open(path, "a") as file:
        file.write("SEED: 5\nTEST: {DETECTIONS_PER_IMAGE: 7}\n")


def test_a_run_of_another_config_is_refused_with_the_key_and_nothing_is_started(fake):
    finish(plan(["joint"], [1], fake.setting, fake.experiments))
    change_the_config(fake)
    with pytest.raises(TableError) as caught:
        plan(["joint"], [1], fake.setting, fake.experiments).missing()
    text = str(caught.value)
    assert str(fake.setting.run_folder("joint", 1)) in text
    assert "TEST.DETECTIONS_PER_IMAGE is 100, planned 7" in text
    assert "--output" in text


@pytest.mark.parametrize("where", ["results", "note"])
def test_a_run_of_another_backend_is_refused(fake, where):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    stage.write_note()
    backend = {"backend": {"name": "other"}, "commit": None}
    write_run(stage, **({"code": backend} if where == "results" else {}))
    if where == "note":
        note = json.loads((stage.folder / "stage.json").read_text())
        (stage.folder / "stage.json").write_text(json.dumps({**note, "backend": "other"}))
    assert stage.status().state is State.STALE
    assert "made on the other Detectron2" in stage.status().note


def test_a_detector_on_the_proposals_of_an_earlier_rpn_is_refused(fake):
    finish(plan(["a"], [1], fake.setting, fake.experiments))
    rpn = plan(["rpn"], [1], fake.setting, fake.experiments).stages[0]
    write_run(rpn, written="2026-01-02T00:00:00+00:00")
    table_plan = plan(["a"], [1], fake.setting, fake.experiments)
    assert "another run of rpn/seed1/proposals" in table_plan.statuses["a/seed1"].note
    assert "another run of rpn/seed1 " in table_plan.statuses["rpn/seed1/proposals"].note


def test_a_run_by_hand_counts_if_its_proposals_lie_where_they_should(fake):
    stage = plan(["a"], [1], fake.setting, fake.experiments).stages[-1]
    write_run(stage)
    assert stage.status().state is State.DONE
    path = stage.folder / "config.yaml"
    path.write_text(path.read_text().replace("rpn/seed1/proposals", "elsewhere"))
    assert stage.status().state is State.STALE
    assert "PROPOSAL_FILES_TEST" in stage.status().note


def test_stores_are_done_when_all_are_whole(fake):
    store = plan(["a"], [1], fake.setting, fake.experiments).stages[1]
    assert isinstance(store, StoreStage)
    assert store.status().state is State.MISSING
    write_run(store)
    assert store.status().state is State.DONE
    shutil.rmtree(store.store("mini_coco_val"))
    assert store.status().note == "1 of 2 data sets"
    (ProposalStore(store.store("mini_coco_train")).path / "boxes.npy").unlink()
    assert store.status().state is State.STALE


def test_the_device_and_workers_do_not_matter(fake):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    write_run(stage)
    path = stage.folder / "config.yaml"
    text = (
        path.read_text()
        .replace("DEVICE: cpu", "DEVICE: cuda:9")
        .replace("WORKERS: 4", "WORKERS: 0")
    )
    assert text != path.read_text()
    path.write_text(text)
    stage.results.write_text(results_of(stage, path, {"bbox": {"AP": 1.0}}))
    assert stage.status().state is State.DONE


def test_a_key_that_is_younger_than_a_record_had_its_default(fake):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    write_run(stage)
    path = stage.folder / "config.yaml"
    text = path.read_text().replace("TRAINER: ''\n", "")
    assert text != path.read_text()
    path.write_text(text)
    stage.results.write_text(results_of(stage, path, {"bbox": {"AP": 1.0}}))
    assert stage.status().state is State.DONE
    other = plan(
        ["joint"], [1], replace(fake.setting, overrides=("TRAINER", "a:B")), fake.experiments
    )
    assert differences(other.stages[0].config, read_config(path), {"OUTPUT_DIR"}) == [
        "TRAINER is '', planned 'a:B'"
    ]


def test_the_hash_of_a_config_file_is_the_one_in_results(fake):
    stage = plan(["joint"], [1], fake.setting, fake.experiments).stages[0]
    write_run(stage)
    assert hashes_of_file(stage.folder / "config.yaml")[0] == config_hash(stage.config)
    assert read_record(stage.results).config_sha256 == config_hash(stage.config)


@pytest.mark.parametrize("key", ["SEED", "OUTPUT_DIR", "MODEL.WEIGHTS"])
def test_what_a_stage_sets_itself_cannot_be_overridden(key, tmp_path):
    pair = (key, "7")
    setting = Setting("small", overrides=pair, root=tmp_path)
    stages = plan(["r50_c4"], [1], setting, all_experiments()).stages
    with pytest.raises(ConfigError, match=rf"{key} \(command line\) would be lost: .* has its own"):
        check_kept(stages, setting)
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("SEED: 7\nVERSION: 2\n")
    with pytest.raises(ConfigError, match=r"SEED \(.*mine.yaml\) would be lost"):
        check_kept(stages, Setting("small", overlays=(overlay,)))


def test_weights_to_start_from_are_the_users_where_the_plan_has_none(tmp_path):
    setting = Setting("mini", overrides=("MODEL.WEIGHTS", "mine.pth"), root=tmp_path)
    check_kept(plan(["rpn_r50_c4"], [1], setting, all_experiments()).stages, setting)


def test_trials_have_a_folder_of_their_own_by_what_they_override():
    first = Setting("mini", ("SOLVER.MAX_ITER", "20"))
    assert first.label.startswith("mini-trial-")
    assert first.label != Setting("mini", ("SOLVER.MAX_ITER", "21")).label
    assert Setting("mini").label == "mini"


def test_a_level_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(TableError, match=r"'mimi' does not exist. Did you mean 'mini'\?.*paper"):
        Setting("mimi")
