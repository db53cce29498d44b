"""A training goes on where it stopped, or says what stands against it."""

import json
import resource
import shutil

from maskrcnn_repro.checkpoint.manifest import manifest_of, read_manifest
from maskrcnn_repro.engine.main import main

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.helpers.tiny_coco import command_line, write_tiny_coco

LAST = "model_0000001.pth"
OPTS = ["DATASETS.TEST", "()", "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Folder of a training of two iterations; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(command_line(data, folder, opts=OPTS)) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """The same folder as a kill before ``model_final.pth`` leaves it."""
    copy = shutil.copytree(trained, tmp_path / "run")
    for suffix in ("pth", "json"):
        (copy / f"model_final.{suffix}").unlink()
    (copy / "last_checkpoint").write_text(LAST)
    return copy


@pytest.fixture
def resume(data, folder, capsys):
    """Resume in the folder; returns the status, stderr, and the lines that were said on the way."""

    def resume(*options, opts=(), of=data):
        status = main(command_line(of, folder, "--resume", *options, opts=[*OPTS, *opts]))
        said = capsys.readouterr()
        return status, said.err, said.out

    return resume


def weights(file):
    return torch.load(file)["model"]


def same(first, second):
    ours, theirs = weights(first), weights(second)
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def change(file, edit):
    """Edit what a checkpoint holds; it has no manifest afterwards, as one from elsewhere."""
    content = torch.load(file)
    edit(content)
    torch.save(content, file)
    manifest_of(file).unlink(missing_ok=True)


# --- nothing left to do


@pytest.mark.parametrize("iterations", [pytest.param(2, marks=pytest.mark.slow), 1])
def test_a_resume_with_nothing_left_writes_the_last_model(resume, folder, trained, iterations):
    status, _, said = resume(opts=["SOLVER.MAX_ITER", str(iterations)])
    assert status == 0
    assert "2 iterations are done, so nothing is left to train" in said
    assert same(folder / "model_final.pth", trained / "model_final.pth")
    assert read_manifest(folder / "model_final.pth")["iteration"] == 1
    assert resume(opts=["SOLVER.MAX_ITER", "3"])[0] == 0
    assert torch.load(folder / "model_final.pth")["iteration"] == 2


@pytest.mark.slow
def test_a_last_model_of_fewer_iterations_is_written_anew(resume, folder, trained):
    shutil.copy(trained / "model_0000000.pth", folder / "model_final.pth")
    note = json.loads(manifest_of(trained / "model_0000000.pth").read_text())
    manifest_of(folder / "model_final.pth").write_text(json.dumps(note))
    assert resume()[0] == 0
    assert same(folder / "model_final.pth", trained / "model_final.pth")


# --- damaged files


def test_a_damaged_newest_checkpoint_costs_one_period(resume, folder, trained):
    (folder / LAST).write_bytes((trained / LAST).read_bytes()[:1000])
    status, _, said = resume()
    assert status == 0
    assert said.count(f"{LAST} is passed over") == 1
    assert same(folder / "model_final.pth", trained / "model_final.pth")
    run = read_manifest(trained / LAST)["run"]
    assert {read_manifest(file)["run"] for file in folder.glob("model_*.pth")} == {run}


@pytest.mark.slow
def test_an_evaluation_falls_back_too(data, folder, capsys):
    (folder / LAST).write_bytes(b"x")
    assert main(command_line(data, folder, "--eval-only")) == 0
    assert "The newest intact checkpoint is model_0000000.pth" in capsys.readouterr().out
    assert json.loads((folder / "inference/results.json").read_text())["iterations"] == 1


def test_no_intact_checkpoint_is_one_sentence_and_nothing_is_overwritten(resume, folder):
    for file in folder.glob("*.pth"):
        file.write_bytes(b"x")
    before = {file: file.read_bytes() for file in folder.glob("model_*")}
    status, error, _ = resume()
    assert status == 2
    assert error.count("\n") == 1
    assert "holds no checkpoint to go on from" in error
    assert before == {file: file.read_bytes() for file in folder.glob("model_*")}


@pytest.mark.slow
def test_a_broken_config_of_the_folder_does_not_matter(resume, folder):
    (folder / "config.yaml").write_bytes(b"\xff: [")
    assert resume()[0] == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["SEED"] == 7


@pytest.mark.slow
def test_a_checkpoint_without_facts_is_compared_with_the_config_of_the_folder(resume, folder):
    for file in folder.glob("*.pth"):
        change(file, lambda content: content.pop("maskrcnn_repro"))
    status, error, _ = resume(opts=["SEED", "8"])
    assert status == 2
    assert "SEED was 7 and is 8" in error
    (folder / "config.yaml").write_text("[")
    status, _, said = resume(opts=["SEED", "8"])
    assert status == 0
    assert "nothing is compared" in said


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda state: state["param_groups"][0].pop("betas"),
            "begin with a new one by --accept-change SOLVER.OPTIMIZER",
        ),
        (
            lambda state: state["param_groups"].pop(),
            "it is of another model and cannot go on; a new",
        ),
        (
            lambda state: state["state"][0].update(exp_avg=torch.zeros(7)),
            r"has exp_avg of shape (7,) for a parameter of shape",
        ),
    ],
)
def test_the_state_of_another_optimiser_is_one_sentence(resume, folder, edit, words):
    for file in folder.glob("*.pth"):
        change(file, lambda content: edit(content["trainer"]["optimizer"]))
    status, error, _ = resume(opts=["SOLVER.MAX_ITER", "3"])
    assert status == 2
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize("name", ["model_0000002.pth", "last_checkpoint"])
def test_a_folder_in_the_place_of_a_file_is_told_before_training(resume, folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    status, error, _ = resume(opts=["SOLVER.MAX_ITER", "3"])
    assert status == 2
    assert f"{name} is a folder, where the run writes a file: move it away, or" in error


def test_a_full_disk_is_one_sentence_and_the_old_files_are_intact(resume, folder):
    """The limit on the size of a file stands for the end of the disk."""
    before = {file: file.read_bytes() for file in folder.glob("model_*")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        status, error, said = resume(opts=["SOLVER.MAX_ITER", "3"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert error.count("\n") == 1
    assert "model_0000002.pth cannot be written" in error
    assert "make room, then continue with --resume" in error
    assert "Traceback" not in said
    assert before == {file: file.read_bytes() for file in folder.glob("model_*")}
    assert resume(opts=["SOLVER.MAX_ITER", "3"])[0] == 0


# --- what is compared


@pytest.mark.parametrize(
    "opts",
    [
        ["SEED", "8"],
        ["SOLVER.BASE_LR", "0.5"],
        pytest.param(["SOLVER.OPTIMIZER", "SGD"], marks=pytest.mark.slow),
        pytest.param(["SOLVER.STEPS", "(1,)"], marks=pytest.mark.slow),
        pytest.param(["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"], marks=pytest.mark.slow),
        pytest.param(["INPUT.MIN_SIZE_TRAIN", "(32,)"], marks=pytest.mark.slow),
    ],
)
def test_another_meaning_is_refused_with_the_difference(resume, folder, opts):
    before = {file: file.read_bytes() for file in folder.glob("[cm]*")}
    status, error, _ = resume(opts=[*opts, "SOLVER.MAX_ITER", "3"])
    assert status == 2
    assert error.count("\n") == 1
    assert f"{LAST} is of another training: {opts[0]} was" in error
    assert f"--accept-change {opts[0]}" in error
    assert before == {file: file.read_bytes() for file in folder.glob("[cm]*")}


@pytest.mark.parametrize(
    "opts",
    [
        ["SOLVER.MAX_ITER", "3"],
        pytest.param(["DATALOADER.NUM_WORKERS", "1"], marks=pytest.mark.slow),
        pytest.param(["SOLVER.STEPS", "(2,)", "SOLVER.MAX_ITER", "3"], marks=pytest.mark.slow),
        ["TEST.EVAL_PERIOD", "5"],
    ],
)
def test_what_leaves_the_meaning_passes_with_a_line(resume, opts):
    status, _, said = resume(opts=opts)
    assert status == 0
    assert f"Not as in {LAST}: {opts[0]} was" in said


def test_a_free_key_is_not_told(resume):
    status, _, said = resume(opts=["SOLVER.CHECKPOINT_PERIOD", "7"])
    assert status == 0
    assert "Not as in" not in said


def test_an_accepted_rate_is_used_and_recorded(resume, folder):
    opts = ["SOLVER.BASE_LR", "0.5", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "0"]
    options = [w for key in opts[::4] for w in ("--accept-change", key)]
    options += ["--accept-change", "SOLVER.WARMUP_ITERS"]
    status, _, said = resume(*options, opts=opts)
    assert status == 0
    assert "SOLVER.BASE_LR was" in said
    content = torch.load(folder / "model_final.pth")
    assert {group["lr"] for group in content["trainer"]["optimizer"]["param_groups"]} == {0.5}
    keys = ["SOLVER.BASE_LR", "SOLVER.WARMUP_ITERS"]
    assert content["maskrcnn_repro"]["accepted_changes"] == keys
    assert yaml.safe_load((folder / "config.yaml").read_text())["ACCEPTED_CHANGES"] == keys
    assert resume(opts=[*opts, "SOLVER.MAX_ITER", "4"])[0] == 0
    content = torch.load(folder / "model_final.pth")
    assert content["maskrcnn_repro"]["accepted_changes"] == keys


@pytest.mark.slow
def test_an_accepted_optimiser_begins_anew(resume, folder):
    opts = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.MAX_ITER", "3"]
    assert resume("--accept-change", "SOLVER.OPTIMIZER", opts=opts)[0] == 0
    state = torch.load(folder / "model_final.pth")["trainer"]["optimizer"]["state"]
    assert {name for entry in state.values() for name in entry} == {"momentum_buffer"}
    # Accepted once, it goes on with its state from then on.
    for suffix in ("pth", "json"):
        (folder / f"model_final.{suffix}").unlink()
    assert resume(opts=opts)[0] == 0
    kept = torch.load(folder / "model_final.pth")["trainer"]["optimizer"]["state"]
    assert kept.keys() == state.keys()
    assert all(
        torch.equal(entry["momentum_buffer"], kept[place]["momentum_buffer"])
        for place, entry in state.items()
    )


@pytest.mark.slow
def test_a_drawn_seed_is_the_stored_one(resume, folder):
    assert resume(opts=["SEED", "-1"])[0] == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["SEED"] == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--resume", "--accept-change", "SOLVER.BASE_LRR"), "Did you mean 'SOLVER.BASE_LR'"),
        (("--accept-change", "SEED"), "--accept-change goes with --resume or --eval-only"),
        (("--resume", "--accept-change"), "so that DATASETS.TRAIN is not one of the KEY VALUE"),
        (("--accept-change", "--resume"), "argument --accept-change: expected one argument"),
        (("--accept-change", "a.yaml"), "argument --accept-change: 'a.yaml' is no key; name one"),
        (("--accept-change", "a/b.pth"), "'a/b.pth' is no key; name one, such as SOLVER.BASE_LR"),
    ],
)
def test_a_wrong_key_to_accept_is_one_sentence(data, folder, capsys, options, words):
    assert main(command_line(data, folder, *options, opts=OPTS)) == 2
    assert words in capsys.readouterr().err


# --- classes and data


@pytest.fixture
def changed(data, tmp_path):
    """The data with other classes under the same name; ``edit`` changes the content of its JSON."""

    def changed(edit):
        content = json.loads(data[0].read_text())
        edit(content)
        file = tmp_path / "changed.json"
        file.write_text(json.dumps(content))
        return file, data[1]

    forget()
    yield changed
    forget()


def forget():
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "tiny" in catalog.list():
            catalog.remove("tiny")


def add_class(content):
    content["categories"].append({"id": 9, "name": "ring"})


def swap_classes(content):
    first, second = content["categories"]
    first["name"], second["name"] = second["name"], first["name"]


@pytest.mark.parametrize(
    ("edit", "opts", "words"),
    [
        (
            add_class,
            ["MODEL.ROI_HEADS.NUM_CLASSES", "3"],
            "CLASS_NAMES were 2, are 3 and have 'ring' more",
        ),
        (
            swap_classes,
            [],
            "CLASS_NAMES were 'disc', 'bar' and are, in another order, 'bar', 'disc'",
        ),
        (lambda content: content["images"][0].update(license=1), [], "TRAIN_DATA was ["),
    ],
)
def test_other_classes_or_data_are_refused(resume, changed, edit, opts, words):
    status, error, _ = resume(opts=opts, of=changed(edit))
    assert status == 2
    assert words in error


def test_evaluation_compares_the_classes(data, folder, changed, capsys):
    opts = ["DATASETS.TRAIN", "()"]
    line = command_line(changed(swap_classes), folder, "--eval-only", opts=opts)
    assert main(line) == 2
    assert "in another order, 'bar', 'disc'" in capsys.readouterr().err
    line[2:2] = ["--accept-change", "CLASS_NAMES"]
    assert main(line) == 0
    results = json.loads((folder / "inference/results.json").read_text())
    assert results["accepted_changes"] == ["CLASS_NAMES"]


# --- folders of other runs


def test_a_rerun_into_the_folder_of_an_interrupted_run_is_refused(data, tmp_path, capsys):
    entry = {"iteration": 19, "total_loss": 1.0}
    (tmp_path / "metrics.json").write_text(json.dumps(entry) + "\n")
    assert main(command_line(data, tmp_path, opts=OPTS)) == 2
    assert (
        "already holds a training (metrics.json): continue it with --resume"
        in capsys.readouterr().err
    )
    assert main(command_line(data, tmp_path, "--resume", opts=OPTS)) == 0
    kept = (tmp_path / "metrics.json").read_text().splitlines()
    assert entry not in [json.loads(line) for line in kept]
