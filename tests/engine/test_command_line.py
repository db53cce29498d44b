"""Command line, devices and processes: what is accepted, and one sentence for what is not."""

from maskrcnn_cli.parsing import UsageError
from maskrcnn_cli.training import EVAL, PROPOSALS, TRAIN
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.custom import find_unused
from maskrcnn_repro.engine.launch import Processes, run_agreed, under_torchrun
from maskrcnn_repro.engine.main import config_from, main, parse
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.errors import ConfigError, DataError, UserError

import pytest
import torch


def test_options_and_overrides_are_parsed():
    words = "--num-gpus 2 --dataset a a.json img --dataset b b.json img SOLVER.MAX_ITER 3"
    names = ["DATASETS.TRAIN", "('a',)", "DATASETS.TEST", "('b',)"]
    args = parse([*words.split(), "MODEL.DEVICE", "cpu", *names])
    assert (args.num_gpus, args.dist_url, args.resume) == (2, "auto", False)
    cfg = config_from(args)
    assert cfg.SOLVER.MAX_ITER == 3
    assert [tuple(entry) for entry in cfg.DATASETS.CUSTOM] == [
        ("a", "a.json", "img"),
        ("b", "b.json", "img"),
    ]


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ([], r"--dataset cells would not be used: DATASETS.TRAIN is \('mini_coco_train',\) and"),
        ([], r"""Write DATASETS.TRAIN "\('cells',\)", or TEST, behind the options\.$"""),
        (["DATASETS.TRAIN", "('cell',)"], r"Did you mean 'cell'\?"),
    ],
)
def test_data_that_would_not_be_used_is_refused(opts, words):
    line = ["--config-file", "mini/mask_rcnn_fpn.yaml", "--dataset", "cells", "a.json", "img"]
    with pytest.raises(DataError, match=words):
        config_from(parse([*line, *opts]))


def test_data_of_stored_proposals_alone_is_used():
    line = ["--config-file", "rpn/r50_fpn.yaml", "--dataset", "cells", "a.json", "img"]
    args = PROPOSALS.arguments([*line, "--datasets", "cells"])
    assert config_from(args).DATASETS.CUSTOM == (("cells", "a.json", "img"),)


def test_data_in_a_config_may_stand_by():
    cfg = load_config("mini/mask_rcnn_fpn.yaml")
    assert find_unused(["mini_coco_val", "cells", "mini_coco_train"], cfg) == ["cells"]
    cfg.MODEL.WEIGHTS_DATASET = "cells"
    assert find_unused(["cells"], cfg) == []


def test_an_option_behind_the_overrides_is_told():
    with pytest.raises(ConfigError, match="--resume must stand before the first KEY VALUE pair"):
        parse(["SOLVER.MAX_ITER", "3", "--resume"])


CONFIG = ["--config-file", "mini/mask_rcnn_fpn.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        [*CONFIG, "--accept-change", "SOLVER.BASE_LR", "SOLVER.BASE_LR=0.01"],
        ["DATASETS.TRAIN=('a',)"],
        [*CONFIG, "SEED=3", "MODEL.WEIGHTS", ""],
        [*CONFIG, "SEED=3", "MODEL.WEIGHTS="],
    ],
)
def test_a_key_and_its_value_may_be_one_word(words):
    assert TRAIN.arguments(words).opts


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (TRAIN, ["--accept-change", "SEED", "SEED=3", "TRACKERS"], "SEED is not one of the KEY"),
        (TRAIN, ["DATASETS.TRAINS=('a',)"], "--config-file is missing"),
        (EVAL, [*CONFIG, "--checkpoints", "MODEL.WEIGHTS=a.pth"], "so that MODEL.WEIGHTS would be"),
        (TRAIN, [*CONFIG, "SEED=3", "", "MODEL.WEIGHTS"], "The argument after 'SEED=3' is empty"),
    ],
)
def test_pairs_in_one_word_and_in_two_are_checked_alike(command, words, told):
    with pytest.raises(UsageError, match=told):
        command.arguments(words)


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

    assert run_agreed(lambda: 3) == 3
    with pytest.raises(UserError, match=r"^so$"):
        run_agreed(fail)


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
        main(["--config-file", "mini/mask_rcnn_fpn.yaml"])
