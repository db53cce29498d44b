"""A training over two machines, which are two processes of this one that meet on the loopback."""

import json
import socket
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

pytestmark = pytest.mark.slow
SCRIPT = str(ROOT / "train_net.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run_both(commands):
    """Run the commands of both machines at once and return the statuses and what they wrote."""
    processes = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in commands
    ]
    try:
        texts = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], texts


def metrics_of(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    return [row["total_loss"] for row in map(json.loads, lines) if "total_loss" in row]


def check(data, folder, commands):
    statuses, texts = run_both(commands)
    assert statuses == [0, 0], texts
    results = json.loads((folder / "results.json").read_text())
    assert results["machine"]["processes"] == 2
    # The same two processes on one machine learn the same.
    alone = folder.with_name("alone")
    words = command_line(data, alone, "--num-gpus", "2")
    assert run_both([[SCRIPT, *words]])[0] == [0]
    assert metrics_of(folder) == pytest.approx(metrics_of(alone), rel=1e-5)


def test_torchrun_joins_two_nodes(data, tmp_path):
    place = f"127.0.0.1:{free_port()}"
    head = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    head += ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", "7"]
    command = [SCRIPT, *command_line(data, tmp_path / "run")]
    commands = [[*head, "--node-rank", str(rank), *command] for rank in (0, 1)]
    check(data, tmp_path / "run", commands)


def test_num_machines_joins_two_nodes(data, tmp_path):
    options = ["--num-machines", "2", "--dist-url", f"tcp://127.0.0.1:{free_port()}"]
    commands = [
        [SCRIPT, *command_line(data, tmp_path / "run", *options, "--machine-rank", str(rank))]
        for rank in (0, 1)
    ]
    check(data, tmp_path / "run", commands)
