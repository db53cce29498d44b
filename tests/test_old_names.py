"""Former names of experiments and configs answer on command lines, in `_BASE_`, in notes and folders of runs."""

from pathlib import Path

from maskrcnn_repro import old_names
from maskrcnn_repro.config import configs_folder, find_config, load_config
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.experiments import experiments, find_experiment
from maskrcnn_repro.tables.paper.numbers import find_table
from maskrcnn_repro.tables.paper.selection import select
from maskrcnn_repro.tables.report.gather import gather
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import State, read_note, write_note
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import CONFIGS, zoo_stage, zoo_stages

import pytest
import yaml

from tests.helpers.commands import experiment
from tests.helpers.fake_runs import Fake, write_run

FILE = Path(old_names.__file__).with_name("old_names.yaml")
TABLE = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_each_former_name_leads_to_what_there_is():
    names = {name.removeprefix("detectron2/") for name in TABLE["experiments"].values()}
    assert names == set(experiments())
    assert set(CONFIGS) <= names
    assert not set(TABLE["experiments"]) & set(TABLE["experiments"].values())
    for former, current in TABLE["configs"].items():
        assert not (configs_folder() / former).exists()
        assert (configs_folder() / current).is_file()


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("r50-c4-roipool", "r50_c4_roipool"),
        ("rpn-person-r50-fpn", "rpn_person_r50_fpn"),
        ("kp-x101-fpn-130k-tta", "keypoints_x101_fpn_130k_tta"),
        ("person-r50-fpn-box", "keypoints_r50_fpn_person_box"),
        ("r50_c4", "r50_c4"),
    ],
)
def test_an_experiment_is_found_by_its_former_name(former, current):
    assert find_experiment(former).id == current


def test_a_name_that_never_was_is_a_mistake():
    with pytest.raises(TableError, match="'r50-c4-pool' does not exist"):
        find_experiment("r50-c4-pool")


def test_the_command_plans_the_same_by_both_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert experiment(["r50-c4-roipool", "--plan"]) == 0
    former = capsys.readouterr().out
    assert experiment(["r50_c4_roipool", "--plan"]) == 0
    assert former == capsys.readouterr().out
    assert "output/mini/r50_c4_roipool/seed1" in former


def test_rows_and_published_weights_are_chosen_by_former_names(tmp_path):
    table = find_table("2a")
    assert select([table], ["r50-c4"]) == select([table], ["r50_c4"]) != []
    setting = Setting("paper", root=tmp_path)
    (stage,) = zoo_stages(["r50-c4"], list(table.rows.values()), setting, since="")
    assert stage.folder == tmp_path / "paper/detectron2/r50_c4/seed1"
    (tmp_path / "paper/detectron2/r50-c4/seed1").mkdir(parents=True)
    assert zoo_stage("r50_c4", setting).folder == tmp_path / "paper/detectron2/r50-c4/seed1"


@pytest.mark.parametrize("place", ["", "configs/", f"{configs_folder()}/"])
def test_a_config_is_found_where_it_was(place):
    assert find_config(f"{place}levels/mini_c4.yaml") == configs_folder() / "mini/level/c4.yaml"


@pytest.mark.parametrize("absolute", [False, True])
def test_a_base_is_found_where_it_was(tmp_path, absolute):
    base = configs_folder() / "levels/mini_c4.yaml" if absolute else "levels/mini_c4.yaml"
    (tmp_path / "own.yaml").write_text(f"_BASE_: {base}\nSOLVER: {{MAX_ITER: 3}}\n")
    cfg = load_config(tmp_path / "own.yaml")
    expected = load_config("mini/level/c4.yaml", ["SOLVER.MAX_ITER", "3"])
    assert cfg == expected


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Runs of experiments that are called rpn and a now; they were old-rpn and old-a."""
    # Whatever data lies in this machine's cache.
    module = "maskrcnn_repro.tables.report.gather"
    monkeypatch.setattr(f"{module}.data_origin", lambda name: {"sha256": None})
    names = {"experiments": {"old-rpn": "rpn", "old-a": "a"}, "configs": {}}
    monkeypatch.setattr(old_names, "_names", lambda: names)
    return Fake(tmp_path, monkeypatch)


def write_former(fake, *, finished=True):
    """Write the runs of experiment a under former names: its RPN, the stored proposals, its training."""
    folder = fake.setting.folder
    for name in ("old-rpn", "old-a"):
        (folder / name / "seed1").mkdir(parents=True)
    stages = plan(["a"], [1], fake.setting, fake.experiments).stages
    for stage in stages:
        write_run(stage, finished=finished or stage is not stages[-1])
        note = stage.note()
        note["experiment"] = f"old-{note['experiment']}"
        note["inputs"] = {f"old-{key}": value for key, value in note["inputs"].items()}
        write_note(stage.folder, note)
    return stages


def test_runs_in_folders_of_former_names_are_done_and_reported(fake):
    write_former(fake)
    replanned = plan(["a"], [1], fake.setting, fake.experiments)
    assert [status.state for status in replanned.statuses.values()] == [State.DONE] * 3
    assert not replanned.missing()
    folder = fake.setting.folder
    assert [path.name for path in sorted(folder.iterdir())] == ["old-a", "old-rpn"]
    assert read_note(folder / "old-a/seed1")["inputs"].keys() == {"rpn/seed1/proposals"}
    gathered = gather(["a"], fake.setting, fake.experiments)
    assert list(gathered.records["a"]) == [1]
    assert gathered.refused == {}


def test_an_interrupted_run_goes_on_in_its_folder(fake):
    write_former(fake, finished=False)
    again = plan(["a"], [1], fake.setting, fake.experiments)
    (stage,) = again.missing()
    assert stage.status().state is State.INTERRUPTED
    words = stage.command_line(resume=True)
    assert words[words.index("OUTPUT_DIR") + 1] == str(fake.setting.folder / "old-a/seed1")


def test_a_run_made_from_another_one_is_stale_under_a_former_name_too(fake):
    *_, stage = write_former(fake)
    rpn = fake.setting.folder / "old-rpn/seed1/results.json"
    rpn.write_text(rpn.read_text() + " ")
    status = plan(["a"], [1], fake.setting, fake.experiments).statuses[stage.key]
    assert status.state is State.STALE
    assert "another run of rpn/seed1/proposals" in status.note


def test_new_seeds_lie_beside_under_the_name_of_today_and_all_are_seen(fake):
    write_former(fake)
    assert fake.setting.run_folder("a", 2) == fake.setting.folder / "a/seed2"
    (fake.setting.folder / "a/seed2").mkdir(parents=True)
    assert fake.setting.seeds_there("a") == [1, 2]
    (fake.setting.folder / "a/seed1").mkdir()
    assert fake.setting.run_folder("a", 1) == fake.setting.folder / "a/seed1"
