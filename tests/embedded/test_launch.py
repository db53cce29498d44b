"""Processes and command line of Detectron2's API."""

import json

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.engine import create_ddp_model, default_argument_parser, launch
from detectron2.utils import comm
from torch import nn


def test_launch_of_one_process_stays_in_it():
    calls = []
    launch(calls.append, 1, args=("here",))
    assert calls == ["here"]


def _worker(folder):
    ranks = comm.all_gather((comm.get_rank(), comm.get_local_rank(), comm.get_world_size()))
    model = create_ddp_model(nn.Linear(1, 1), device_ids=None)
    model(torch.full((1, 1), float(comm.get_rank()))).sum().backward()
    result = {"ranks": ranks, "grad": model.module.weight.grad.item()}
    (folder / f"{comm.get_rank()}.json").write_text(json.dumps(result))


@pytest.mark.slow
def test_launch_of_two_processes(tmp_path):
    launch(_worker, 2, dist_url="auto", args=(tmp_path,))
    for rank in (0, 1):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        # Gradients 0 and 1 are averaged.
        assert result == {"ranks": [[0, 0, 2], [1, 1, 2]], "grad": 0.5}


@pytest.mark.embedded_only
@pytest.mark.parametrize(("machines", "url"), [(1, None), (2, "auto")])
def test_launch_needs_an_address(machines, url):
    with pytest.raises(ValueError, match=r"dist_url|address"):
        launch(print, 2, machines, dist_url=url)


def test_argument_parser():
    parser = default_argument_parser()
    args = parser.parse_args(["--config-file", "a.yaml", "--resume", "SOLVER.BASE_LR", "0.1"])
    assert (args.config_file, args.resume, args.eval_only) == ("a.yaml", True, False)
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (1, 1, 0)
    assert args.opts == ["SOLVER.BASE_LR", "0.1"]
    assert args.dist_url == parser.parse_args([]).dist_url  # stable for a user
    assert 49152 <= int(args.dist_url.rpartition(":")[2]) < 65536
