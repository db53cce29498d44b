"""Lock, checkpoints, optimisers, loader, results and processes, each alone."""

import hashlib
import json
import os
import signal
import subprocess
from types import SimpleNamespace

import maskrcnn_repro
from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine import provenance
from maskrcnn_repro.engine.checkpoint import Checkpointer, fit, read_shapes
from maskrcnn_repro.engine.files import replaced, write_text
from maskrcnn_repro.engine.launch import Processes, agreed, under_torchrun
from maskrcnn_repro.engine.loader import CachedMapper, DecodedImages
from maskrcnn_repro.engine.lock import locked, refuse_used
from maskrcnn_repro.engine.main import config_from, main, parse, resolve_device
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.provenance import Progress
from maskrcnn_repro.engine.trainer import Clock
from maskrcnn_repro.errors import CheckpointError, ConfigError, OutputError, UserError

import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from tiny_coco import write_tiny_coco
from torch import nn

# --- files and lock


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replaced(path) as beside:
            beside.write_text("ne")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_held_by_one_run_and_free_afterwards(tmp_path):
    refusal = pytest.raises(OutputError, match=rf"in use by another run \(process {os.getpid()}\)")
    with locked(tmp_path / "run"), refusal:
        locked(tmp_path / "run").__enter__()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
def test_a_killed_run_frees_its_folder_though_its_workers_live_on(tmp_path):
    ready, go = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            with locked(tmp_path):
                worker = os.fork()
                if worker == 0:
                    signal.pause()
                os.write(go, worker.to_bytes(4, "little"))
                signal.pause()
        finally:
            os._exit(1)
    worker = int.from_bytes(os.read(ready, 4), "little")
    with pytest.raises(OutputError, match=f"process {holder}"):
        locked(tmp_path).__enter__()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with locked(tmp_path):
            os.kill(worker, 0)  # still alive
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        locked(tmp_path / "run").__enter__()


@pytest.mark.parametrize("name", ["last_checkpoint", "model_0000099.pth", "model_final.pth"])
def test_a_folder_with_a_checkpoint_is_refused(tmp_path, name):
    refuse_used(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(OutputError, match=f"already holds a training .{name}"):
        refuse_used(tmp_path)


# --- checkpoints


def linear(out=2):
    return nn.ModuleDict({"body": nn.Linear(3, 4), "predictor": nn.Linear(4, out)})


def test_checkpoints_are_written_whole_and_tagged(tmp_path, monkeypatch):
    checkpointer = Checkpointer(linear(), str(tmp_path))
    checkpointer.save("model_0000000", iteration=0)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0000001")
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000000.pth"]
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000000.pth")


def test_loading_gives_back_weights_and_the_rest(tmp_path):
    source, target = linear(), linear()
    Checkpointer(source, str(tmp_path)).save("a", iteration=41)
    rest = Checkpointer(target, "", complete=True).load(str(tmp_path / "a.pth"))
    assert rest == {"iteration": 41}
    assert torch.equal(target["body"].weight, source["body"].weight)


def test_other_classes_are_for_training_only(tmp_path):
    torch.save({"model": linear(5).state_dict()}, tmp_path / "a.pth")
    model = linear(2)
    Checkpointer(model, "").load(str(tmp_path / "a.pth"))
    with pytest.raises(
        CheckpointError, match=r"fit 2 of the model's 4 .*predictor.weight \(5, 4\)"
    ):
        Checkpointer(model, "", complete=True).load(str(tmp_path / "a.pth"))


def test_another_body_is_refused_also_for_training(tmp_path):
    other = nn.ModuleDict({"body": nn.Linear(7, 4), "predictor": nn.Linear(4, 2)})
    torch.save({"model": other.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"body.weight \(4, 7\) in the file, \(4, 3\) in the model"
    ):
        Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))


def test_weights_without_one_common_name_are_refused(tmp_path):
    torch.save({"model": nn.Linear(3, 4).state_dict()}, tmp_path / "a.pth")
    expected = "fit 0 of the model's 4 tensors: the model has body.weight, body.bias, predictor.weight and 1 more, the file weight, bias"
    with pytest.raises(CheckpointError, match=expected):
        Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))


def test_a_missing_weight_is_for_training_only(tmp_path):
    state = linear().state_dict()
    del state["body.bias"]
    torch.save({"model": state}, tmp_path / "a.pth")
    Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))
    with pytest.raises(
        CheckpointError, match=r"fit 3 of the model's 4 tensors; missing: body.bias"
    ):
        Checkpointer(linear(), "", complete=True).load(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("keep", [0, 10, 700])
def test_a_truncated_file_is_one_sentence(tmp_path, keep):
    torch.save(linear().state_dict(), tmp_path / "a.pth")
    path = tmp_path / "b.pth"
    path.write_bytes((tmp_path / "a.pth").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"b.pth cannot be read as a checkpoint") as info:
        read_shapes(path)
    assert "\n" not in str(info.value)


def test_names_of_a_distributed_model_are_understood(tmp_path):
    torch.save(
        {"model": {f"module.{k}": v for k, v in linear().state_dict().items()}}, tmp_path / "a.pth"
    )
    assert read_shapes(tmp_path / "a.pth")["body.weight"] == (4, 3)
    Checkpointer(linear(), "", complete=True).load(str(tmp_path / "a.pth"))


def test_fit_counts_what_is_loaded():
    keys = SimpleNamespace(missing_keys=["predictor.bias"], unexpected_keys=["x"])
    result = fit(linear(), keys, {"predictor.bias": (9,)})
    assert len(result.loaded) == 3
    assert result.reshaped == {"predictor.bias": "(9,) in the file, (2,) in the model"}


# --- optimiser


def solver(**keys):
    cfg = get_config()
    for key, value in keys.items():
        cfg.SOLVER[key] = value
    return cfg


def norm_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_weight_decay_and_bias_rate_act_on_their_groups(name):
    cfg = solver(
        OPTIMIZER=name, BASE_LR=0.1, WEIGHT_DECAY=0.5, WEIGHT_DECAY_NORM=0.0, BIAS_LR_FACTOR=2.0
    )
    net = norm_net()
    optimizer = build_optimizer(cfg, net)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    conv, norm = net
    assert found[id(conv.weight)] == (0.1, 0.5)
    assert found[id(conv.bias)] == (0.2, 0.5)
    assert found[id(norm.weight)] == (0.1, 0.0)
    assert found[id(norm.bias)] == (0.2, 0.0)


def test_adamw_makes_the_step_worked_out_by_hand():
    cfg = solver(OPTIMIZER="AdamW", BASE_LR=0.1, WEIGHT_DECAY=0.5)
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    net.weight.grad = torch.full_like(net.weight, 3.0)
    build_optimizer(cfg, net).step()
    # Decay: 2 - 0.1 · 0.5 · 2 = 1.9; the first step's bias-corrected m / sqrt(v) is the gradient's sign.
    assert net.weight.item() == pytest.approx(1.9 - 0.1, abs=1e-6)


def test_sgd_makes_the_step_worked_out_by_hand():
    cfg = solver(BASE_LR=0.1, WEIGHT_DECAY=0.5, MOMENTUM=0.0)
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    net.weight.grad = torch.full_like(net.weight, 3.0)
    build_optimizer(cfg, net).step()
    assert net.weight.item() == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_clipping_of_the_whole_model_bounds_the_common_norm(name):
    cfg = solver(OPTIMIZER=name)
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=1.0)
    net = nn.Linear(1, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    build_optimizer(cfg, net).step()
    assert net.weight.grad.item() == pytest.approx(0.6, abs=1e-5)
    assert net.bias.grad.item() == pytest.approx(0.8, abs=1e-5)


# --- loader


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    json_file, images = write_tiny_coco(tmp_path_factory.mktemp("records"))
    return load_coco_json(str(json_file), str(images))


@pytest.mark.parametrize("flip", [False, True])
def test_cached_images_make_the_same_input_as_detectron2s_mapper(records, flip):
    parts = {
        "augmentations": [T.RandomFlip(1.0 if flip else 0.0)],
        "image_format": "BGR",
        "use_instance_mask": True,
        "instance_mask_format": "bitmask",
        "use_keypoint": False,
        "recompute_boxes": False,
    }
    ours = CachedMapper(DecodedImages(records, "BGR"), **parts)(records[1])
    theirs = DatasetMapper(is_train=True, **parts)(records[1])
    assert set(ours) == set(theirs)
    assert torch.equal(ours["image"], theirs["image"])
    for field, value in theirs["instances"].get_fields().items():
        value = getattr(value, "tensor", value)
        assert torch.equal(
            getattr(ours["instances"].get(field), "tensor", ours["instances"].get(field)), value
        )


def test_images_too_large_for_memory_are_refused():
    records = [{"file_name": "a", "height": 10**7, "width": 10**7}]
    with pytest.raises(ConfigError, match=r"CACHE_IMAGES True would keep 1 images of 300000.0 GB"):
        DecodedImages(records, "BGR")


# --- results


def test_results_name_their_origin(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    DatasetCatalog.register("with_origin", list)
    MetadataCatalog.get("with_origin").json_file = str(tmp_path / "a.json")
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("with_origin",)
    cfg.DATASETS.TRAIN = ()
    try:
        provenance.write_results(
            tmp_path / "results.json",
            cfg,
            Progress(5, 1.234),
            eval_seconds=2,
            metrics={"with_origin": {"bbox": {"AP": 12.5, "APl": float("nan")}}},
        )
    finally:
        DatasetCatalog.remove("with_origin")
        MetadataCatalog.remove("with_origin")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == {"with_origin": {"bbox": {"AP": 12.5, "APl": None}}}
    assert results["datasets"]["TEST"][0]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert results["code"]["backend"]["name"] == maskrcnn_repro.BACKEND.name
    assert results["code"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (results["iterations"], results["train_seconds"]) == (5, 1.23)
    assert results["machine"]["processes"] == 1


def test_the_config_hash_follows_every_value_but_the_folder():
    cfg = get_config()
    first = provenance.config_hash(cfg)
    cfg.OUTPUT_DIR = "elsewhere"
    assert provenance.config_hash(cfg) == first
    cfg.SOLVER.BASE_LR *= 2
    assert provenance.config_hash(cfg) != first


def test_the_commit_of_a_checkout_and_of_no_checkout(tmp_path):
    assert provenance.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    clean = provenance.commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "f").write_text("2")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"


def test_progress_is_read_from_a_checkpoint_or_unknown():
    rest = {"iteration": 9, "trainer": {"hooks": {"Clock": {"seconds": 4.0}}}}
    assert Progress.of_checkpoint(rest) == Progress(10, 4.0)
    assert Progress.of_checkpoint({}) == Progress(0, None)


def test_the_clock_carries_on():
    clock = Clock()
    clock.load_state_dict({"seconds": 100.0})
    clock.before_step()
    clock.after_step()
    assert 100.0 < clock.state_dict()["seconds"] < 101.0


# --- command line and processes


def test_options_and_overrides_are_parsed():
    words = "--num-gpus 2 --dataset a a.json img --dataset b b.json img SOLVER.MAX_ITER 3"
    args = parse([*words.split(), "MODEL.DEVICE", "cpu"])
    assert (args.num_gpus, args.dist_url, args.resume) == (2, "auto", False)
    cfg = config_from(args)
    assert cfg.SOLVER.MAX_ITER == 3
    assert [tuple(entry) for entry in cfg.DATASETS.CUSTOM] == [
        ("a", "a.json", "img"),
        ("b", "b.json", "img"),
    ]


def test_an_option_behind_the_overrides_is_told():
    with pytest.raises(ConfigError, match="--resume must stand before the first KEY VALUE pair"):
        parse(["SOLVER.MAX_ITER", "3", "--resume"])


def test_the_device_is_resolved(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="PyTorch sees 0 GPUs"):
        resolve_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("processes", "words"),
    [
        (Processes("cpu", per_machine=0), "--num-gpus 0"),
        (Processes("cpu", machines=2), "--dist-url tcp://HOST:PORT"),
        (Processes("cpu", machines=2, machine_rank=2, dist_url="tcp://a:1"), "between 0 and 1"),
        (Processes("cuda", per_machine=3), "--num-gpus 3, but this machine has 2"),
        (Processes("cuda:1", per_machine=2), "MODEL.DEVICE cuda:1 is one GPU"),
    ],
)
def test_processes_that_cannot_start_are_refused(processes, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=words):
        processes.check()


def test_torchrun_is_known_by_its_variables():
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert under_torchrun(dict.fromkeys(names, "0"))
    assert not under_torchrun(dict.fromkeys(names[1:], "0"))


def test_a_step_that_fails_in_one_process_fails_in_all():
    def fail():
        raise ConfigError("so")

    assert agreed(lambda: 3) == 3
    with pytest.raises(UserError, match=r"^so$"):
        agreed(fail)


def test_a_users_error_is_one_sentence_and_status_2(capsys):
    assert main(["--config-file", "configs/nowhere.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: Config file 'configs/nowhere.yaml' does not exist.")
    assert printed.err.count("\n") == 1


def test_other_errors_are_not_hidden(monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("maskrcnn_repro.engine.main.launch", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main([])
