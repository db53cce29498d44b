"""Tasks of Ray on a cluster of two nodes, one of which is lost while it trains."""

import sys
from pathlib import Path

from maskrcnn_repro.cluster.job import Task
from maskrcnn_repro.cluster.ray_tasks import RayExecutor, ray_options
from maskrcnn_repro.errors import ConfigError

import pytest

from tests.cluster.test_slurm import wait_for

PROGRAM = """
import os, pathlib, signal, sys, time

def save(number, frame):
    pathlib.Path("last_checkpoint").write_text("5")
    print("saved", flush=True)
    sys.exit(143)

pathlib.Path("started").write_text(str(os.getppid()))
if "--resume" in sys.argv:
    print("resumed at", pathlib.Path("last_checkpoint").read_text(), flush=True)
else:
    signal.signal(signal.SIGTERM, save)
    pathlib.Path("metrics.json").write_text("{}")
    pathlib.Path("last_checkpoint").write_text("4")
    print("training", flush=True)
    time.sleep(120)
"""


def task(folder, name):
    folder.mkdir()
    (folder / "train.py").write_text(PROGRAM)
    # The programs write into the folder that they are started in.
    command = ["sh", "-c", f'cd {folder} && exec {sys.executable} train.py "$@"', "sh", name]
    return Task(name, command, [*command, "--resume"], folder)


def test_the_options_of_ray():
    assert ray_options("address=head:6379,gpus=8") == {"address": "head:6379", "gpus": 8.0}
    with pytest.raises(ConfigError, match=r"'adress' is no option\. Did you mean 'address'"):
        ray_options("adress=head:6379")


def test_without_ray_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"--on ray needs Ray: pip install 'maskrcnn-repro\[ray\]'\."
    ):
        RayExecutor(tmp_path, {})


@pytest.mark.slow
def test_two_nodes_share_the_tasks_and_a_lost_one_s_task_resumes_on_the_other(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
    # The head has no room for a task, so that losing a node is not losing the cluster.
    cluster = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0})
    try:
        nodes = [cluster.add_node(**small) for _ in range(2)]
        executor = RayExecutor(tmp_path / "logs", {"address": cluster.address})
        first, second = (executor.start(task(tmp_path / name, name)) for name in ("a", "b"))
        wait_for(lambda: first.tail(1) == second.tail(1) == ["training"], 240)
        by_process = {n.all_processes["raylet"][0].process.pid: n for n in nodes}
        lost = by_process[raylet_of(first)]
        assert by_process[raylet_of(second)] is not lost
        second.ask_to_stop()
        assert wait_for(second.poll, 120) == 143
        assert second.tail(9) == ["training", "saved"]
        cluster.remove_node(lost, allow_graceful=False)
        wait_for(lambda: first.poll() is not None, 240)
        assert first.poll() == 0, first.console.read_text()
        # A machine that is lost does not save: it goes on from the last checkpoint.
        assert first.tail(9) == ["training", "resumed at 4"]
    finally:
        ray.shutdown()
        cluster.shutdown()


def raylet_of(job):
    """Id of the process that a node is: the parent of the worker around the training."""
    worker = Path(job.console.with_name("started").read_text())
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_without_an_address_a_ray_of_this_machine_runs_the_task(tmp_path):
    ray = pytest.importorskip("ray")
    try:
        executor = RayExecutor(tmp_path / "logs", {})
        folder = tmp_path / "c"
        folder.mkdir()
        job = executor.start(
            Task("c", ["sh", "-c", "echo $MARK; exit 3"], [], folder, {"MARK": "x"})
        )
        assert wait_for(job.poll, 240) == 3
        assert job.tail(1) == ["x"]
    finally:
        ray.shutdown()
